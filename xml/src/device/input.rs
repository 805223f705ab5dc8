//! `<input>`: keyboards, mice and tablets.

use crate::device::address::DeviceAddress;
use crate::device::{VirtioDriver, VirtioModel};
use crate::element::element;
use crate::value::names;

names! {
    pub enum InputType {
        Tablet = "tablet", Mouse = "mouse", Keyboard = "keyboard", Passthrough = "passthrough", Evdev = "evdev",
    }
    pub enum InputBus { Ps2 = "ps2", Usb = "usb", Virtio = "virtio", Xen = "xen" }
}

element! {
    pub struct Input {
        attr("type") kind: InputType,
        attr bus: Option<InputBus>,
        attr model: Option<VirtioModel>,
        child driver: Option<VirtioDriver>,
        leaf("alias" "name") alias: Option<String>,
        leaf("acpi" "index") acpi_index: Option<u32>,
        child address: Option<DeviceAddress>,
    }
    refuse ["source"];
}

impl Input {
    pub(crate) fn ps2(kind: InputType) -> Self {
        Self {
            kind,
            bus: Some(InputBus::Ps2),
            model: None,
            driver: None,
            alias: None,
            acpi_index: None,
            address: None,
        }
    }
}
