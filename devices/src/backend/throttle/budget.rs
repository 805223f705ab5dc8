//! [`Budget`]: how much may be done by when. Leaky buckets, as QEMU's throttling has them
//! (docs/throttle.txt): what is done fills a bucket, which empties at the average rate; while it is
//! fuller than the burst allows, requests wait.

use std::time::{Duration, Instant};

/// Without a burst, a tenth of a second's worth may come at once.
const SLACK: f64 = 0.1;
/// No wait is longer; guests give up on disks after half a minute.
const LONGEST: Duration = Duration::from_secs(20);

/// So much each second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    /// 0: any amount.
    pub average: u64,
    /// In a burst; 0: there are none.
    pub burst: u64,
    /// How long a burst may last.
    pub burst_seconds: u64,
}

/// Bytes and requests: of all kinds, of reads, of writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub total_bytes: Rate,
    pub read_bytes: Rate,
    pub write_bytes: Rate,
    pub total_requests: Rate,
    pub read_requests: Rate,
    pub write_requests: Rate,
    /// Longer requests count as several; 0: any is one.
    pub request_size: u64,
}

impl Limits {
    #[must_use]
    pub fn is_none(&self) -> bool {
        [
            self.total_bytes,
            self.read_bytes,
            self.write_bytes,
            self.total_requests,
            self.read_requests,
            self.write_requests,
        ]
        .iter()
        .all(|rate| rate.average == 0)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    rate: Rate,
    level: f64,
    /// Of a burst: empties at the burst's rate.
    burst_level: f64,
}

#[expect(clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
impl Bucket {
    fn leak(&mut self, seconds: f64) {
        self.level = (self.level - self.rate.average as f64 * seconds).max(0.0);
        self.burst_level = (self.burst_level - self.rate.burst as f64 * seconds).max(0.0);
    }

    /// Seconds until the next request may come.
    fn wait(&self) -> f64 {
        let (average, burst) = (self.rate.average as f64, self.rate.burst as f64);
        if self.rate.average == 0 {
            return 0.0;
        }
        let lasts = self.rate.burst_seconds.max(1);
        let room = if burst > 0.0 { burst * lasts as f64 } else { average * SLACK };
        let over = (self.level - room).max(0.0) / average;
        if over > 0.0 || burst <= 0.0 || lasts == 1 {
            return over;
        }
        (self.burst_level - burst * SLACK).max(0.0) / burst
    }

    fn fill(&mut self, units: f64) {
        if self.rate.average > 0 {
            self.level += units;
            self.burst_level += units;
        }
    }
}

/// Bytes of all kinds, of reads, of writes; then requests.
#[derive(Debug)]
pub(super) struct Budget {
    buckets: [Bucket; 6],
    request_size: u64,
    looked: Instant,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Limits::default(), Instant::now())
    }
}

impl Budget {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        let mut budget = Self { buckets: Default::default(), request_size: 0, looked: now };
        budget.limit(limits, now);
        budget
    }

    /// Other limits; what was done before counts on.
    pub(super) fn limit(&mut self, limits: Limits, now: Instant) {
        self.leak(now);
        let rates = [
            limits.total_bytes,
            limits.read_bytes,
            limits.write_bytes,
            limits.total_requests,
            limits.read_requests,
            limits.write_requests,
        ];
        for (bucket, rate) in self.buckets.iter_mut().zip(rates) {
            bucket.rate = rate;
        }
        self.request_size = limits.request_size;
    }

    /// How long a request has to wait; none: it is admitted, and counted.
    pub(super) fn admit(&mut self, write: bool, bytes: u64, now: Instant) -> Option<Duration> {
        self.leak(now);
        let wait = of(write).map(|at| self.buckets[at].wait()).into_iter().fold(0.0, f64::max);
        if wait > 0.0 {
            return Some(Duration::try_from_secs_f64(wait).unwrap_or(LONGEST).min(LONGEST));
        }
        self.fill(write, bytes);
        None
    }

    /// One that does not wait.
    pub(super) fn count(&mut self, write: bool, bytes: u64, now: Instant) {
        self.leak(now);
        self.fill(write, bytes);
    }

    fn leak(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.looked).as_secs_f64();
        self.looked = self.looked.max(now);
        self.buckets.iter_mut().for_each(|bucket| bucket.leak(seconds));
    }

    #[expect(clippy::cast_precision_loss, reason = "a request is far smaller")]
    fn fill(&mut self, write: bool, bytes: u64) {
        let requests = match self.request_size {
            0 => 1.0,
            size => (bytes as f64 / size as f64).max(1.0),
        };
        let [all_bytes, own_bytes, all_requests, own_requests] = of(write);
        self.buckets[all_bytes].fill(bytes as f64);
        self.buckets[own_bytes].fill(bytes as f64);
        self.buckets[all_requests].fill(requests);
        self.buckets[own_requests].fill(requests);
    }
}

/// The buckets that a request fills.
fn of(write: bool) -> [usize; 4] {
    if write { [0, 2, 3, 5] } else { [0, 1, 3, 4] }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn rate(average: u64) -> Rate {
        Rate { average, ..Rate::default() }
    }

    /// What is admitted in so many milliseconds, if there is always more to do.
    fn done(budget: &mut Budget, start: Instant, ms: u64, write: bool, bytes: u64) -> u64 {
        let mut done = 0;
        for step in 0..ms {
            let now = start + Duration::from_millis(step);
            while budget.admit(write, bytes, now).is_none() {
                done += 1;
                assert!(done < 1_000_000, "nothing is limited");
            }
        }
        done
    }

    #[test]
    fn bytes_come_at_their_average_and_a_tenth_of_a_second_at_once() {
        let start = Instant::now();
        let limits = Limits { total_bytes: rate(10 * MIB), ..Limits::default() };
        let mut budget = Budget::new(limits, start);
        // 10 MiB each second in requests of 64 KiB: 160, and 16 at once.
        let done = done(&mut budget, start, 2_000, true, 64 << 10);
        assert!((336..=338).contains(&done), "{done}");
    }

    #[test]
    fn reads_and_writes_have_their_own_and_a_total_is_for_both() {
        let start = Instant::now();
        let limits = Limits { read_requests: rate(100), ..Limits::default() };
        let mut budget = Budget::new(limits, start);
        for _ in 0..1000 {
            assert_eq!(budget.admit(true, 512, start), None, "writes are not limited");
        }
        assert!((110..=112).contains(&done(&mut budget, start, 1_000, false, 512)));
        let limits = Limits { total_requests: rate(100), ..Limits::default() };
        let mut budget = Budget::new(limits, start);
        for _ in 0..100 {
            budget.count(true, 512, start);
        }
        let wait = budget.admit(false, 512, start).unwrap();
        assert_eq!(wait, Duration::from_millis(900));
    }

    #[test]
    fn a_burst_lasts_as_long_as_it_may_and_then_it_is_the_average() {
        let start = Instant::now();
        let burst = Rate { average: 100, burst: 1000, burst_seconds: 3 };
        let mut budget = Budget::new(Limits { total_requests: burst, ..Limits::default() }, start);
        let first = done(&mut budget, start, 1_000, false, 512);
        assert!((1_000..=1_150).contains(&first), "{first}");
        let later = start + Duration::from_secs(1);
        done(&mut budget, later, 4_000, false, 512);
        let at_last = done(&mut budget, start + Duration::from_secs(5), 1_000, false, 512);
        assert!((95..=105).contains(&at_last), "{at_last}");
    }

    #[test]
    fn a_long_request_counts_as_several() {
        let start = Instant::now();
        let limits = Limits { total_requests: rate(100), request_size: 4096, ..Limits::default() };
        let mut budget = Budget::new(limits, start);
        assert_eq!(budget.admit(false, 4096 * 60, start), None);
        assert_eq!(budget.admit(false, 512, start), Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_nothing_away() {
        let start = Instant::now() + Duration::from_secs(1);
        let mut budget = Budget::new(Limits { read_bytes: rate(1000), ..Limits::default() }, start);
        assert_eq!(budget.admit(false, 1100, start), None);
        let wait = budget.admit(false, 1, start).unwrap();
        assert_eq!(budget.admit(false, 1, start - Duration::from_millis(500)).unwrap(), wait);
        assert_eq!(budget.admit(false, 1, start + wait + Duration::from_millis(1)), None);
    }

    #[test]
    fn no_wait_is_so_long_that_the_guest_gives_its_disk_up() {
        let start = Instant::now();
        let mut budget = Budget::new(Limits { read_bytes: rate(1), ..Limits::default() }, start);
        assert_eq!(budget.admit(false, u64::MAX, start), None);
        assert_eq!(budget.admit(false, 1, start), Some(LONGEST));
    }
}
