//! RAM in fewer bytes: chunk after chunk as zstd frames (RFC 8878), each by itself, so that they are
//! unpacked by as many processors as there are.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt;

use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::{Body, CHUNK, SavedError, sum};

/// How a chunk lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Of the chunk, unpacked.
    pub sum: u32,
    /// Bytes that it takes. None of zeros, and as many as it has where packing does not help.
    pub len: u32,
}

impl Packed {
    /// What a table holds of each chunk.
    pub(super) const LEN: u64 = 8;

    pub(super) fn bytes(self) -> [u8; Self::LEN as usize] {
        let mut bytes = [0; Self::LEN as usize];
        bytes[..4].copy_from_slice(&self.sum.to_le_bytes());
        bytes[4..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }
}

/// The bytes to be written of a chunk.
#[must_use]
pub fn pack(chunk: &[u8]) -> (Packed, Vec<u8>) {
    let sum = sum(chunk);
    if chunk.iter().all(|byte| *byte == 0) {
        return (Packed { sum, len: 0 }, Vec::new());
    }
    let mut bytes = compress_to_vec(chunk, CompressionLevel::Fastest);
    // Nobody has this memory but the file afterwards: what was packed is unpacked before it is trusted.
    let mut back = vec![0; chunk.len()];
    let good = bytes.len() < chunk.len() && unpack(&bytes, &mut back).is_ok() && back == chunk;
    if !good {
        bytes = chunk.to_vec();
    }
    // A chunk has at most a MiB.
    (Packed { sum, len: u32::try_from(bytes.len()).unwrap_or(u32::MAX) }, bytes)
}

/// Exactly a chunk comes out, or it is an error.
fn unpack(bytes: &[u8], chunk: &mut [u8]) -> io::Result<()> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "it does not unpack");
    let mut decoder = StreamingDecoder::new(bytes).map_err(|_| broken())?;
    decoder.read_exact(chunk).map_err(|_| broken())?;
    match decoder.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(broken()),
    }
}

/// The chunks of a packed body, in any order.
#[derive(Debug, Clone)]
pub struct Chunks {
    body: Body,
    /// Each with where it begins.
    table: Vec<(Packed, u64)>,
}

impl Chunks {
    pub(super) fn new(body: Body, table: &[Packed]) -> Result<Self, SavedError> {
        let mut at = body.ram();
        let mut placed = Vec::with_capacity(table.len());
        for packed in table {
            if u64::from(packed.len) > CHUNK {
                return Err(SavedError::damaged("a chunk of its memory is too long"));
            }
            placed.push((*packed, at));
            at += u64::from(packed.len);
        }
        if at != body.end() {
            return Err(SavedError::damaged("its memory has another length than it says"));
        }
        Ok(Self { body, table: placed })
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.table.len()
    }

    /// Where chunk `number` begins in RAM as it lies region after region, and how long it is.
    #[must_use]
    pub fn place(&self, number: usize) -> (u64, usize) {
        let start = number as u64 * CHUNK;
        (start, CHUNK.min(self.body.ram_size().saturating_sub(start)) as usize)
    }

    /// Read chunk `number` into `chunk`, which is as long as it. Whether there is anything but zeros
    /// comes back; if not, `chunk` is as it was.
    pub fn read(&self, file: &File, number: usize, chunk: &mut [u8]) -> Result<bool, SavedError> {
        let (start, len) = self.place(number);
        let damaged = |what: &str| {
            SavedError::damaged(format!("its memory at {start:#x}, {len:#x} bytes, {what}"))
        };
        let (packed, at) = self.table.get(number).ok_or_else(|| damaged("is not there"))?;
        match packed.len as usize {
            0 => return Ok(false),
            stored if stored == len => {
                file.read_exact_at(chunk, *at).map_err(SavedError::Read)?;
            }
            stored => {
                let mut bytes = vec![0; stored];
                file.read_exact_at(&mut bytes, *at).map_err(SavedError::Read)?;
                unpack(&bytes, chunk).map_err(|_| damaged("does not unpack"))?;
            }
        }
        match sum(chunk) == packed.sum {
            true => Ok(true),
            false => Err(damaged("has another checksum")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As memory is: runs of the same, text, pointers, and noise.
    fn memory() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            (any::<u8>(), 1_usize..20_000).prop_map(|(byte, len)| vec![byte; len]),
            proptest::collection::vec(any::<u8>(), 1..3000),
            ("[a-z ]{1,40}", 1_usize..200)
                .prop_map(|(text, times)| text.repeat(times).into_bytes()),
            (any::<u64>(), 1_usize..500).prop_map(|(pointer, count)| {
                (0..count as u64).flat_map(|n| (pointer ^ (n * 64)).to_le_bytes()).collect()
            }),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_packed_comes_back(chunk in memory()) {
            let (packed, bytes) = pack(&chunk);
            prop_assert_eq!(packed.len as usize, bytes.len());
            prop_assert!(bytes.len() <= chunk.len());
            if bytes.len() < chunk.len() && !bytes.is_empty() {
                let mut back = vec![0; chunk.len()];
                unpack(&bytes, &mut back).unwrap();
                prop_assert_eq!(back, chunk);
            }
        }

        /// Whatever becomes of a frame, it is an error, or another checksum.
        #[test]
        fn a_damaged_frame_is_noticed(
            chunk in memory(),
            at in any::<prop::sample::Index>(),
            bit in 0_u32..8,
            cut in any::<bool>(),
        ) {
            let (packed, mut bytes) = pack(&chunk);
            prop_assume!(!bytes.is_empty() && bytes.len() < chunk.len());
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            let mut back = vec![0; chunk.len()];
            let good = unpack(&bytes, &mut back).is_ok() && sum(&back) == packed.sum;
            prop_assert!(!good || back == chunk);
        }
    }

    #[test]
    fn zeros_take_nothing_and_noise_no_more_than_it_has() {
        assert_eq!(pack(&[0; 5000]).0.len, 0);
        let noise: Vec<u8> =
            (0..5000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        assert!(pack(&noise).0.len <= 5000);
        let (packed, bytes) = pack(&b"again and ".repeat(1000));
        assert!(packed.len < 1000 && bytes.len() == packed.len as usize);
    }
}
