//! [`Quiet`]: keeps what a guest can cause at will from filling the log.

use std::time::{Duration, Instant};

/// Lets one message through per interval and counts the others.
#[derive(Debug)]
pub(crate) struct Quiet {
    interval: Duration,
    last: Option<Instant>,
    held_back: u64,
}

impl Quiet {
    pub(crate) const fn once_in(interval: Duration) -> Self {
        Self { interval, last: None, held_back: 0 }
    }

    /// `Some` when a message may be written, with how many were not since the last one.
    pub(crate) fn admit(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) < self.interval) {
            self.held_back = self.held_back.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}
