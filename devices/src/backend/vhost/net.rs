//! [`VhostNet`]: packets of one queue pair, between the guest and a tap without a way through this
//! process.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;

use memory::GuestRam;

use super::{Device, Vring, VringBackend, sys};
use crate::backend::packet::PacketBackend;
use crate::virtio::features::COMMON;
use crate::virtio::net::feature::MRG_RXBUF;

/// What the device offers whoever serves its queues.
const NEEDED: u64 = COMMON | MRG_RXBUF;
/// VHOST_NET_F_VIRTIO_NET_HDR: the kernel makes up headers. Taps have them.
const MAKES_HEADERS: u64 = 1 << 27;
const QUEUES: u32 = 2;
/// More than a tap keeps.
const STALE: usize = 4096;

pub struct VhostNet {
    device: Device,
    tap: Arc<dyn PacketBackend>,
}

impl VhostNet {
    /// `device` is open and belongs to nobody yet; `tap` has headers of 12 bytes.
    ///
    /// # Errors
    /// When the kernel refuses, or is too old.
    pub fn new(device: OwnedFd, tap: Arc<dyn PacketBackend>, ram: GuestRam) -> io::Result<Self> {
        let mut device = Device::new(device, ram)?;
        device.features &= !MAKES_HEADERS;
        device.notes_writes()?;
        let missing = NEEDED & !device.features;
        if missing != 0 {
            let text = format!("the host's vhost-net lacks the virtio features {missing:#x}");
            return Err(io::Error::other(text));
        }
        Ok(Self { device, tap })
    }

    /// Let packets pass between the queues and the tap, or no longer.
    ///
    /// # Errors
    /// When the kernel does not take the tap.
    pub fn connect(&self, on: bool) -> io::Result<()> {
        let tap = if on { self.tap.fd() } else { -1 };
        (0..QUEUES).try_for_each(|index| sys::set_backend(self.device.file.as_fd(), index, tap))
    }

    /// Forget what came while the cable was pulled.
    pub fn forget_stale(&self) {
        // A header must fit; the rest is cut off.
        let mut start = [0; 64];
        for _ in 0..STALE {
            if self.tap.receive_copy(&mut start).is_err() {
                return;
            }
        }
    }
}

impl VringBackend for VhostNet {
    fn features(&self) -> u64 {
        self.device.features
    }

    fn start(&self, features: u64, queues: &[Vring]) -> io::Result<()> {
        self.device.set_up(features, queues)
    }

    fn stop(&self, queues: usize) -> io::Result<Vec<u16>> {
        self.connect(false)?;
        self.device.bases(queues)
    }
}

impl std::fmt::Debug for VhostNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VhostNet({})", self.device.file.as_raw_fd())
    }
}
