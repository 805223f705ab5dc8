//! `<memballoon>`: takes memory back from the guest and reads its statistics.

use crate::device::VirtioDriver;
use crate::device::address::DeviceAddress;
use crate::element::element;
use crate::value::{OnOff, names};

names! {
    pub enum BalloonModel {
        Virtio = "virtio", Transitional = "virtio-transitional", NonTransitional = "virtio-non-transitional",
        Xen = "xen", None = "none",
    }
}

impl MemBalloon {
    pub fn new(model: BalloonModel) -> Self {
        Self {
            model,
            autodeflate: None,
            free_page_reporting: None,
            stats_period: None,
            driver: None,
            alias: None,
            acpi_index: None,
            address: None,
        }
    }
}

element! {
    pub struct MemBalloon {
        attr model: BalloonModel,
        attr autodeflate: Option<OnOff>,
        attr("freePageReporting") free_page_reporting: Option<OnOff>,
        /// Seconds between readings of the statistics.
        leaf("stats" "period") stats_period: Option<u32>,
        child driver: Option<VirtioDriver>,
        leaf("alias" "name") alias: Option<String>,
        leaf("acpi" "index") acpi_index: Option<u32>,
        child address: Option<DeviceAddress>,
    }
}
