//! [`Image`]: an open image as a disk, whatever its format and whatever lies beneath it.

use std::io;

use crate::qcow2::Qcow2;

/// A disk that one can read and perhaps write. Ranges lie inside its size; requests may come from
/// several threads, and such that overlap have no order.
pub trait Image: Send + Sync {
    /// Bytes, as a guest sees them.
    fn size(&self) -> u64;

    fn read_only(&self) -> bool;

    /// # Errors
    /// What the host refused, or `InvalidData` when the image contradicts itself.
    fn read(&self, data: &mut [u8], offset: u64) -> io::Result<()>;

    /// # Errors
    /// As `read`; `ReadOnlyFilesystem` when the image is not open for writing.
    fn write(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// The range reads as zeros; with `unmap` its space may be given back.
    ///
    /// # Errors
    /// As `write`.
    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()>;

    /// The range need not be kept: advice, as far as the format can take it.
    ///
    /// # Errors
    /// As `write`.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Everything written so far becomes durable.
    ///
    /// # Errors
    /// What the host refused.
    fn flush(&self) -> io::Result<()>;

    /// The disk becomes `size` bytes large, which is no less than before; what is new reads as zeros.
    ///
    /// # Errors
    /// As `write`; `Unsupported` where the format cannot.
    fn grow(&self, _size: u64) -> io::Result<()> {
        let text = "an image of this format cannot be made larger while it is in use";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }

    /// The image as what can have snapshots and dirty bitmaps inside, where it is such a one.
    fn as_qcow2(&self) -> Option<&Qcow2> {
        None
    }

    /// What is at `offset`: the first run of at most `len` bytes that are all alike.
    ///
    /// # Errors
    /// As `read`.
    fn map(&self, offset: u64, len: u64) -> io::Result<Extent>;
}

/// A run of bytes that are all alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// At least one byte, unless it was asked for none.
    pub len: u64,
    pub kind: ExtentKind,
    /// How many images below the topmost one it lies.
    pub depth: u32,
    /// Its place in the file of that image, if its bytes lie there as they are.
    pub offset: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    Data,
    Compressed,
    /// Reads as zeros, and says so.
    Zero,
    /// Reads as zeros, because no image of the chain has anything there.
    Hole,
}

impl Extent {
    #[must_use]
    pub fn is_zero(&self) -> bool {
        matches!(self.kind, ExtentKind::Zero | ExtentKind::Hole)
    }

    pub(crate) fn hole(len: u64) -> Self {
        Self { len, kind: ExtentKind::Hole, depth: 0, offset: None }
    }
}

pub(crate) fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the image is open for reading only")
}

/// A range inside `size`; what callers promise, asked again where it decides over memory or file.
pub(crate) fn check_range(offset: u64, len: u64, size: u64) -> io::Result<()> {
    if offset.checked_add(len).is_some_and(|end| end <= size) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "a request beyond the end of the image"))
}
