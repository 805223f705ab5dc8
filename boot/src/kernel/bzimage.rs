//! bzImage, entered by the 64-bit boot protocol (Linux `Documentation/arch/x86/boot.rst`).
//!
//! The real-mode part never runs: its header tells where the rest wants to lie, and is handed on to
//! the kernel in `boot_params`.

use std::fs::File;
use std::ops::Range;

use arch::layout::HIMEM_START;
use linux_loader::loader::bootparam::{LOADED_HIGH, XLF_KERNEL_64, setup_header};
use memory::{GuestRam, ReadFileError};
use vm_memory::ByteValued;

use super::{KernelError, header_bytes, read_exact};

/// The setup header's place, in the file as in `boot_params`.
pub(crate) const HEADER_START: usize = 0x1f1;
/// Where the next field of `boot_params` lies: no header can be longer.
const HEADER_END_MAX: usize = 0x290;
/// The header ends at 0x202 plus the byte at 0x201, the operand of the jump over it.
const JUMP_OPERAND: usize = 0x201;
const JUMP_END: usize = 0x202;
const BOOT_FLAG: u16 = 0xaa55;
/// First protocol with `xloadflags`.
const VERSION_XLOADFLAGS: u16 = 0x020c;
/// The 64-bit entry point's offset from where the kernel is loaded.
pub(crate) const ENTRY_64: u64 = 0x200;
const SECTOR: u64 = 512;
/// `setup_sects` of 0 means 4, for kernels older than anyone has.
const SETUP_SECTS_DEFAULT: u8 = 4;
/// "Undefined" loader id.
const LOADER_UNDEFINED: u8 = 0xff;

#[derive(Debug)]
pub(crate) struct BzImage {
    /// The header as the file has it, from 0x1f1 to its end.
    raw: Vec<u8>,
    header: setup_header,
    payload: Range<u64>,
}

impl BzImage {
    pub(crate) fn open(file: &File, len: u64) -> Result<Self, KernelError> {
        let mut page = [0; HEADER_END_MAX];
        let got = len.min(page.len() as u64) as usize;
        read_exact(file, len, 0, &mut page[..got])?;
        let end = JUMP_END + usize::from(page[JUMP_OPERAND]);
        if end > HEADER_END_MAX {
            return Err(KernelError::Damaged { what: "its setup header is too long" });
        }
        if end > got {
            return Err(KernelError::Truncated { promised: end as u64, len });
        }
        let raw = page[HEADER_START..end].to_vec();
        let mut header = setup_header::default();
        let known = raw.len().min(size_of::<setup_header>());
        header.as_mut_slice()[..known].copy_from_slice(&raw[..known]);

        if header.boot_flag != BOOT_FLAG {
            return Err(KernelError::Damaged { what: "its boot sector has no signature" });
        }
        if header.loadflags & LOADED_HIGH == 0 {
            return Err(KernelError::Damaged { what: "it is a zImage, which loads below 1 MiB" });
        }
        if header.version < VERSION_XLOADFLAGS || header.xloadflags & XLF_KERNEL_64 == 0 {
            return Err(KernelError::No64BitEntry { version: header.version });
        }
        let sectors = match header.setup_sects {
            0 => SETUP_SECTS_DEFAULT,
            some => some,
        };
        let setup = (u64::from(sectors) + 1) * SECTOR;
        // `syssize` counts 16-byte units of the protected-mode part. A signature or padding may
        // follow it; less means that the file was cut.
        let promised = setup + u64::from(header.syssize) * 16;
        if promised > len || setup + ENTRY_64 >= len {
            return Err(KernelError::Truncated {
                promised: promised.max(setup + ENTRY_64 + 1),
                len,
            });
        }
        Ok(Self { raw, header, payload: setup..len })
    }

    pub(crate) fn cmdline_max(&self) -> u32 {
        match self.header.cmdline_size {
            0 => 255,
            size => size,
        }
    }

    pub(crate) fn initrd_end_max(&self) -> u64 {
        u64::from(self.header.initrd_addr_max) + 1
    }

    /// Where the kernel asks to be, or, if RAM ends before that and it can be moved, the lowest
    /// place that suits it.
    pub(crate) fn span(&self, low_ram_end: u64) -> Result<Range<u64>, KernelError> {
        // The kernel unpacks itself in place: until then it owns `init_size` bytes, which is more
        // than the file.
        let size = u64::from(self.header.init_size).max(self.payload.end - self.payload.start);
        let preferred = self.header.pref_address;
        let fits = |start: u64| {
            let end = start.checked_add(size)?;
            (start >= HIMEM_START && end <= low_ram_end).then_some(start..end)
        };
        let moved = || {
            let alignment = u64::from(self.header.kernel_alignment);
            if self.header.relocatable_kernel == 0 || !alignment.is_power_of_two() {
                return None;
            }
            fits(HIMEM_START.next_multiple_of(alignment))
        };
        fits(preferred).or_else(moved).ok_or(KernelError::DoesNotFit {
            start: preferred,
            size,
            low_ram_end,
        })
    }

    pub(crate) fn load(&self, ram: &GuestRam, file: &File, at: u64) -> Result<(), ReadFileError> {
        let Range { start, end } = self.payload;
        ram.read_from_file(at, end - start, file, start)
    }

    /// The header for `boot_params`: the kernel's own bytes, with what a boot loader fills in.
    pub(crate) fn setup_header(&self, start: u64) -> Vec<u8> {
        let mut header = self.header;
        header.type_of_loader = LOADER_UNDEFINED;
        // Only a 32-bit entry reads it, and `span` keeps it below 4 GiB.
        header.code32_start = start as u32;
        // Nothing follows in memory; a pointer in the file would be the guest's to chase.
        header.setup_data = 0;
        let mut bytes = self.raw.clone();
        let known = bytes.len().min(size_of::<setup_header>());
        bytes[..known].copy_from_slice(&header_bytes(&header)[..known]);
        bytes
    }
}
