//! Making an image larger.

use super::image::Qcow2;
use super::spec::*;
use crate::bytes::put;
use crate::error::ImageError;
use crate::view::Image as _;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

impl Qcow2 {
    /// Grow the disk; what is new reads as zeros.
    ///
    /// # Errors
    /// When it would shrink or become too large, or the host refuses.
    pub fn grow(&self, size: u64) -> Result<(), ImageError> {
        let old = self.size();
        let size = size.checked_next_multiple_of(512).unwrap_or(u64::MAX);
        if self.read_only {
            return Err(ImageError::NotWritable { reason: "it is open for reading only".into() });
        }
        if size < old {
            return Err(ImageError::Invalid("a qcow2 image cannot be made smaller".into()));
        }
        let entries = size.div_ceil(self.geometry.coverage);
        if size > i64::MAX as u64 / 2 || entries * 8 > MOST_L1_BYTES {
            let what =
                format!("{size} bytes are too many for clusters of {}", self.geometry.cluster);
            return Err(ImageError::Invalid(what));
        }
        self.before_write().map_err(ImageError::io("cannot mark the image's dirty bitmaps"))?;
        self.grow_to(size, entries as usize).map_err(ImageError::io("cannot grow the image"))?;
        // A backing image may be larger than what is above it was.
        if self.backing.as_ref().is_some_and(|backing| backing.size() > old) && size > old {
            let zero = self.write_zeroes(old, size - old, true).and_then(|()| self.flush());
            zero.map_err(ImageError::io("cannot grow the image"))?;
        }
        Ok(())
    }

    fn grow_to(&self, size: u64, entries: usize) -> std::io::Result<()> {
        self.flush()?;
        if self.geometry.raw_data_file {
            self.data().set_len(size)?;
        }
        let _alone = self.inflight.write().unwrap_or_else(PoisonError::into_inner);
        let mut tables = self.tables();
        let file = &*self.file;
        if entries > tables.l1.len() {
            let cluster = self.geometry.cluster;
            let (old_offset, old_len) = (tables.header.l1_offset, tables.l1.len() as u64 * 8);
            let mut l1 = tables.l1.clone();
            l1.resize(entries, 0);
            let bytes: Vec<u8> = l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
            let clusters = (bytes.len() as u64).div_ceil(cluster);
            let refcounts = tables.refcounts()?;
            let offset = refcounts.allocate_exactly(file, clusters)? * cluster;
            refcounts.protect(offset, clusters * cluster);
            refcounts.write_back(file)?;
            file.write_zeroes(offset, clusters * cluster, false)?;
            file.write(&bytes, offset)?;
            file.sync()?;
            // Size and place at once.
            let mut fields = [0; 12];
            put(&mut fields, 0, &(entries as u32).to_be_bytes());
            put(&mut fields, 4, &offset.to_be_bytes());
            file.write(&fields, 36)?;
            file.sync()?;
            (tables.header.l1_offset, tables.header.l1_size) = (offset, entries as u32);
            tables.l1 = l1;
            let clusters = old_offset / cluster..(old_offset + old_len).div_ceil(cluster);
            let refcounts = tables.refcounts()?;
            for old in clusters {
                refcounts.release(file, old)?;
                if refcounts.get(file, old)? == 0 {
                    refcounts.unprotect(old * cluster, cluster);
                }
            }
            refcounts.write_back(file)?;
        }
        file.write(&size.to_be_bytes(), 24)?;
        file.sync()?;
        tables.header.size = size;
        self.size.store(size, Ordering::Release);
        Ok(())
    }
}
