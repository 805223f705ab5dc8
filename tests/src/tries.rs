//! [`Tries`]: how hard a test is to try. `MANOR_TRIES=count:seed` asks for more than an ordinary run does.

use std::fmt::Display;
use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::chance::Chance;

/// So many tries, by these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    pub count: usize,
    pub seed: u64,
}

impl Tries {
    /// What `MANOR_TRIES` asks for; else `count` tries, the same in every run.
    ///
    /// # Panics
    /// If it is no `count` or `count:seed`.
    #[must_use]
    pub fn asked_or(count: usize) -> Self {
        std::env::var("MANOR_TRIES").map_or(Self { count, seed: 1 }, |asked| {
            Self::parse(&asked).unwrap_or_else(|| panic_of(&asked))
        })
    }

    fn parse(asked: &str) -> Option<Self> {
        let (count, seed) = asked.split_once(':').unwrap_or((asked, "1"));
        Some(Self { count: count.parse().ok()?, seed: seed.parse().ok()? })
    }

    #[must_use]
    pub fn chance(&self) -> Chance {
        Chance::new(self.seed)
    }

    /// The line by which whoever asked for more knows what was done.
    pub fn report(&self, what: &str, found: impl Display) {
        #[expect(clippy::print_stdout, reason = "the figures are what a long run is for")]
        {
            println!("torture: {what}: {} tried with seed {}: {found}", self.count, self.seed);
        }
    }
}

#[expect(clippy::panic, reason = "whoever asks for a count that is none must hear of it")]
fn panic_of(asked: &str) -> Tries {
    panic!("MANOR_TRIES={asked:?} is no count:seed, such as 1000000:7");
}

/// What comes of `work`, and the processor time that it took this thread.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = processor_time();
    let result = work();
    (result, processor_time().saturating_sub(begun))
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// Bytes of memory that this process holds now.
///
/// # Panics
/// If the host has no /proc.
#[must_use]
pub fn resident_bytes() -> u64 {
    resident(&fs::read_to_string("/proc/self/status").expect("there is a /proc"))
}

/// The same of another process; 0 where it is no more.
#[must_use]
pub fn resident_bytes_of(pid: u32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/status")).map_or(0, |text| resident(&text))
}

fn resident(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map_or(0, |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_comes_with_a_seed_or_without() {
        assert_eq!(Tries::parse("1000:7"), Some(Tries { count: 1000, seed: 7 }));
        assert_eq!(Tries::parse("5"), Some(Tries { count: 5, seed: 1 }));
        assert_eq!(Tries::parse("many"), None);
    }

    #[test]
    fn seeds_make_numbers_of_their_own() {
        let numbers = |seed| {
            let mut chance = Tries { count: 1, seed }.chance();
            [(); 8].map(|()| chance.below(1000))
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        assert_ne!(numbers(0), [0; 8]);
    }
}
