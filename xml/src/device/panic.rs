//! `<panic>`: how the guest's kernel tells that it crashed.

use crate::device::address::DeviceAddress;
use crate::element::element;
use crate::value::names;

names! {
    pub enum PanicModel {
        Isa = "isa", Pvpanic = "pvpanic", Hyperv = "hyperv", Pseries = "pseries", S390 = "s390",
    }
}

element! {
    #[derive(Default)]
    pub struct Panic {
        attr model: Option<PanicModel>,
        leaf("alias" "name") alias: Option<String>,
        leaf("acpi" "index") acpi_index: Option<u32>,
        child address: Option<DeviceAddress>,
    }
}
