//! `<video>`: the guest's graphics card.

use std::path::PathBuf;

use crate::device::address::DeviceAddress;
use crate::element::element;
use crate::value::{OnOff, YesNo, names};

names! {
    pub enum VideoModelType {
        Vga = "vga", Cirrus = "cirrus", Virtio = "virtio", Bochs = "bochs", Ramfb = "ramfb", Qxl = "qxl",
        VmVga = "vmvga", Xen = "xen", Vbox = "vbox", Gop = "gop", Parallels = "parallels", None = "none",
    }
    pub enum VgaConf { Io = "io", On = "on", Off = "off" }
    pub enum VideoBackend { Qemu = "qemu", VhostUser = "vhostuser" }
}

element! {
    #[derive(Default)]
    pub struct Video {
        child driver: Option<VideoDriver>,
        child model: Option<VideoModel>,
        leaf("alias" "name") alias: Option<String>,
        leaf("acpi" "index") acpi_index: Option<u32>,
        child address: Option<DeviceAddress>,
    }
}

element! {
    #[derive(Default)]
    pub struct VideoDriver {
        attr name: Option<VideoBackend>,
        attr("vgaconf") vga_conf: Option<VgaConf>,
        attr iommu: Option<OnOff>,
        attr ats: Option<OnOff>,
        attr packed: Option<OnOff>,
        attr("page_per_vq") page_per_vq: Option<OnOff>,
    }
}

element! {
    /// Sizes in KiB.
    pub struct VideoModel {
        attr("type") kind: VideoModelType,
        attr ram: Option<u32>,
        attr vram: Option<u32>,
        attr vram64: Option<u32>,
        attr vgamem: Option<u32>,
        attr heads: Option<u32>,
        attr primary: Option<YesNo>,
        attr blob: Option<OnOff>,
        child acceleration: Option<Acceleration>,
        child resolution: Option<Resolution>,
    }
}

impl VideoModel {
    pub(crate) fn new(kind: VideoModelType) -> Self {
        Self {
            kind,
            ram: None,
            vram: None,
            vram64: None,
            vgamem: None,
            heads: None,
            primary: None,
            blob: None,
            acceleration: None,
            resolution: None,
        }
    }
}

element! {
    #[derive(Default)]
    pub struct Acceleration {
        attr accel2d: Option<YesNo>,
        attr accel3d: Option<YesNo>,
        attr rendernode: Option<PathBuf>,
    }
}

element! {
    #[derive(Copy)]
    pub struct Resolution {
        attr x: u32,
        attr y: u32,
    }
}
