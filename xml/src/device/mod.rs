//! `<devices>`: what is plugged into the guest.

pub mod address;
pub mod chardev;
pub mod controller;
pub mod disk;
mod fragment;
pub mod graphics;
pub mod input;
pub mod interface;
pub mod memballoon;
pub mod panic;
pub mod rng;
pub mod video;
pub mod vsock;
pub mod watchdog;

use std::path::PathBuf;

use crate::element::element;
use crate::value::{OnOff, names};
use crate::verbatim::Verbatim;

pub use address::{DeviceAddress, PciAddress};
pub use chardev::{Channel, Console, Serial};
pub use controller::Controller;
pub use disk::Disk;
pub use fragment::Device;
pub use graphics::Graphics;
pub use input::Input;
pub use interface::Interface;
pub use memballoon::MemBalloon;
pub use panic::Panic;
pub use rng::Rng;
pub use video::Video;
pub use vsock::Vsock;
pub use watchdog::Watchdog;

element! {
    /// All devices, in the order in which libvirt prints them.
    #[derive(Default)]
    pub struct Devices {
        child emulator: Option<PathBuf>,
        child("disk") disks: Vec<Disk>,
        child("controller") controllers: Vec<Controller>,
        child("interface") interfaces: Vec<Interface>,
        child("smartcard") smartcards: Vec<Verbatim>,
        child("serial") serials: Vec<Serial>,
        child("parallel") parallels: Vec<Serial>,
        child("console") consoles: Vec<Console>,
        child("channel") channels: Vec<Channel>,
        child("input") inputs: Vec<Input>,
        child graphics: Vec<Graphics>,
        child("sound") sounds: Vec<Verbatim>,
        child("audio") audios: Vec<Verbatim>,
        child("video") videos: Vec<Video>,
        child("redirdev") redirected: Vec<Verbatim>,
        child("redirfilter") redirection_filter: Option<Verbatim>,
        child("hub") hubs: Vec<Verbatim>,
        child("watchdog") watchdogs: Vec<Watchdog>,
        child("memballoon") mem_balloon: Option<MemBalloon>,
        child("rng") rngs: Vec<Rng>,
        child("panic") panics: Vec<Panic>,
        child vsock: Option<Vsock>,
    }
    refuse ["lease", "filesystem", "tpm", "hostdev", "nvram", "shmem", "memory", "iommu", "crypto", "pstore"];
}

names! {
    /// Whether a virtio device also speaks the protocol from before virtio 1.0.
    pub enum VirtioModel {
        Virtio = "virtio", Transitional = "virtio-transitional", NonTransitional = "virtio-non-transitional",
    }
}

element! {
    /// `<driver>` of the small virtio devices.
    #[derive(Default)]
    pub struct VirtioDriver {
        attr iommu: Option<OnOff>,
        attr ats: Option<OnOff>,
        attr packed: Option<OnOff>,
        attr("page_per_vq") page_per_vq: Option<OnOff>,
    }
}
