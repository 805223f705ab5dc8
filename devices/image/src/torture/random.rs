//! [`Random`]: seeded numbers and requests.

/// Numbers that look random and are the same each time.
pub struct Random(pub u64);

impl Random {
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end.max(1)
    }

    /// A range inside `size`, mostly of sectors, often small, at times at a cluster's boundary.
    pub fn range(&mut self, size: u64) -> (u64, u64) {
        let most = [512, 4096, 65536, 300_000, size][self.below(5) as usize].min(size);
        let align = [1, 512, 4096, 65536][self.below(4) as usize];
        let offset = self.below(size) / align * align;
        let len = (self.below(most) + 1).next_multiple_of(align).min(size - offset);
        (offset, len)
    }
}
