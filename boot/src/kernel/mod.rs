//! Kernel images: bzImage and ELF64, told apart by their content.

mod bzimage;
mod elf;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use arch::layout::MIB;
use linux_loader::loader::bootparam::setup_header;
use memory::{GuestRam, ReadFileError};

pub(crate) use bzimage::{BzImage, HEADER_START};
pub(crate) use elf::ElfImage;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("cannot read the kernel image")]
    Read(#[source] io::Error),
    #[error("it is not a kernel: {looks}")]
    NotAKernel { looks: &'static str },
    #[error("the kernel image is damaged: {what}")]
    Damaged { what: &'static str },
    #[error("the kernel image is truncated: it promises {promised} bytes, but the file has {len}")]
    Truncated { promised: u64, len: u64 },
    #[error("the kernel has no 64-bit entry point (boot protocol {}.{})", version >> 8, version & 0xff)]
    No64BitEntry { version: u16 },
    #[error("it is an ELF file, but not a 64-bit x86 executable: {what}")]
    WrongElf { what: &'static str },
    #[error("kernel segment {start:#x}+{len:#x} reaches into the first MiB, which is not free")]
    LowSegment { start: u64, len: u64 },
    #[error("kernel segment {start:#x}+{len:#x} lies outside guest memory below {low_ram_end:#x}")]
    OutsideMemory { start: u64, len: u64, low_ram_end: u64 },
    #[error("kernel segments overlap at {at:#x}")]
    Overlap { at: u64 },
    #[error("the kernel's entry point {entry:#x} lies in none of its segments")]
    EntryOutside { entry: u64 },
    #[error(
        "the kernel needs {} MiB of memory from {start:#x} on, and the guest has {} MiB there",
        size.div_ceil(MIB), low_ram_end / MIB
    )]
    DoesNotFit { start: u64, size: u64, low_ram_end: u64 },
}

/// How the kernel is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Linux64 { rip: u64 },
    Pvh { eip: u32 },
}

#[derive(Debug)]
pub(crate) enum KernelImage {
    BzImage(BzImage),
    Elf(ElfImage),
}

/// Longest command line of a kernel that does not say (Linux has taken 2047 bytes since 2.6.30).
const CMDLINE_MAX_DEFAULT: u32 = 2047;

impl KernelImage {
    /// Read the headers of an image; nothing of it is in memory yet.
    pub(crate) fn open(file: &File) -> Result<Self, KernelError> {
        let metadata = file.metadata().map_err(KernelError::Read)?;
        if !metadata.is_file() {
            return Err(KernelError::NotAKernel { looks: "it is not a regular file" });
        }
        let len = metadata.len();
        let mut start = [0; 0x206];
        let got = len.min(start.len() as u64) as usize;
        read_exact(file, len, 0, &mut start[..got])?;
        if start.starts_with(b"\x7fELF") {
            ElfImage::open(file, len).map(Self::Elf)
        } else if &start[0x202..0x206] == b"HdrS" {
            BzImage::open(file, len).map(Self::BzImage)
        } else {
            Err(KernelError::NotAKernel { looks: looks_like(&start[..got]) })
        }
    }

    pub(crate) fn cmdline_max(&self) -> u32 {
        match self {
            Self::BzImage(image) => image.cmdline_max(),
            Self::Elf(_) => CMDLINE_MAX_DEFAULT,
        }
    }

    /// First address that an initrd must not reach.
    pub(crate) fn initrd_end_max(&self) -> u64 {
        match self {
            Self::BzImage(image) => image.initrd_end_max(),
            Self::Elf(_) => u64::MAX,
        }
    }

    /// Memory that the kernel takes, from where it is loaded on.
    pub(crate) fn span(&self, low_ram_end: u64) -> Result<Range<u64>, KernelError> {
        match self {
            Self::BzImage(image) => image.span(low_ram_end),
            Self::Elf(image) => image.span(low_ram_end),
        }
    }

    /// Read the image into the span that starts at `start`.
    pub(crate) fn load(
        &self,
        ram: &GuestRam,
        file: &File,
        start: u64,
    ) -> Result<(), ReadFileError> {
        match self {
            Self::BzImage(image) => image.load(ram, file, start),
            Self::Elf(image) => image.load(ram, file),
        }
    }

    pub(crate) fn protocol(&self, start: u64) -> Protocol {
        match self {
            Self::BzImage(_) => Protocol::Linux64 { rip: start + bzimage::ENTRY_64 },
            Self::Elf(image) => image.protocol,
        }
    }

    /// The setup header for `boot_params`: bytes from offset 0x1f1 on.
    pub(crate) fn setup_header(&self, start: u64) -> Vec<u8> {
        match self {
            Self::BzImage(image) => image.setup_header(start),
            Self::Elf(_) => elf::setup_header(),
        }
    }
}

/// Fill `buffer` from `offset`; the end of the file is an image error, not an I/O error.
fn read_exact(file: &File, len: u64, offset: u64, buffer: &mut [u8]) -> Result<(), KernelError> {
    let promised = offset
        .checked_add(buffer.len() as u64)
        .ok_or(KernelError::Damaged { what: "an offset is beyond any file" })?;
    if promised > len {
        return Err(KernelError::Truncated { promised, len });
    }
    file.read_exact_at(buffer, offset).map_err(KernelError::Read)
}

/// What people hand over by mistake, told apart so that the message helps.
fn looks_like(start: &[u8]) -> &'static str {
    const ARM64_MAGIC: &[u8] = b"ARM\x64";
    match start {
        [] => "the file is empty",
        [0x1f, 0x8b, ..] => "it is gzip-compressed; give the unpacked kernel",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is zstd-compressed; give the unpacked kernel",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "it is xz-compressed; give the unpacked kernel",
        [b'0', b'7', b'0', b'7', b'0', ..] => "it is a cpio archive; is it the initrd?",
        _ if start.get(56..60) == Some(ARM64_MAGIC) => "it is a kernel for 64-bit ARM",
        _ if std::str::from_utf8(start).is_ok() => "it is text",
        _ => "it is neither a bzImage nor an ELF file",
    }
}

/// A header as bytes, `0x1f1` first.
fn header_bytes(header: &setup_header) -> &[u8] {
    vm_memory::ByteValued::as_slice(header)
}
