//! A log line per second at most from one place: what a guest can trigger at will must not fill
//! the host's log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// State of one log statement.
pub struct LogLimit {
    /// Milliseconds on the process's own clock at which the next line may go out.
    next: AtomicU64,
    suppressed: AtomicU64,
}

impl LogLimit {
    #[must_use]
    pub const fn new() -> Self {
        Self { next: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// `Some(lines left out since the last one)` when a line may go out now.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(now())
    }

    fn pass_at(&self, now: u64) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        let pass = now >= next
            && self
                .next
                .compare_exchange(next, now + 1000, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if pass {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl Default for LogLimit {
    fn default() -> Self {
        Self::new()
    }
}

fn now() -> u64 {
    use std::sync::LazyLock;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// `warn!` for what a guest can cause: once a second per statement, saying how many were left out.
macro_rules! warn_limited {
    ($($message:tt)*) => {{
        static LIMIT: $crate::limit::LogLimit = $crate::limit::LogLimit::new();
        if let Some(suppressed) = LIMIT.pass() {
            tracing::warn!(suppressed, $($message)*);
        }
    }};
}
pub(crate) use warn_limited;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_passes_and_the_rest_is_counted() {
        let limit = LogLimit::new();
        assert_eq!(limit.pass_at(10), Some(0));
        assert_eq!(limit.pass_at(500), None);
        assert_eq!(limit.pass_at(1009), None);
        assert_eq!(limit.pass_at(1010), Some(2));
    }
}
