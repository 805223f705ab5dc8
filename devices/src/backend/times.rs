//! [`Times`]: how long the requests of one user of a disk took, all of a kind together.
//!
//! ```text
//! time →   ──a────b────c────────d──▶    in flight: 2 from a to b, 3 to c, 1 to d
//!            2×(b−a) + 3×(c−b) + 1×(d−c)
//! ```
//! The clock is read when requests begin and when some have ended, once for each batch: a request counts as
//! begun with the first of its batch, and as ended with the first that is found with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::disk::Action;
use super::stats::BlockStats;

/// Reads, writes, flushes; discards have no time in libvirt.
const KINDS: usize = 3;

pub(crate) struct Times {
    /// Nanoseconds since any moment.
    clock: Box<dyn Fn() -> u64 + Send>,
    /// When it was read.
    at: u64,
    in_flight: [u64; KINDS],
    /// The clock was read for this batch.
    beginning: bool,
    ending: bool,
}

impl Default for Times {
    fn default() -> Self {
        let start = Instant::now();
        Self::by(move || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Times {
    fn by(clock: impl Fn() -> u64 + Send + 'static) -> Self {
        let clock = Box::new(clock);
        Self { clock, at: 0, in_flight: [0; KINDS], beginning: false, ending: false }
    }

    pub(crate) fn begin(&mut self, action: Action, stats: &BlockStats) {
        if !std::mem::replace(&mut self.beginning, true) {
            self.read(stats);
        }
        if let Some(count) = kind(action).and_then(|kind| self.in_flight.get_mut(kind)) {
            *count += 1;
        }
    }

    /// What has begun is on its way.
    pub(crate) fn submitted(&mut self) {
        self.beginning = false;
    }

    pub(crate) fn end(&mut self, action: Action, stats: &BlockStats) {
        if !std::mem::replace(&mut self.ending, true) {
            self.read(stats);
        }
        if let Some(count) = kind(action).and_then(|kind| self.in_flight.get_mut(kind)) {
            *count = count.saturating_sub(1);
        }
    }

    /// Nothing more has ended.
    pub(crate) fn looked(&mut self) {
        self.ending = false;
    }

    fn read(&mut self, stats: &BlockStats) {
        let now = (self.clock)();
        let since = now.saturating_sub(std::mem::replace(&mut self.at, now));
        for (count, total) in self.in_flight.iter().zip(totals(stats)) {
            if *count > 0 {
                total.fetch_add(count.saturating_mul(since), Ordering::Relaxed);
            }
        }
    }
}

fn kind(action: Action) -> Option<usize> {
    match action {
        Action::Read => Some(0),
        Action::Write { .. } => Some(1),
        Action::Flush => Some(2),
        Action::Discard { .. } | Action::Zero { .. } => None,
    }
}

fn totals(stats: &BlockStats) -> [&AtomicU64; KINDS] {
    [&stats.read_time, &stats.write_time, &stats.flush_time]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const WRITE: Action = Action::Write { durable: false };

    #[test]
    fn each_request_counts_for_as_long_as_it_is_in_flight() {
        let (now, stats) = (Arc::new(AtomicU64::new(100)), BlockStats::default());
        let clock = now.clone();
        let mut times = Times::by(move || clock.load(Ordering::Relaxed));
        let at = |time: u64| now.store(time, Ordering::Relaxed);
        let told = || totals(&stats).map(|total| total.load(Ordering::Relaxed));
        times.begin(Action::Read, &stats);
        times.begin(WRITE, &stats);
        times.submitted();
        at(110);
        times.begin(Action::Read, &stats);
        times.submitted();
        at(115);
        times.end(Action::Read, &stats);
        times.end(WRITE, &stats);
        times.looked();
        assert_eq!(told(), [10 + 2 * 5, 15, 0]);
        at(130);
        times.end(Action::Read, &stats);
        times.looked();
        assert_eq!(told(), [20 + 15, 15, 0]);
        at(1000);
        times.begin(Action::Flush, &stats);
        times.begin(Action::Discard { len: 1 }, &stats);
        times.submitted();
        at(1007);
        times.end(Action::Discard { len: 1 }, &stats);
        times.end(Action::Flush, &stats);
        assert_eq!(told(), [35, 15, 7], "what was idle counts for nothing");
    }
}
