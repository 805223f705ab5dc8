//! The PVH boot protocol's `hvm_start_info` (Xen `public/arch-x86/hvm/start_info.h`): the
//! structure, then the module list, then the memory map.

use arch::layout::{ACPI_START, CMDLINE_START, PVH_INFO_START};
use linux_loader::loader::elf::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use memory::{GuestRam, MemoryError};

use crate::Plan;

const MODULES: u64 = PVH_INFO_START + size_of::<hvm_start_info>() as u64;
const MEMORY_MAP: u64 = MODULES + size_of::<hvm_modlist_entry>() as u64;
/// First version with a memory map.
const VERSION: u32 = 1;

pub(crate) fn write(ram: &GuestRam, plan: &Plan<'_>) -> Result<(), MemoryError> {
    let mut info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: VERSION,
        cmdline_paddr: CMDLINE_START,
        rsdp_paddr: ACPI_START,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: plan.memory.len() as u32,
        ..Default::default()
    };
    if let Some(initrd) = &plan.initrd {
        info.nr_modules = 1;
        info.modlist_paddr = MODULES;
        let module =
            hvm_modlist_entry { paddr: initrd.start, size: initrd.len, ..Default::default() };
        ram.write_obj(MODULES, module)?;
    }
    let mut at = MEMORY_MAP;
    for span in &plan.memory {
        let entry = hvm_memmap_table_entry {
            addr: span.start,
            size: span.len,
            type_: span.kind,
            reserved: 0,
        };
        ram.write_obj(at, entry)?;
        at += size_of::<hvm_memmap_table_entry>() as u64;
    }
    ram.write_obj(PVH_INFO_START, info)
}
