//! [`Tap`]: one queue of a tap or macvtap device, already opened by someone with the right to.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use memory::IoBuffers;

use crate::backend::packet::{Offloads, PacketBackend};

pub(crate) mod sys;
#[cfg(test)]
mod tests;

/// Bytes of the header before each packet, `num_buffers` included.
const HEADER: i32 = 12;

#[derive(Debug, thiserror::Error)]
pub enum TapError {
    #[error("the descriptor given for a network interface is not a tap device")]
    NotATap(#[source] io::Error),
    #[error("tap {name} was opened without {flag}, which is needed")]
    Flag { name: String, flag: &'static str },
    #[error("cannot set up tap {name}")]
    Setup { name: String, source: io::Error },
}

#[derive(Debug)]
pub struct Tap {
    name: String,
    fd: OwnedFd,
    multi_queue: bool,
    enabled: AtomicBool,
}

impl Tap {
    /// Take over an open queue. It must be a tap (not a tun) without packet information and with
    /// virtio headers; with more than one queue per device also `IFF_MULTI_QUEUE`.
    pub fn new(fd: OwnedFd) -> Result<Self, TapError> {
        let (name, flags) = sys::interface(fd.as_fd()).map_err(TapError::NotATap)?;
        let needed = [
            (sys::IFF_TAP, "IFF_TAP"),
            (sys::IFF_NO_PI, "IFF_NO_PI"),
            (sys::IFF_VNET_HDR, "IFF_VNET_HDR"),
        ];
        if let Some((_, flag)) = needed.into_iter().find(|(bit, _)| flags & bit == 0) {
            return Err(TapError::Flag { name, flag });
        }
        let tap = Self {
            name,
            fd,
            multi_queue: flags & sys::IFF_MULTI_QUEUE != 0,
            enabled: AtomicBool::new(flags & sys::IFF_DETACH_QUEUE == 0),
        };
        tap.set_up().map_err(|source| TapError::Setup { name: tap.name.clone(), source })?;
        Ok(tap)
    }

    fn set_up(&self) -> io::Result<()> {
        sys::set_header_size(self.fd.as_fd(), HEADER)?;
        sys::set_little_endian(self.fd.as_fd())?;
        sys::set_offload(self.fd.as_fd(), Offloads::empty().bits())?;

        Ok(rustix::io::ioctl_fionbio(&self.fd, true)?)
    }

    /// The host's name of the interface.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl PacketBackend for Tap {
    fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn receive(&self, buffers: &IoBuffers) -> io::Result<usize> {
        sys::readv(self.fd.as_fd(), buffers)
    }

    fn receive_copy(&self, packet: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.fd, packet)?)
    }

    fn send(&self, packet: &IoBuffers) -> io::Result<()> {
        sys::writev(self.fd.as_fd(), packet).map(|_| ())
    }

    fn send_copy(&self, packet: &[u8]) -> io::Result<()> {
        // All of it, or nothing: a tap takes one packet with each write.
        Ok(rustix::io::write(&self.fd, packet).map(|_| ())?)
    }

    fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        sys::set_offload(self.fd.as_fd(), offloads.bits())
    }

    fn set_enabled(&self, enabled: bool) -> io::Result<()> {
        if !self.multi_queue || self.enabled.swap(enabled, Ordering::Relaxed) == enabled {
            return Ok(());
        }
        sys::attach_queue(self.fd.as_fd(), enabled)
            .inspect_err(|_| self.enabled.store(!enabled, Ordering::Relaxed))
    }
}
