//! [`Chance`]: seeded numbers, and what they make of an input.

/// A generator of Marsaglia's (xorshift64): the same numbers from the same seed.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Of zero it would make nothing but zeros.
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// As fuzz targets are replayed with.
    pub(crate) fn of_replays() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// One of `0..end`, or 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of them.
    ///
    /// # Panics
    /// If there is none.
    pub fn one_of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }

    /// One small change; what is put in may come from other inputs.
    pub fn vary(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
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
            4 if !seeds.is_empty() => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len() + 1);
                let part = &other[from..(from + 1 + self.below(32)).min(other.len())];
                drop(input.splice(at..at, part.iter().copied()));
            }
            _ => input.insert(at, self.below(256) as u8),
        }
    }
}
