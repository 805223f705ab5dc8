//! [`Schedule`]: when to advertise (RFC 4861 §6.2.4, §6.2.6).

use std::time::{Duration, Instant};

/// Seconds between advertisements that nobody asked for.
const SHORTEST_INTERVAL: u32 = 180;
pub(super) const LONGEST_INTERVAL: u32 = 220;
/// The first few come sooner, so that a guest that missed one is not without for long.
const FIRST_INTERVAL: Duration = Duration::from_secs(16);
const FIRST_COUNT: u32 = 3;
/// However many guests ask, the link hears no more than one in this time: they all hear that one.
const LEAST_GAP: Duration = Duration::from_secs(3);
const LONGEST_DELAY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Schedule {
    next: Instant,
    last: Option<Instant>,
    sent: u32,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, last: None, sent: 0 }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// An advertisement went out, or could not; `spread` is a random part of one.
    pub(super) fn on_sent(&mut self, now: Instant, spread: Spread) {
        self.sent = self.sent.saturating_add(1);
        self.last = Some(now);
        let wide = Duration::from_secs((LONGEST_INTERVAL - SHORTEST_INTERVAL).into());
        let interval = Duration::from_secs(SHORTEST_INTERVAL.into()) + spread.of(wide);
        let interval = if self.sent < FIRST_COUNT { FIRST_INTERVAL } else { interval };
        self.next = now + interval;
    }

    /// A guest asks: soon, but not at the same moment as other routers of the link.
    pub(super) fn on_solicited(&mut self, now: Instant, spread: Spread) {
        let soon = now + spread.of(LONGEST_DELAY);
        let allowed = self.last.map_or(soon, |last| soon.max(last + LEAST_GAP));
        self.next = self.next.min(allowed);
    }
}

/// A part of 1024 of something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread(pub u32);

impl Spread {
    pub(super) fn random() -> Self {
        Self(u32::try_from(crate::random::below(1024)).unwrap_or(0))
    }

    fn of(self, whole: Duration) -> Duration {
        whole * self.0.min(1024) / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_come_soon_and_the_rest_now_and_then() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let mut gaps = Vec::new();
        for spread in [0, 0, 0, 512] {
            let now = schedule.next();
            schedule.on_sent(now, Spread(spread));
            gaps.push((schedule.next() - now).as_secs());
        }
        assert_eq!(gaps, [16, 16, 180, 200]);
    }

    #[test]
    fn who_asks_is_answered_soon_but_never_twice_in_three_seconds() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        (0..3).for_each(|_| schedule.on_sent(start, Spread(0)));
        let asked = start + Duration::from_secs(100);
        schedule.on_solicited(asked, Spread(512));
        assert_eq!(schedule.next(), asked + Duration::from_millis(250));
        let sent = schedule.next();
        schedule.on_sent(sent, Spread(0));
        for _ in 0..1000 {
            schedule.on_solicited(sent, Spread(0));
        }
        assert_eq!(schedule.next(), sent + LEAST_GAP);
    }
}
