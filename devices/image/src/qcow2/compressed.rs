//! Compressed clusters: where their bytes lie, and unpacking them.

use std::io::{self, Read as _};
use std::sync::{Arc, PoisonError};

use flate2::{Decompress, FlushDecompress, Status};

use super::image::Qcow2;
use super::lookup::damaged;
use super::spec::*;

const SECTOR: u64 = 512;

/// Where a compressed cluster lies in the file, by its L2 entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) offset: u64,
    /// At most: its end is only known by sectors.
    pub(super) len: u64,
}

impl Packed {
    pub(super) fn new(word: u64, cluster_bits: u32) -> Self {
        let shift = 62 - (cluster_bits - 8);
        let offset = word & ((1 << shift) - 1);
        let sectors = (word & !(COPIED | COMPRESSED)) >> shift;
        Self { offset, len: (sectors + 1) * SECTOR - offset % SECTOR }
    }

    /// Numbers of the clusters it touches.
    pub(super) fn clusters(self, cluster_bits: u32) -> std::ops::RangeInclusive<u64> {
        (self.offset >> cluster_bits)..=((self.offset + self.len - 1) >> cluster_bits)
    }
}

/// The cluster that was unpacked last: guests read in smaller pieces than a cluster.
pub(super) type Unpacked = Option<(u64, Arc<[u8]>)>;

impl Qcow2 {
    pub(super) fn read_compressed(&self, word: u64, skip: usize, out: &mut [u8]) -> io::Result<()> {
        let cluster = self.unpack(word)?;
        let part = cluster.get(skip..skip + out.len());
        out.copy_from_slice(part.ok_or_else(|| damaged("a compressed cluster too short"))?);
        Ok(())
    }

    fn unpack(&self, word: u64) -> io::Result<Arc<[u8]>> {
        let last = || self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, cluster)) = &*last()
            && *known == word
        {
            return Ok(cluster.clone());
        }
        let packed = Packed::new(word, self.geometry.cluster_bits);
        // Two clusters at most, by the width of the field.
        let mut bytes = vec![0; packed.len as usize];
        if self.file.read(&mut bytes, packed.offset)? == 0 {
            return Err(damaged("a compressed cluster beyond the file's end"));
        }
        let mut cluster = vec![0; self.geometry.cluster as usize];
        match self.compression {
            Compression::Zlib => inflate(&bytes, &mut cluster)?,
            Compression::Zstd => unpack_zstd(&bytes, &mut cluster)?,
        }
        let cluster: Arc<[u8]> = cluster.into();
        *last() = Some((word, cluster.clone()));
        Ok(cluster)
    }
}

/// Exactly a cluster comes out, or it is an error; what would follow is not looked at.
fn inflate(bytes: &[u8], cluster: &mut [u8]) -> io::Result<()> {
    let mut inflate = Decompress::new(false);
    let status = inflate.decompress(bytes, cluster, FlushDecompress::Finish);
    let whole = inflate.total_out() == cluster.len() as u64;
    match status {
        Ok(Status::Ok | Status::StreamEnd | Status::BufError) if whole => Ok(()),
        _ => Err(damaged("a compressed cluster that does not unpack")),
    }
}

fn unpack_zstd(bytes: &[u8], cluster: &mut [u8]) -> io::Result<()> {
    let broken = || damaged("a compressed cluster that does not unpack");
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(bytes).map_err(|_| broken())?;
    decoder.read_exact(cluster).map_err(|_| broken())
}
