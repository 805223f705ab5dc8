//! A look into the guest's memory, and onto its disks, while it runs.

use std::io;

use devices::backend::Disk as _;

use super::{Machine, MachineError};

const PAGE: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum PeekError {
    #[error("there is no disk {id:?} that is made of image files")]
    NoDisk { id: String },
    #[error("disk {id:?} cannot be read")]
    Read { id: String, source: io::Error },
}

impl Machine {
    /// How large a disk is, and what it shows there to the guest, through all its images; none: it has no such
    /// place.
    ///
    /// # Errors
    /// When there is no such disk, or the host cannot read it.
    pub fn peek_disk(
        &self,
        id: &str,
        offset: u64,
        len: u32,
    ) -> Result<(u64, Option<Vec<u8>>), PeekError> {
        let images = self.parts.images.get(id);
        // What came into a drive later is no image of the machine's.
        let image = images.and_then(|images| images.disk().image());
        let image = image.ok_or_else(|| PeekError::NoDisk { id: id.to_owned() })?;
        let size = image.size();
        if offset.checked_add(len.into()).is_none_or(|end| end > size) {
            return Ok((size, None));
        }
        let mut found = vec![0; len as usize];
        let read = image.read(&mut found, offset);
        read.map_err(|source| PeekError::Read { id: id.to_owned(), source })?;
        Ok((size, Some(found)))
    }

    /// What is at a physical address, or at one that the first vCPU's page tables lead from; none:
    /// there is no memory.
    pub fn peek(
        &self,
        address: u64,
        len: u32,
        linear: bool,
    ) -> Result<Option<Vec<u8>>, MachineError> {
        let Some(end) = address.checked_add(len.into()) else { return Ok(None) };
        let mut found = vec![0; len as usize];
        if !linear {
            return Ok(self.vm.ram().read_slice(address, &mut found).is_ok().then_some(found));
        }
        let first = address - address % PAGE;
        let pages: Vec<u64> = (first..end).step_by(PAGE as usize).collect();
        let places = self.cpus.translate(pages.clone())?;
        let mut at = 0;
        for (page, place) in pages.into_iter().zip(places) {
            let skipped = address.saturating_sub(page);
            let part = (PAGE - skipped).min(len as u64 - at as u64) as usize;
            let Some(gpa) = place else { return Ok(None) };
            if self.vm.ram().read_slice(gpa + skipped, &mut found[at..at + part]).is_err() {
                return Ok(None);
            }
            at += part;
        }
        Ok(Some(found))
    }
}
