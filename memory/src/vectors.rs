//! [`Vectors`]: a list of host ranges of which the front is used up bit by bit. Numbers alone; what they
//! point to is [`IoBuffers`](crate::IoBuffers)' to know.

#[derive(Debug, Default)]
pub(crate) struct Vectors {
    all: Vec<libc::iovec>,
    /// Vectors before this one are used up; none that is left is empty.
    first: usize,
    /// Bytes of it that are.
    skipped: usize,
    len: u64,
}

impl Vectors {
    /// Append `len` bytes at `base`; all together they are fewer than 2^64.
    pub(crate) fn push(&mut self, base: *mut libc::c_void, len: usize) {
        if len > 0 {
            self.all.push(libc::iovec { iov_base: base, iov_len: len });
            self.len += len as u64;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.all.clear();
        (self.first, self.skipped, self.len) = (0, 0, 0);
    }

    /// Bytes left.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn left(&self) -> &[libc::iovec] {
        &self.all[self.first..]
    }

    pub(crate) fn advance(&mut self, count: u64) {
        let mut count = count.min(self.len);
        self.len -= count;
        while count > 0 {
            let vector = &mut self.all[self.first];
            let part = count.min(vector.iov_len as u64) as usize;
            vector.iov_base = vector.iov_base.wrapping_byte_add(part);
            vector.iov_len -= part;
            self.skipped += part;
            count -= part as u64;
            if vector.iov_len == 0 {
                self.mend();
                self.first += 1;
            }
        }
    }

    /// Undo what was advanced.
    pub(crate) fn rewind(&mut self) {
        if self.first < self.all.len() {
            self.mend();
        }
        self.first = 0;
        self.len = self.all.iter().map(|vector| vector.iov_len as u64).sum();
    }

    /// Keep the first `count` of the bytes that are left.
    pub(crate) fn truncate(&mut self, count: u64) {
        let mut left = count.min(self.len);
        self.len = left;
        let mut keep = self.first;
        while left > 0 {
            let vector = &mut self.all[keep];
            let part = left.min(vector.iov_len as u64);
            vector.iov_len = part as usize;
            left -= part;
            keep += 1;
        }
        self.all.truncate(keep);
        if keep == self.first {
            // What was skipped of a vector that is gone is not to be given back to another one.
            self.skipped = 0;
        }
    }

    /// The first vector as it was pushed.
    fn mend(&mut self) {
        let vector = &mut self.all[self.first];
        let skipped = std::mem::take(&mut self.skipped);
        vector.iov_base = vector.iov_base.wrapping_byte_sub(skipped);
        vector.iov_len += skipped;
    }
}

#[cfg(test)]
mod properties {
    use scope::{Any, every};

    use super::*;

    /// Up to three ranges of up to three bytes, which lie apart.
    fn some(any: &mut Any) -> Vectors {
        let mut vectors = Vectors::default();
        for number in 0..any.up_to(3) {
            let base = std::ptr::without_provenance_mut(0x1000 * (1 + number as usize));
            vectors.push(base, any.up_to(3) as usize);
        }
        vectors
    }

    /// The addresses of all bytes that are left, in order.
    fn bytes(vectors: &Vectors) -> Vec<usize> {
        let range = |vector: &libc::iovec| {
            let base = vector.iov_base.addr();
            base..base + vector.iov_len
        };
        vectors.left().iter().flat_map(range).collect()
    }

    #[cfg_attr(kani, kani::proof, kani::unwind(12))]
    #[cfg_attr(not(kani), test)]
    fn advancing_leaves_the_end_and_its_length() {
        every(|any| {
            let mut vectors = some(any);
            let (all, count) = (bytes(&vectors), any.up_to(10));
            vectors.advance(count);
            let gone = (count as usize).min(all.len());
            assert_eq!(bytes(&vectors), all[gone..]);
            assert_eq!(vectors.len(), (all.len() - gone) as u64);
            assert!(vectors.left().iter().all(|vector| vector.iov_len > 0));
        });
    }

    #[cfg_attr(kani, kani::proof, kani::unwind(12))]
    #[cfg_attr(not(kani), test)]
    fn two_steps_lead_as_far_as_one() {
        every(|any| {
            let mut vectors = some(any);
            let (all, first, second) = (bytes(&vectors), any.up_to(5), any.up_to(5));
            vectors.advance(first);
            vectors.advance(second);
            let gone = ((first + second) as usize).min(all.len());
            assert_eq!(bytes(&vectors), all[gone..]);
        });
    }

    #[cfg_attr(kani, kani::proof, kani::unwind(12))]
    #[cfg_attr(not(kani), test)]
    fn rewinding_brings_back_all_of_it() {
        every(|any| {
            let mut vectors = some(any);
            let (all, first, second) = (bytes(&vectors), any.up_to(10), any.up_to(4));
            vectors.advance(first);
            vectors.rewind();
            assert_eq!(bytes(&vectors), all);
            vectors.advance(second);
            vectors.rewind();
            assert_eq!((bytes(&vectors), vectors.len()), (all.clone(), all.len() as u64));
        });
    }

    #[cfg_attr(kani, kani::proof, kani::unwind(12))]
    #[cfg_attr(not(kani), test)]
    fn truncating_keeps_the_beginning_of_what_is_left() {
        every(|any| {
            let mut vectors = some(any);
            let (all, skip, keep) = (bytes(&vectors), any.up_to(6), any.up_to(10));
            vectors.advance(skip);
            vectors.truncate(keep);
            let start = (skip as usize).min(all.len());
            let end = (start + keep as usize).min(all.len());
            assert_eq!(bytes(&vectors), all[start..end]);
            assert_eq!(vectors.len(), (end - start) as u64);
        });
    }

    #[cfg_attr(kani, kani::proof, kani::unwind(12))]
    #[cfg_attr(not(kani), test)]
    fn what_is_pushed_later_stays_as_it_was_pushed() {
        every(|any| {
            let mut vectors = some(any);
            let (skip, keep) = (any.up_to(6), any.up_to(4));
            vectors.advance(skip);
            vectors.truncate(keep);
            let mut expected = bytes(&vectors);
            vectors.push(std::ptr::without_provenance_mut(0x9000), 2);
            expected.extend([0x9000, 0x9001]);
            assert_eq!(bytes(&vectors), expected);
            let steps = any.up_to(6);
            vectors.advance(steps);
            vectors.rewind();
            let all = bytes(&vectors);
            assert!(all.ends_with(&expected), "{all:x?}");
            assert_eq!(vectors.len(), all.len() as u64);
        });
    }
}
