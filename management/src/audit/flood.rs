//! A bound on refusals: who may look only can be refused without end, and would push everything
//! else out of the log.

use std::time::Instant;

/// So many at once, and then one a second.
const BURST: u32 = 100;

pub(super) struct Flood {
    tokens: u32,
    /// When the last token was given.
    filled: Instant,
    suppressed: u64,
}

impl Flood {
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: BURST, filled: now, suppressed: 0 }
    }

    /// Whether this one is told of, and then how many before it were not.
    pub(super) fn admit(&mut self, now: Instant) -> Option<u64> {
        let seconds = now.saturating_duration_since(self.filled).as_secs();
        if seconds > 0 {
            let more = u32::try_from(seconds).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(more).min(BURST);
            self.filled = now;
        }
        if self.tokens == 0 {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.tokens -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn beyond_the_burst_one_a_second_is_told_of_with_the_number_of_the_others() {
        let begin = Instant::now();
        let mut flood = Flood::new(begin);
        for _ in 0..BURST {
            assert_eq!(flood.admit(begin), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(flood.admit(begin + Duration::from_millis(900)), None);
        }
        assert_eq!(flood.admit(begin + Duration::from_secs(1)), Some(7));
        assert_eq!(flood.admit(begin + Duration::from_secs(1)), None);
        let later = begin + Duration::from_secs(3600);
        assert_eq!(flood.admit(later), Some(1));
        assert_eq!((1..BURST).filter(|_| flood.admit(later).is_some()).count(), 99);
        assert_eq!(flood.admit(later), None);
    }
}
