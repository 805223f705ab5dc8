//! Bitmaps on their way into the file, and the mark that they are in use.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::entry::{Directory, data_offset, entry_bytes, flag, read_entries};
use super::{DirtyBitmap, damaged};
use crate::bytes::{be32, be64, put};
use crate::error::ImageError;
use crate::qcow2::header::Header;
use crate::qcow2::image::Qcow2;
use crate::qcow2::refcount::Refcounts;
use crate::qcow2::spec::*;
use crate::storage::Storage;

impl Qcow2 {
    /// Before the first write: what is in the file is not true any more until it is stored again.
    pub(in crate::qcow2) fn before_write(&self) -> io::Result<()> {
        if !self.bitmaps_hold.load(Ordering::Acquire) {
            return Ok(());
        }
        let tables = self.tables();
        if !self.bitmaps_hold.load(Ordering::Acquire) {
            return Ok(());
        }
        for entry in read_entries(&*self.file, &tables.header)? {
            let flags = entry.flags | flag::IN_USE;
            self.file.write(&flags.to_be_bytes(), entry.at + 12)?;
        }
        self.file.sync()?;
        self.bitmaps_hold.store(false, Ordering::Release);
        Ok(())
    }

    /// Put `bitmaps` into the file instead of what is there, durably. They are true until the next
    /// write.
    ///
    /// # Errors
    /// When the image is only read or of version 2, the bitmaps make no sense, or the host refuses;
    /// then what was there is there.
    pub fn store_bitmaps(&self, bitmaps: &[DirtyBitmap]) -> Result<(), ImageError> {
        if self.read_only {
            return Err(ImageError::NotWritable { reason: "it is open for reading only".into() });
        }
        if self.geometry.version < 3 {
            let text = "an image of version 2 (compat=0.10) has no bitmaps; use qemu-img amend -o \
                        compat=1.1";
            return Err(ImageError::Invalid(text.into()));
        }
        self.check_all(bitmaps)?;
        let act = ImageError::io("cannot store the image's dirty bitmaps");
        crate::view::Image::flush(self).and_then(|()| self.exchange(bitmaps)).map_err(act)
    }

    fn check_all(&self, bitmaps: &[DirtyBitmap]) -> Result<(), ImageError> {
        if bitmaps.len() > MOST_BITMAPS as usize {
            return Err(ImageError::Invalid(format!("{} bitmaps are too many", bitmaps.len())));
        }
        let size = self.size.load(Ordering::Acquire);
        for (at, bitmap) in bitmaps.iter().enumerate() {
            bitmap.check()?;
            let name = &bitmap.info.name;
            if bitmaps.iter().take(at).any(|other| other.info.name == *name) {
                return Err(ImageError::Invalid(format!("there are two bitmaps called {name:?}")));
            }
            let words = DirtyBitmap::words_for(size, bitmap.info.granularity);
            if !bitmap.info.inconsistent && bitmap.words.len() != words {
                return Err(ImageError::Invalid(format!("bitmap {name:?} is of another size")));
            }
        }
        Ok(())
    }

    fn exchange(&self, bitmaps: &[DirtyBitmap]) -> io::Result<()> {
        let _alone = self.inflight.write().unwrap_or_else(PoisonError::into_inner);
        let mut tables = self.tables();
        self.check_whole(&tables)?;
        let header = tables.header.clone();
        let size = self.size.load(Ordering::Acquire);
        let refcounts = tables.refcounts()?;
        let old = used_clusters(&*self.file, &header)?;
        let mut writer =
            Writer { file: &*self.file, refcounts, bits: header.cluster_bits, made: Vec::new() };
        let written = writer.directory(bitmaps, size).and_then(|directory| {
            writer.refcounts.write_back(writer.file)?;
            writer.file.sync()?;
            write_header(writer.file, &header, directory.as_ref())?;
            writer.file.sync()?;
            Ok(directory)
        });
        let made = writer.made;
        let unused = if written.is_ok() { old } else { made };
        for cluster in unused {
            let refcounts = tables.refcounts()?;
            refcounts.release(&*self.file, cluster)?;
            refcounts.unprotect(cluster << header.cluster_bits, header.cluster_size());
        }
        let refcounts = tables.refcounts()?;
        refcounts.write_back(&*self.file)?;
        let directory = written?;
        if let Some(directory) = &directory {
            refcounts.protect(directory.offset, directory.size);
            tables.header.autoclear |= AUTOCLEAR_BITMAPS;
        } else {
            tables.header.autoclear &= !AUTOCLEAR_BITMAPS;
        }
        tables.header.bitmaps = directory;
        self.bitmaps_hold.store(directory.is_some(), Ordering::Release);
        Ok(())
    }
}

/// Fills new clusters.
struct Writer<'a> {
    file: &'a dyn Storage,
    refcounts: &'a mut Refcounts,
    bits: u32,
    /// Clusters taken so far.
    made: Vec<u64>,
}

impl Writer<'_> {
    fn cluster(&self) -> u64 {
        1 << self.bits
    }

    /// `bytes` in clusters of their own.
    fn place(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let count = (bytes.len() as u64).div_ceil(self.cluster()).max(1);
        let start = self.refcounts.allocate_exactly(self.file, count)?;
        self.made.extend(start..start + count);
        let offset = start << self.bits;
        self.file.write_zeroes(offset, count << self.bits, false)?;
        self.file.write(bytes, offset)?;
        Ok(offset)
    }

    /// All of it; none without any bitmap.
    fn directory(&mut self, bitmaps: &[DirtyBitmap], size: u64) -> io::Result<Option<Directory>> {
        if bitmaps.is_empty() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        for bitmap in bitmaps {
            let words = DirtyBitmap::words_for(size, bitmap.info.granularity) as u64;
            let entries = (words * 8).div_ceil(self.cluster());
            let table = self.bits(&bitmap.words, entries)?;
            let place = self.place(&table)?;
            bytes.extend(entry_bytes(&bitmap.info, place, entries as u32));
        }
        let offset = self.place(&bytes)?;
        // Fewer than 65536, as was checked.
        Ok(Some(Directory { count: bitmaps.len() as u32, size: bytes.len() as u64, offset }))
    }

    /// The table of a bitmap whose bits lie in the file then.
    fn bits(&mut self, words: &[u64], entries: u64) -> io::Result<Vec<u8>> {
        let per_cluster = (self.cluster() / 8) as usize;
        let mut table = Vec::new();
        for index in 0..entries as usize {
            let rest = words.get(index * per_cluster..).unwrap_or_default();
            let part = rest.get(..per_cluster).unwrap_or(rest);
            let place = if part.iter().all(|word| *word == 0) {
                0
            } else {
                let bytes: Vec<u8> = part.iter().flat_map(|word| word.to_le_bytes()).collect();
                self.place(&bytes)?
            };
            table.extend(place.to_be_bytes());
        }
        Ok(table)
    }
}

/// Clusters of the bitmaps that are there.
fn used_clusters(file: &dyn Storage, header: &Header) -> Result<Vec<u64>, ImageError> {
    let Some(directory) = &header.bitmaps else { return Ok(Vec::new()) };
    let bits = header.cluster_bits;
    let range = |offset: u64, len: u64| (offset >> bits)..(offset + len).div_ceil(1 << bits);
    let mut used: Vec<u64> = range(directory.offset, directory.size).collect();
    for entry in read_entries(file, header)? {
        used.extend(range(entry.table_offset, entry.table_len()));
        let table = entry.read_table(file)?;
        used.extend(table.into_iter().map(data_offset).filter(|at| *at != 0).map(|at| at >> bits));
    }
    Ok(used)
}

/// The header with this directory: one write, of what lies in front of the image's first table.
fn write_header(
    file: &dyn Storage,
    header: &Header,
    directory: Option<&Directory>,
) -> io::Result<()> {
    let mut cluster = vec![0; header.cluster_size() as usize];
    file.read(&mut cluster, 0)?;
    let bytes = rebuilt(&cluster, header, directory)?;
    file.write(&bytes, 0)
}

/// Fixed fields, extensions, the backing image's name.
fn rebuilt(
    cluster: &[u8],
    header: &Header,
    directory: Option<&Directory>,
) -> Result<Vec<u8>, ImageError> {
    let cut_off = || damaged("a header that is cut off");
    let length = be32(cluster, 100) as usize;
    let (name_offset, name_len) = (be64(cluster, 8) as usize, be32(cluster, 16) as usize);
    let mut bytes = cluster.get(..length).ok_or_else(cut_off)?.to_vec();
    let mut extend = |kind: u32, data: &[u8]| {
        bytes.extend(kind.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    };
    // First, so that it lies in the header's first sector.
    if let Some(directory) = directory {
        extend(EXTENSION_BITMAPS, &directory.bytes());
    }
    let end = if name_offset == 0 { cluster.len() } else { name_offset };
    let mut at = length;
    while at + 8 <= end {
        let (kind, len) = (be32(cluster, at), be32(cluster, at + 4) as usize);
        if kind == 0 {
            break;
        }
        let data = cluster.get(at + 8..).and_then(|rest| rest.get(..len)).ok_or_else(cut_off)?;
        if kind != EXTENSION_BITMAPS {
            extend(kind, data);
        }
        at += 8 + len.next_multiple_of(8);
    }
    extend(0, &[]);
    if name_offset != 0 {
        let name = cluster.get(name_offset..).and_then(|rest| rest.get(..name_len));
        let at = bytes.len() as u64;
        bytes.extend(name.ok_or_else(cut_off)?);
        put(&mut bytes, 8, &at.to_be_bytes());
    }
    let bit = if directory.is_some() { AUTOCLEAR_BITMAPS } else { 0 };
    let autoclear = header.autoclear & !AUTOCLEAR_BITMAPS | bit;
    put(&mut bytes, 88, &autoclear.to_be_bytes());
    if bytes.len() > cluster.len() {
        let text = "the image's header has no room for bitmaps; use larger clusters";
        return Err(ImageError::Invalid(text.into()));
    }
    Ok(bytes)
}
