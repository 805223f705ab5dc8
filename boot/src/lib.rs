//! What lies in RAM before the first instruction: kernel, initrd, command line, ACPI, SMBIOS.
//!
//! [`place`] is one function from a specification to an entry point. Everything is checked before
//! the first byte is written, files are read by position and never by path, and calling it again
//! after a reset gives the same result: the kernel is read anew from the same open file.

pub mod acpi;
mod cmdline;
mod e820;
mod initrd;
mod kernel;
mod linux;
mod pvh;
mod reset;
pub mod smbios;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[doc(hidden)]
pub mod torture;

use std::fs::File;

use arch::layout::{self, MemoryMap};
use arch::registers::Entry;
use memory::{GuestRam, MemoryError, ReadFileError};

pub use cmdline::CmdlineError;
pub use initrd::InitrdError;
pub use kernel::KernelError;
use kernel::{KernelImage, Protocol};

/// A machine that starts a kernel without firmware.
#[derive(Debug)]
pub struct BootSpec<'a> {
    pub map: &'a MemoryMap,
    pub kernel: &'a File,
    pub initrd: Option<&'a File>,
    pub cmdline: &'a str,
    pub board: &'a acpi::Board,
    pub smbios: Option<&'a smbios::Identity>,
}

#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error("cannot boot this kernel")]
    Kernel(#[from] KernelError),
    #[error("cannot use this initrd")]
    Initrd(#[from] InitrdError),
    #[error("cannot use this kernel command line")]
    Cmdline(#[from] CmdlineError),
    #[error("the firmware tables need {len} bytes, but have room for {room}")]
    TablesTooLarge { len: usize, room: u64 },
    #[error("cannot read the {what} into guest memory")]
    Read { what: &'static str, source: ReadFileError },
    #[error("cannot write the boot structures")]
    Memory(#[from] MemoryError),
}

/// Where everything goes, all checked.
struct Plan<'a> {
    spec: &'a BootSpec<'a>,
    kernel: KernelImage,
    /// Memory the kernel takes until it manages its own.
    kernel_span: std::ops::Range<u64>,
    initrd: Option<initrd::Initrd<'a>>,
    cmdline: Vec<u8>,
    memory: Vec<e820::Span>,
}

/// Put a kernel and all it needs into RAM.
///
/// RAM must read as zeros where nothing is placed (a fresh [`GuestRam`], or one after
/// [`GuestRam::clear`]): pages of zeros are then never touched, which saves their memory and time.
pub fn place(ram: &GuestRam, spec: &BootSpec<'_>) -> Result<Entry, BootError> {
    let low_end = spec.map.low_ram_end;
    let kernel = KernelImage::open(spec.kernel)?;
    let cmdline = cmdline::terminated(spec.cmdline, kernel.cmdline_max())?;
    let kernel_span = kernel.span(low_end)?;
    let initrd = match spec.initrd {
        Some(file) => {
            let limit = low_end.min(kernel.initrd_end_max());
            Some(initrd::Initrd::fit(file, &kernel_span, limit, ram.size())?)
        }
        None => None,
    };
    let tables = acpi::Tables::new(spec.board, layout::ACPI_START);
    check_room(tables.bytes.len(), layout::SMBIOS_START - layout::ACPI_START)?;
    let smbios = spec.smbios.map(|identity| {
        smbios::build(identity, layout::SMBIOS_START, spec.board.apic_ids.len(), ram.size())
    });
    if let Some(bytes) = &smbios {
        check_room(bytes.len(), layout::REAL_MODE_RESET - layout::SMBIOS_START)?;
    }

    ram.write_slice(layout::ACPI_START, &tables.bytes)?;
    if let Some(bytes) = &smbios {
        ram.write_slice(layout::SMBIOS_START, bytes)?;
    }
    ram.write_slice(layout::REAL_MODE_RESET, &reset::CODE)?;
    let memory = e820::spans(spec.map);
    Plan { spec, kernel, kernel_span, initrd, cmdline, memory }.carry_out(ram)
}

fn check_room(len: usize, room: u64) -> Result<(), BootError> {
    if len as u64 > room { Err(BootError::TablesTooLarge { len, room }) } else { Ok(()) }
}

impl Plan<'_> {
    fn carry_out(self, ram: &GuestRam) -> Result<Entry, BootError> {
        let read = |what| move |source| BootError::Read { what, source };
        self.kernel.load(ram, self.spec.kernel, self.kernel_span.start).map_err(read("kernel"))?;
        if let Some(initrd) = &self.initrd {
            ram.read_from_file(initrd.start, initrd.len, initrd.file, 0).map_err(read("initrd"))?;
        }
        ram.write_slice(layout::CMDLINE_START, &self.cmdline)?;
        let entry = match self.kernel.protocol(self.kernel_span.start) {
            Protocol::Linux64 { rip } => {
                linux::write(ram, &self)?;
                Entry::Linux64 { rip, boot_params: layout::ZERO_PAGE_START }
            }
            Protocol::Pvh { eip } => {
                pvh::write(ram, &self)?;
                Entry::Pvh { eip, start_info: layout::PVH_INFO_START as u32 }
            }
        };
        Ok(entry)
    }
}
