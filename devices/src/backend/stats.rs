//! What a disk has done, and what to do when the host fails it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one disk, all queues together; readable at any time.
#[derive(Debug, Default)]
pub struct BlockStats {
    pub read_requests: AtomicU64,
    pub read_bytes: AtomicU64,
    pub write_requests: AtomicU64,
    pub write_bytes: AtomicU64,
    pub flush_requests: AtomicU64,
    /// Nanoseconds that requests of each kind took, all together.
    pub read_time: AtomicU64,
    pub write_time: AtomicU64,
    pub flush_time: AtomicU64,
    /// Discards and zeroed ranges.
    pub unmap_requests: AtomicU64,
    pub unmap_bytes: AtomicU64,
    /// Requests that made no sense: out of range, malformed, to a read-only disk.
    pub refused: AtomicU64,
}

impl BlockStats {
    pub(crate) fn count(requests: &AtomicU64, bytes: &AtomicU64, len: u64) {
        requests.fetch_add(1, Ordering::Relaxed);
        bytes.fetch_add(len, Ordering::Relaxed);
    }
}

/// What the host failed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedOperation {
    Read,
    Write,
    Flush,
    Unmap,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The guest sees an I/O error.
    Report,
    /// The guest is told that it worked.
    Ignore,
    /// The request is kept: whoever decided sees to it that the guest stops, and that it is retried
    /// when the guest goes on.
    Stop,
}

/// Decides about host errors (libvirt's `error_policy=`); called on the io thread.
pub trait ErrorPolicy: Send + Sync {
    fn decide(&self, operation: FailedOperation, error: &io::Error) -> Verdict;
}

/// Every host error reaches the guest.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReportErrors;

impl ErrorPolicy for ReportErrors {
    fn decide(&self, _operation: FailedOperation, _error: &io::Error) -> Verdict {
        Verdict::Report
    }
}
