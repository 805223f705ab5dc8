//! Time as devices see it; tests bring their own.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub trait Clock: Send + Sync {
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;

    /// Time since the Unix epoch, UTC.
    fn real(&self) -> Duration;
}

/// The host's clocks.
#[derive(Debug)]
pub struct HostClock {
    start: Instant,
}

impl HostClock {
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for HostClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for HostClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn real(&self) -> Duration {
        // A host clock before 1970 is a broken host; the guest then sees the epoch.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
