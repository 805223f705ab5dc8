//! What the fuzz target does with a kernel: whatever the file says, loading it ends, and where it is
//! accepted, the guest begins in RAM.

use std::fs::File;

use arch::layout::{MemoryMap, Platform};
use arch::registers::Entry;
use memory::{Backing, GuestRam};

use crate::{BootSpec, acpi, place, smbios};

/// A machine that boots one kernel after another.
#[derive(Debug)]
pub struct Machine {
    map: MemoryMap,
    ram: GuestRam,
    board: acpi::Board,
}

impl Machine {
    /// # Panics
    /// If the host has no memory for it.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it maps memory")]
    pub fn new() -> Self {
        let map = MemoryMap::new(Platform::Q35, 64 << 20, 40).expect("64 MiB are a machine");
        let ram = GuestRam::new(&map.ram_regions(), &Backing::Anonymous);
        let board = acpi::Board::new(&map, vec![0]);
        Self { map, ram: ram.expect("the host has memory for it"), board }
    }

    /// Boot this kernel, which is its own initrd as well.
    ///
    /// # Panics
    /// If it is accepted and begins outside of RAM.
    pub fn boot(&self, kernel: &File) {
        let spec = BootSpec {
            map: &self.map,
            kernel,
            initrd: Some(kernel),
            cmdline: "console=ttyS0",
            board: &self.board,
            smbios: Some(&smbios::Identity::new([7; 16], "q35")),
        };
        let starts_at = match place(&self.ram, &spec) {
            Ok(Entry::Linux64 { rip, .. }) => rip,
            Ok(Entry::Pvh { eip, .. }) => eip.into(),
            Err(_) => return,
        };
        assert!(self.ram.contains(starts_at, 1), "it begins at {starts_at:#x}");
        // As a reset does: the next one finds zeros.
        let _ = self.ram.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::file;

    #[test]
    fn kernels_may_be_anything() {
        let machine = Machine::new();
        let boot = |bytes: &[u8]| machine.boot(&file(bytes));
        manor_tests::seeds::replay("kernel", 150, boot);
    }
}
