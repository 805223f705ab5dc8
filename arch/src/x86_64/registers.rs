//! Register states at the first instruction of a directly booted kernel.
//!
//! Each function takes the special registers as KVM created them, so that fields we have no
//! opinion on (APIC base, interrupt bitmap) stay KVM's. Firmware, and every vCPU but the first,
//! needs none of this: KVM's reset state is the architectural one.

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};

use super::early::{BOOT_CS, BOOT_DS, BOOT_TSS, GDT_ADDRESS, GDT_LIMIT};
use super::layout::{BOOT_STACK_TOP, PAGE_TABLES_START};

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Bit 1 always reads as one; everything else, IF above all, is clear.
const RFLAGS_RESET: u64 = 2;

const TYPE_CODE: u8 = 0xb; // execute/read, accessed
const TYPE_DATA: u8 = 0x3; // read/write, accessed
const TYPE_TSS_BUSY: u8 = 0xb;

/// Flat PVH segments; the protocol leaves the selectors to us.
const PVH_CS: u16 = 0x08;
const PVH_DS: u16 = 0x10;
const PVH_TSS: u16 = 0x18;

/// How the first vCPU enters what was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    Linux64 { rip: u64, boot_params: u64 },
    Pvh { eip: u32, start_info: u32 },
}

impl Entry {
    /// The vCPU's registers, given those KVM created it with.
    #[must_use]
    pub fn registers(&self, sregs: &kvm_sregs) -> (kvm_regs, kvm_sregs) {
        match *self {
            Self::Linux64 { rip, boot_params } => linux64(sregs, rip, boot_params),
            Self::Pvh { eip, start_info } => pvh(sregs, eip, start_info),
        }
    }
}

/// Linux in long mode: `rip` is the 64-bit entry point, `boot_params` the zero page.
///
/// An ELF `vmlinux` without a PVH note is entered in the same way, at its ELF entry point.
#[must_use]
pub fn linux64(sregs: &kvm_sregs, rip: u64, boot_params: u64) -> (kvm_regs, kvm_sregs) {
    let regs = kvm_regs {
        rip,
        rsi: boot_params,
        rsp: BOOT_STACK_TOP,
        rbp: BOOT_STACK_TOP,
        rflags: RFLAGS_RESET,
        ..Default::default()
    };
    let mut sregs = flat(sregs, code(BOOT_CS, true), data(BOOT_DS), tss(BOOT_TSS));
    sregs.gdt = kvm_dtable { base: GDT_ADDRESS, limit: GDT_LIMIT, ..Default::default() };
    sregs.cr0 = CR0_PG | CR0_NE | CR0_ET | CR0_PE;
    sregs.cr3 = PAGE_TABLES_START;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME | EFER_LMA;
    (regs, sregs)
}

/// PVH: 32-bit protected mode without paging; `start_info` is the `hvm_start_info`.
///
/// Xen's `pvh.pandoc`: EBX the structure, CR0 has PE alone of the writable bits, CR4 is zero,
/// segments are flat, TR is a 32-bit TSS of limit 0x67, and everything else is unspecified.
#[must_use]
pub fn pvh(sregs: &kvm_sregs, eip: u32, start_info: u32) -> (kvm_regs, kvm_sregs) {
    let regs = kvm_regs {
        rip: u64::from(eip),
        rbx: u64::from(start_info),
        rsp: BOOT_STACK_TOP,
        rflags: RFLAGS_RESET,
        ..Default::default()
    };
    let mut sregs = flat(sregs, code(PVH_CS, false), data(PVH_DS), tss(PVH_TSS));
    // No GDT: the hidden parts of the segment registers are what counts until the kernel loads
    // its own, and a kernel that reloads a segment before that faults at once, as under Xen.
    sregs.gdt = kvm_dtable::default();
    sregs.cr0 = CR0_ET | CR0_PE;
    sregs.cr3 = 0;
    sregs.cr4 = 0;
    sregs.efer = 0;
    (regs, sregs)
}

fn flat(sregs: &kvm_sregs, cs: kvm_segment, ds: kvm_segment, tr: kvm_segment) -> kvm_sregs {
    // No IDT: an exception before the kernel has one is a triple fault, which is the truth.
    kvm_sregs { cs, ds, es: ds, fs: ds, gs: ds, ss: ds, tr, idt: kvm_dtable::default(), ..*sregs }
}

fn code(selector: u16, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_: TYPE_CODE,
        present: 1,
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        ..Default::default()
    }
}

fn data(selector: u16) -> kvm_segment {
    kvm_segment { type_: TYPE_DATA, db: 1, l: 0, ..code(selector, false) }
}

fn tss(selector: u16) -> kvm_segment {
    kvm_segment { limit: 0x67, selector, type_: TYPE_TSS_BUSY, present: 1, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> kvm_sregs {
        // As KVM creates a bootstrap processor: caches off, BSP flag in the APIC base.
        kvm_sregs { cr0: 0x6000_0010, apic_base: 0xfee0_0900, ..Default::default() }
    }

    #[test]
    fn linux_enters_long_mode_with_interrupts_off_and_the_zero_page_in_rsi() {
        let (regs, sregs) = linux64(&fresh(), 0x100_0200, 0x7000);
        assert_eq!((regs.rip, regs.rsi, regs.rflags), (0x100_0200, 0x7000, 2));
        assert_eq!((sregs.cs.l, sregs.cs.db), (1, 0));
        assert_eq!((sregs.cs.selector, sregs.ds.selector), (0x10, 0x18));
        assert_eq!(sregs.efer, 0x500);
        assert_eq!(sregs.cr3, PAGE_TABLES_START);
        assert_eq!(sregs.cr0 & 0x6000_0000, 0, "caches are on");
    }

    #[test]
    fn pvh_enters_flat_protected_mode_without_paging() {
        let (regs, sregs) = pvh(&fresh(), 0x100_0850, 0x6000);
        assert_eq!((regs.rip, regs.rbx), (0x100_0850, 0x6000));
        assert_eq!(sregs.cr0 & !CR0_ET, CR0_PE);
        assert_eq!((sregs.cr4, sregs.efer), (0, 0));
        assert_eq!((sregs.cs.l, sregs.cs.db, sregs.cs.limit), (0, 1, u32::MAX));
        assert_eq!((sregs.tr.limit, sregs.tr.type_), (0x67, 0xb));
    }

    #[test]
    fn the_apic_base_stays_kvms() {
        assert_eq!(linux64(&fresh(), 0, 0).1.apic_base, 0xfee0_0900);
        assert_eq!(pvh(&fresh(), 0, 0).1.apic_base, 0xfee0_0900);
    }
}
