//! [`Ring`]: the last bytes that a guest wrote, by their position in all it ever wrote.

pub(super) struct Ring {
    bytes: Box<[u8]>,
    /// Bytes ever written.
    head: u64,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity].into(), head: 0 }
    }

    /// Position after the newest byte.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Position of the oldest byte that is still there.
    pub(super) fn tail(&self) -> u64 {
        self.head.saturating_sub(self.bytes.len() as u64)
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        let capacity = self.bytes.len();
        let kept = &data[data.len().saturating_sub(capacity)..];
        self.head += (data.len() - kept.len()) as u64;
        let at = self.index(self.head);
        let (first, second) = kept.split_at(kept.len().min(capacity - at));
        self.bytes[at..at + first.len()].copy_from_slice(first);
        self.bytes[..second.len()].copy_from_slice(second);
        self.head += kept.len() as u64;
    }

    /// Copy from `position` on (not before [`tail`](Self::tail)); how many bytes comes back.
    pub(super) fn read(&self, position: u64, data: &mut [u8]) -> usize {
        let available = self.head.saturating_sub(position.max(self.tail()));
        let count = data.len().min(usize::try_from(available).unwrap_or(usize::MAX));
        let at = self.index(position.max(self.tail()));
        let first = count.min(self.bytes.len() - at);
        data[..first].copy_from_slice(&self.bytes[at..at + first]);
        data[first..count].copy_from_slice(&self.bytes[..count - first]);
        count
    }

    fn index(&self, position: u64) -> usize {
        (position % self.bytes.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ring: &Ring) -> Vec<u8> {
        let mut data = vec![0; 100];
        let count = ring.read(ring.tail(), &mut data);
        data.truncate(count);
        data
    }

    #[test]
    fn the_newest_bytes_stay() {
        let mut ring = Ring::new(8);
        for chunk in [&b"abc"[..], b"defgh", b"ij", b"", b"0123456789ABCDEF", b"xyz"] {
            ring.push(chunk);
        }
        assert_eq!(all(&ring), b"BCDEFxyz");
        assert_eq!((ring.tail(), ring.head()), (21, 29));
    }

    #[test]
    fn a_reader_that_fell_behind_goes_on_at_the_oldest_byte() {
        let mut ring = Ring::new(4);
        ring.push(b"abcdef");
        let mut data = [0; 2];
        assert_eq!(ring.read(0, &mut data), 2);
        assert_eq!(&data, b"cd");
        assert_eq!(ring.read(6, &mut data), 0);
    }
}
