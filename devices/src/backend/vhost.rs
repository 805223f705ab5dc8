//! [`VhostVsock`]: the host kernel's side of a vsock device (`/dev/vhost-vsock`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use memory::GuestRam;
use vmm_sys_util::eventfd::EventFd;

use crate::virtio::{QueueConfig, QueueProgress};

mod sys;

/// A queue on its way into the kernel.
pub struct Vring {
    pub config: QueueConfig,
    pub progress: QueueProgress,
    /// Driver → kernel.
    pub kick: Arc<EventFd>,
    /// Kernel → driver, through us.
    pub call: Arc<EventFd>,
}

/// What a vsock device hands its two data queues to.
pub trait VsockBackend: Send + Sync {
    /// Virtio features that it understands.
    fn features(&self) -> u64;

    /// Serve these queues, receive and transmit.
    fn start(&self, features: u64, queues: &[Vring]) -> io::Result<()>;

    /// Serve them no more; how far each was read. When it returns, nothing is in flight.
    fn stop(&self, queues: usize) -> io::Result<Vec<u16>>;
}

/// An open vhost-vsock device that belongs to this process and its guest's RAM.
pub struct VhostVsock {
    device: OwnedFd,
    ram: GuestRam,
    features: u64,
}

impl VhostVsock {
    /// `device` is open and belongs to nobody yet.
    ///
    /// # Errors
    /// When the kernel refuses: `AddrInUse` if another guest has this CID.
    pub fn new(device: OwnedFd, cid: u32, ram: GuestRam) -> io::Result<Self> {
        sys::set_owner(device.as_fd())?;
        sys::set_memory(device.as_fd(), &ram)?;
        sys::set_cid(device.as_fd(), cid.into())?;
        let features = sys::features(device.as_fd())? & !sys::LOG_ALL;
        Ok(Self { device, ram, features })
    }

    /// Where the kernel finds `gpa .. gpa + len` in this process.
    fn address(&self, gpa: u64, len: u64) -> io::Result<u64> {
        let found = self.ram.regions().iter().find_map(|region| {
            let into = gpa.checked_sub(region.gpa)?;
            let inside = into.checked_add(len)? <= region.len;
            inside.then(|| region.hva + into)
        });
        found.ok_or_else(|| io::Error::other(format!("a ring at {gpa:#x} spans memory regions")))
    }

    fn set_up(&self, index: u32, queue: &Vring) -> io::Result<()> {
        let (device, config) = (self.device.as_fd(), &queue.config);
        let size = u64::from(config.size);
        sys::set_size(device, index, config.size.into())?;
        sys::set_base(device, index, queue.progress.next_available.into())?;
        sys::set_rings(
            device,
            index,
            &sys::Rings {
                descriptors: self.address(config.descriptors, 16 * size)?,
                available: self.address(config.available, 6 + 2 * size)?,
                used: self.address(config.used, 6 + 8 * size)?,
            },
        )?;
        sys::set_kick(device, index, &queue.kick)?;
        sys::set_call(device, index, &queue.call)
    }
}

impl VsockBackend for VhostVsock {
    fn features(&self) -> u64 {
        self.features
    }

    fn start(&self, features: u64, queues: &[Vring]) -> io::Result<()> {
        sys::set_features(self.device.as_fd(), features & self.features)?;
        for (index, queue) in (0..).zip(queues) {
            self.set_up(index, queue)?;
        }
        sys::set_running(self.device.as_fd(), true)
    }

    fn stop(&self, queues: usize) -> io::Result<Vec<u16>> {
        sys::set_running(self.device.as_fd(), false)?;
        // It also takes the ring away from the kernel's worker, after what it is just doing.
        (0..queues as u32).map(|index| sys::base(self.device.as_fd(), index)).collect()
    }
}
