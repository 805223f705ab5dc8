//! `<watchdog>`: acts when the guest stops responding.

use crate::device::address::DeviceAddress;
use crate::element::element;
use crate::value::names;

names! {
    pub enum WatchdogModel { I6300esb = "i6300esb", Ib700 = "ib700", Diag288 = "diag288", Itco = "itco" }
    pub enum WatchdogAction {
        Reset = "reset", Shutdown = "shutdown", Poweroff = "poweroff", Pause = "pause", None = "none", Dump = "dump",
        InjectNmi = "inject-nmi",
    }
}

element! {
    pub struct Watchdog {
        attr model: WatchdogModel,
        attr action: Option<WatchdogAction>,
        leaf("alias" "name") alias: Option<String>,
        leaf("acpi" "index") acpi_index: Option<u32>,
        child address: Option<DeviceAddress>,
    }
}
