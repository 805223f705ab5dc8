//! GDT and page tables of a kernel that is entered in long mode (Linux boot protocol, "64-bit BOOT
//! PROTOCOL"): flat segments, and the low 4 GiB mapped onto themselves.

use super::layout::{GDT_START, PAGE_TABLES_START};

/// Selectors that the 64-bit boot protocol names `__BOOT_CS` and `__BOOT_DS`.
pub const BOOT_CS: u16 = 0x10;
pub const BOOT_DS: u16 = 0x18;
pub const BOOT_TSS: u16 = 0x20;

/// Null, unused, code, data, and a TSS of two slots.
pub const GDT_ENTRIES: usize = 6;
pub const GDT_LIMIT: u16 = (GDT_ENTRIES * 8 - 1) as u16;

/// PML4, PDPT, and a page directory for each of four GiB.
pub const PAGE_TABLES_SIZE: u64 = 6 * 4096;
const ENTRIES: usize = 512;

const PRESENT_WRITABLE: u64 = 0b11;
const LARGE_PAGE: u64 = 1 << 7;

/// The descriptors for [`GDT_START`].
#[must_use]
pub const fn gdt() -> [u64; GDT_ENTRIES] {
    [
        0,
        0,
        0x00af_9b00_0000_ffff, // code: long mode, execute/read, accessed
        0x00cf_9300_0000_ffff, // data: 4 GiB, read/write, accessed
        0x0000_8b00_0000_0067, // TSS: busy, at 0
        0,
    ]
}

/// Address of [`gdt`] in guest memory.
pub const GDT_ADDRESS: u64 = GDT_START;

/// The tables for [`PAGE_TABLES_START`], contiguous. 2 MiB pages: every CPU has them, and 24 KiB
/// cost less to write than a second shape would to keep right.
#[must_use]
pub fn page_tables() -> Vec<u64> {
    let mut tables = vec![0; 6 * ENTRIES];
    let table_address = |n: u64| PAGE_TABLES_START + n * 4096;
    tables[0] = table_address(1) | PRESENT_WRITABLE;
    for (gib, entry) in (0..4).zip(&mut tables[ENTRIES..]) {
        *entry = table_address(2 + gib) | PRESENT_WRITABLE;
    }
    for (page, entry) in (0u64..).zip(&mut tables[2 * ENTRIES..]) {
        *entry = page << 21 | PRESENT_WRITABLE | LARGE_PAGE;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walk the tables as the CPU does.
    fn translate(tables: &[u64], linear: u64) -> Option<u64> {
        let entry = |table: u64, index: u64| {
            let at = (table - PAGE_TABLES_START) / 8 + index;
            Some(tables[usize::try_from(at).unwrap()]).filter(|entry| entry & 1 != 0)
        };
        let pml4e = entry(PAGE_TABLES_START, linear >> 39 & 511)?;
        let pdpte = entry(pml4e & !0xfff, linear >> 30 & 511)?;
        let pde = entry(pdpte & !0xfff, linear >> 21 & 511)?;
        assert_ne!(pde & LARGE_PAGE, 0);
        Some((pde & !0x1f_ffff) | (linear & 0x1f_ffff))
    }

    #[test]
    fn the_low_four_gib_are_mapped_onto_themselves_and_nothing_else() {
        let tables = page_tables();
        assert_eq!(tables.len() as u64 * 8, PAGE_TABLES_SIZE);
        for linear in [0, 0x7000, 0x10_0000, 0x1fff_ffff, 0x8000_0000, 0xffff_ffff] {
            assert_eq!(translate(&tables, linear), Some(linear));
        }
        assert_eq!(translate(&tables, 4 << 30), None);
        assert_eq!(translate(&tables, 1 << 39), None);
    }

    #[test]
    fn the_code_descriptor_is_long_mode_and_the_data_descriptor_is_flat() {
        let code = gdt()[usize::from(BOOT_CS / 8)];
        let data = gdt()[usize::from(BOOT_DS / 8)];
        assert_eq!(code >> 53 & 0b11, 0b01, "L set, D clear");
        assert_eq!(data & 0x000f_0000_0000_ffff, 0x000f_0000_0000_ffff, "limit");
    }
}
