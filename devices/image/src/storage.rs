//! [`Storage`]: the file that an image lies in.

use std::io;

mod file;
mod memory;
mod watermark;

pub use file::FileStorage;
pub use memory::MemoryStorage;
pub use watermark::Watermark;

/// Bytes at offsets. Requests come from several threads and carry their own position.
pub trait Storage: Send + Sync {
    /// # Errors
    /// What the host refused; so for all of these.
    fn size(&self) -> io::Result<u64>;

    /// Fill `data`. Beyond the end there are zeros; bytes before it come back as a number.
    fn read(&self, data: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Write all of `data`; the file grows as needed.
    fn write(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// The range reads as zeros; with `unmap` its space is given back where the host can.
    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()>;

    /// The range is not needed any more: advice.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Cut off, or grow with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// All writes that have ended are durable.
    fn sync(&self) -> io::Result<()>;

    /// Whether there may be data at `offset`, and for how many bytes that is so, up to `len`.
    fn data_run(&self, offset: u64, len: u64) -> io::Result<(bool, u64)>;

    /// Bytes that the host has really given to the file.
    fn allocated(&self) -> io::Result<u64>;
}
