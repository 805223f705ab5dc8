//! A look into the guest's memory, while it runs.

use super::{Machine, MachineError};

const PAGE: u64 = 4096;

impl Machine {
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
