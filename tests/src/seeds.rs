//! The inputs that fuzz targets begin with (`fuzz/seeds`), and what chance makes of them: the same
//! in every run, on the stable toolchain.

use std::fs;

use crate::paths;

/// Each seed of `target`, and `rounds` variations of each.
///
/// # Panics
/// If there are no seeds, and as `feed` does: the input is printed then.
pub fn replay(target: &str, rounds: usize, feed: impl Fn(&[u8])) {
    let dir = paths::workspace().join("fuzz/seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(&dir)
        .expect("every target has seeds")
        .map(|entry| entry.expect("a directory can be listed").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds in {}", dir.display());
    let seeds: Vec<Vec<u8>> =
        files.iter().map(|path| fs::read(path).expect("seeds can be read")).collect();
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for seed in &seeds {
        feed_one(seed, &feed);
        for _ in 0..rounds {
            let mut input = seed.clone();
            for _ in 0..=chance.below(4) {
                chance.vary(&mut input, &seeds);
            }
            feed_one(&input, &feed);
        }
    }
}

/// Says what the input was when it fails.
fn feed_one(input: &[u8], feed: &impl Fn(&[u8])) {
    #[expect(clippy::print_stderr, reason = "whoever reads of a failure wants the input")]
    fn tell(input: &[u8]) {
        eprintln!("the input: \"{}\"", input.escape_ascii());
    }
    struct Told<'a>(&'a [u8]);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                tell(self.0);
            }
        }
    }
    let _told = Told(input);
    feed(input);
}

/// A generator of Marsaglia's (xorshift64).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The numbers of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut chance = Self(seed ^ 0x9e37_79b9_7f4a_7c15);
        // Seeds that are alike part after a few steps.
        for _ in 0..16 {
            chance.below(2);
        }
        chance
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    /// One small change.
    fn vary(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let end = (at + 1 + self.below(16)).min(input.len());
        match self.below(6) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => {
                input[at] = [0, 1, 0x7f, 0x80, 0xff, self.below(256) as u8][self.below(6)];
            }
            2 => drop(input.drain(at..end)),
            3 => {
                let again = input[at..end].to_vec();
                let to = self.below(input.len() + 1);
                drop(input.splice(to..to, again));
            }
            4 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len() + 1);
                let part = &other[from..(from + 1 + self.below(32)).min(other.len())];
                drop(input.splice(at..at, part.iter().copied()));
            }
            _ => input.insert(at, self.below(256) as u8),
        }
    }
}
