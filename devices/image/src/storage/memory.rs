//! [`MemoryStorage`]: a file that is only bytes, for tests and fuzzing.

use std::io;
use std::sync::{PoisonError, RwLock};

use super::Storage;

/// The most it grows to: a test that asks for more has gone wrong.
const MOST: u64 = 1 << 30;

#[derive(Debug, Default)]
pub struct MemoryStorage {
    bytes: RwLock<Vec<u8>>,
}

impl MemoryStorage {
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: RwLock::new(bytes) }
    }

    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Change what is there, growing it to `end` first.
    fn change(&self, offset: u64, len: u64, change: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let end = offset.checked_add(len).filter(|end| *end <= MOST);
        let end = end.ok_or(io::ErrorKind::StorageFull)?;
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        if (bytes.len() as u64) < end {
            bytes.resize(end as usize, 0);
        }
        change(&mut bytes[offset as usize..end as usize]);
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    fn read(&self, data: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let have = data.len().min(bytes.len() - start);
        data[..have].copy_from_slice(&bytes[start..start + have]);
        data[have..].fill(0);
        Ok(have)
    }

    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.change(offset, data.len() as u64, |place| place.copy_from_slice(data))
    }

    fn write_zeroes(&self, offset: u64, len: u64, _unmap: bool) -> io::Result<()> {
        self.change(offset, len, |place| place.fill(0))
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let have = self.size()?;
        let end = offset.saturating_add(len).min(have);
        if offset < end { self.write_zeroes(offset, end - offset, true) } else { Ok(()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).ok().filter(|len| *len as u64 <= MOST);
        let len = len.ok_or(io::ErrorKind::StorageFull)?;
        self.bytes.write().unwrap_or_else(PoisonError::into_inner).resize(len, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn data_run(&self, offset: u64, len: u64) -> io::Result<(bool, u64)> {
        let have = self.size()?;
        if offset >= have {
            return Ok((false, len));
        }
        Ok((true, len.min(have - offset)))
    }

    fn allocated(&self) -> io::Result<u64> {
        self.size()
    }
}
