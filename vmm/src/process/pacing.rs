//! [`Pacing`]: a guest that resets in a loop is slowed down, so that it can neither fill the event
//! ring nor keep the host busy building it anew.

use std::time::{Duration, Instant};

/// Resets that may follow each other at once; then one each `INTERVAL`.
const BURST: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Pacing {
    /// Resets in the current burst, and when the last one was.
    count: u32,
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Pacing {
    /// Whether a reset may happen now. If not, it is due later.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let quiet = self.last.is_none_or(|last| now.duration_since(last) >= INTERVAL * BURST);
        if quiet {
            self.count = 0;
        }
        let next = self.last.filter(|_| self.count >= BURST).map(|last| last + INTERVAL);
        match next {
            Some(next) if next > now => {
                self.due = Some(next);
                false
            }
            _ => {
                self.count = self.count.saturating_add(1);
                self.last = Some(now);
                true
            }
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a reset that had to wait is to happen now.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let due = self.due.take_if(|due| *due <= now).is_some();
        if due {
            self.last = Some(now);
        }
        due
    }

    /// The machine was reset from outside: nothing waits any more.
    pub(super) fn forget(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_loop_comes_down_to_one_in_an_interval() {
        let start = Instant::now();
        let mut pacing = Pacing::default();
        let admitted = (0..50).filter(|n| pacing.admit(start + Duration::from_millis(*n))).count();
        assert_eq!(admitted, BURST as usize);
        let due = pacing.due().unwrap();
        assert!(!pacing.take_due(due - Duration::from_millis(1)));
        assert!(pacing.take_due(due));
        assert!(!pacing.admit(due + Duration::from_millis(1)), "the burst is still used up");
    }

    #[test]
    fn an_ordinary_reboot_is_never_held_up() {
        let start = Instant::now();
        let mut pacing = Pacing::default();
        for n in 0..20 {
            assert!(pacing.admit(start + INTERVAL * BURST * n));
        }
    }
}
