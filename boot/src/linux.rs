//! The Linux 64-bit boot protocol: page tables, GDT and the zero page.

use arch::{early, layout};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use memory::{GuestRam, MemoryError};
use vm_memory::ByteValued;

use crate::Plan;
use crate::kernel;

pub(crate) fn write(ram: &GuestRam, plan: &Plan<'_>) -> Result<(), MemoryError> {
    let bytes =
        |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    ram.write_slice(layout::GDT_START, &bytes(&early::gdt()))?;
    ram.write_slice(layout::PAGE_TABLES_START, &bytes(&early::page_tables()))?;
    ram.write_obj(layout::ZERO_PAGE_START, zero_page(plan))
}

/// `boot_params`: all zeros but for the header and what the kernel cannot find out.
fn zero_page(plan: &Plan<'_>) -> boot_params {
    let mut params = boot_params::default();
    let header = plan.kernel.setup_header(plan.kernel_span.start);
    let start = kernel::HEADER_START;
    params.as_mut_slice()[start..start + header.len()].copy_from_slice(&header);

    params.hdr.cmd_line_ptr = layout::CMDLINE_START as u32;
    if params.hdr.cmdline_size == 0 {
        params.hdr.cmdline_size = plan.kernel.cmdline_max();
    }
    if let Some(initrd) = &plan.initrd {
        // Low RAM ends below 4 GiB, so both halves fit; the upper ones stay zero.
        params.hdr.ramdisk_image = initrd.start as u32;
        params.hdr.ramdisk_size = initrd.len as u32;
    }
    // Spares the kernel the search, and works for kernels that cannot search (EFI stub, kexec).
    params.acpi_rsdp_addr = layout::ACPI_START;
    params.e820_entries = plan.memory.len() as u8;
    let mut table = params.e820_table;
    for (entry, span) in table.iter_mut().zip(&plan.memory) {
        *entry = boot_e820_entry { addr: span.start, size: span.len, r#type: span.kind };
    }
    params.e820_table = table;
    params
}
