//! The inputs that fuzz targets begin with (`fuzz/seeds`), and what chance makes of them: the same
//! in every run, on the stable toolchain.

use std::fs;

use crate::chance::Chance;
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
    let mut chance = Chance::of_replays();
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
