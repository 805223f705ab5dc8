//! Queues that the host's kernel serves: those of a vsock device (`/dev/vhost-vsock`), and with [`net`]
//! those of a network device (`/dev/vhost-net`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use memory::{GuestRam, HandedOut};
use vmm_sys_util::eventfd::EventFd;

use crate::virtio::{QueueConfig, QueueProgress};

mod log;
pub mod net;
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

/// What a device hands its data queues to, receive and transmit.
pub trait VringBackend: Send + Sync {
    /// Virtio features that it understands.
    fn features(&self) -> u64;

    /// Serve these queues, if the device is connected to something.
    fn start(&self, features: u64, queues: &[Vring]) -> io::Result<()>;

    /// Serve them no more; how far each was read. When it returns, nothing is in flight.
    fn stop(&self, queues: usize) -> io::Result<Vec<u16>>;
}

/// An open vhost device that belongs to this process and its guest's RAM.
struct Device {
    file: OwnedFd,
    ram: GuestRam,
    features: u64,
    /// Dropped after the file.
    log: log::Log,
    /// The kernel writes to RAM, and notes nothing.
    handed_out: Option<HandedOut>,
}

impl Device {
    fn new(file: OwnedFd, ram: GuestRam) -> io::Result<Self> {
        sys::set_owner(file.as_fd())?;
        sys::set_memory(file.as_fd(), &ram)?;
        let features = sys::features(file.as_fd())? & !sys::LOG_ALL;
        let handed_out = Some(ram.hand_out());
        Ok(Self { file, ram, features, log: log::Log::default(), handed_out })
    }

    /// It notes what it writes to where it says so.
    fn notes_writes(&mut self) -> io::Result<()> {
        if sys::features(self.file.as_fd())? & sys::LOG_ALL != 0 {
            self.handed_out = None;
        }
        Ok(())
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

    fn set_up(&self, features: u64, queues: &[Vring]) -> io::Result<()> {
        let mut features = features & self.features;
        if self.handed_out.is_none() && self.ram.is_logging() {
            self.log.give(self.file.as_fd(), &self.ram)?;
            features |= sys::LOG_ALL;
        }
        sys::set_features(self.file.as_fd(), features)?;
        self.log.serve(queues.iter().map(|queue| &queue.config));
        (0..).zip(queues).try_for_each(|(index, queue)| self.set_up_queue(index, queue))
    }

    fn set_up_queue(&self, index: u32, queue: &Vring) -> io::Result<()> {
        let (device, config) = (self.file.as_fd(), &queue.config);
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

    /// How far queues were read that are served no more.
    fn bases(&self, queues: usize) -> io::Result<Vec<u16>> {
        // It also takes the ring away from the kernel's worker, after what it is just doing.
        let bases = (0..queues as u32).map(|index| sys::base(self.file.as_fd(), index)).collect();
        self.log.pass_on(&self.ram);
        bases
    }
}

/// The kernel's side of a vsock device.
pub struct VhostVsock(Device);

impl VhostVsock {
    /// `device` is open and belongs to nobody yet.
    ///
    /// # Errors
    /// When the kernel refuses: `AddrInUse` if another guest has this CID.
    pub fn new(device: OwnedFd, cid: u32, ram: GuestRam) -> io::Result<Self> {
        let device = Device::new(device, ram)?;
        sys::set_cid(device.file.as_fd(), cid.into())?;
        Ok(Self(device))
    }
}

impl VringBackend for VhostVsock {
    fn features(&self) -> u64 {
        self.0.features
    }

    fn start(&self, features: u64, queues: &[Vring]) -> io::Result<()> {
        self.0.set_up(features, queues)?;
        sys::set_running(self.0.file.as_fd(), true)
    }

    fn stop(&self, queues: usize) -> io::Result<Vec<u16>> {
        sys::set_running(self.0.file.as_fd(), false)?;
        self.0.bases(queues)
    }
}
