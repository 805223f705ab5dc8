//! [`Disk`]: an open disk, whatever its format, and the [`Channel`] through which one queue uses it.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use image::Image;
use memory::IoBuffers;

/// How writes reach the disk (libvirt's `cache=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cache {
    /// Host page cache; durable after a flush.
    #[default]
    Writeback,
    /// Host page cache; every write is durable when it completes.
    Writethrough,
    /// No host page cache; durable after a flush.
    None,
    /// No host page cache; every write is durable when it completes.
    DirectSync,
    /// Host page cache; flushes are ignored.
    Unsafe,
}

impl Cache {
    /// Past the host's page cache (O_DIRECT).
    #[must_use]
    pub fn is_direct(self) -> bool {
        matches!(self, Self::None | Self::DirectSync)
    }

    /// Writes may complete before they are durable.
    #[must_use]
    pub fn is_writeback(self) -> bool {
        !matches!(self, Self::Writethrough | Self::DirectSync)
    }
}

/// What a device model tells its driver about the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskInfo {
    /// Bytes. A last sector that is not whole reads as zeros beyond it.
    pub size: u64,
    pub read_only: bool,
    /// The guest's logical block, bytes: 512 or a larger power of two.
    pub block_size: u32,
    /// Bytes that the host writes as a whole.
    pub physical_block_size: u32,
    pub writeback: bool,
    /// Discarded ranges are given back to the host.
    pub discard: bool,
}

/// An open disk, shared by the queues of a device.
pub trait Disk: Send + Sync {
    fn info(&self) -> DiskInfo;

    /// A channel for one queue, for up to `depth` requests at a time.
    ///
    /// Called when a driver comes up, from a thread that is confined by then: what takes system
    /// calls beyond I/O is made in advance.
    ///
    /// # Errors
    /// What the host refused.
    fn channel(&self, depth: u16) -> io::Result<Box<dyn Channel>>;

    /// The disk becomes `size` bytes large, while its channels work on: more than before, and what is
    /// new reads as zeros. The device model is told by whoever asked.
    ///
    /// # Errors
    /// What the host refused.
    fn grow(&self, _size: u64) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the disk cannot be made larger"))
    }

    /// The same bytes for readers beside the guest, who may block; none where there is no such way.
    fn image(&self) -> Option<Arc<dyn Image>> {
        None
    }

    /// All that was written is in the host's files, and durable, whatever the guest asked for: they hold
    /// what its saved state believes is on its disks. No request is in flight. What is on a server is
    /// the server's affair.
    ///
    /// # Errors
    /// What the host refused.
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Read,
    /// `durable`: not complete before the data would survive a power cut.
    Write {
        durable: bool,
    },
    /// All writes completed so far become durable.
    Flush,
    /// The range need not be kept: advice, and reads of it may return anything written before.
    Discard {
        len: u64,
    },
    /// The range reads as zeros; `unmap`: its space may be given back.
    Zero {
        len: u64,
        unmap: bool,
        durable: bool,
    },
}

/// One request, inside the disk's size.
pub struct Request {
    pub action: Action,
    /// Bytes.
    pub offset: u64,
    /// Data to read into or write from; empty for the others.
    pub buffers: IoBuffers,
}

/// A request that has ended.
pub struct Finished {
    /// What it was started with.
    pub token: u16,
    pub result: io::Result<()>,
    /// Handed back to be filled again.
    pub buffers: IoBuffers,
}

/// One queue's way to the disk. Requests may overlap and end in any order; each is carried out
/// completely or fails.
pub trait Channel: Send {
    /// Begin a request. `token` is below the channel's depth and not in use.
    fn start(&mut self, token: u16, request: Request);

    /// Hand what was started to the host: once per batch.
    fn submit(&mut self);

    /// The next request that has ended.
    fn finished(&mut self) -> Option<Finished>;

    /// Readable when [`finished`](Self::finished) has something; `None` when requests end within
    /// `start`.
    fn source(&self) -> Option<RawFd>;

    /// Block until something is finished, if anything is in flight.
    fn wait(&mut self);

    /// Requests that the host failed, and that wait until they are retried. They are not in flight.
    fn kept(&self) -> usize {
        0
    }

    /// Start all that are kept once more, in their order.
    fn retry(&mut self) {}

    /// All that are kept end with the errors that they had.
    fn give_up(&mut self) {}

    /// The device goes on after a pause, and the disk beneath may be another by now. Nothing is in
    /// flight. Comes before anybody asks for the [`source`](Self::source).
    fn renew(&mut self) {}
}
