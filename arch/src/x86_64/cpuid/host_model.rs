//! `host-model`: the host's share of a fixed list of features.
//!
//! The list is every feature up to the x86-64-v4 level and its common companions (AES, SHA, GFNI,
//! VAES, RDRAND, speculation controls) whose state KVM saves and restores. Not in it, each for its
//! reason: invariant TSC (false after a move to another clock rate), nested virtualisation (its
//! state is not saved), PMU, SGX, processor trace, AMX and shadow stacks (state beyond what is
//! saved), TSX (withdrawn by microcode, so that it vanishes with an update), protection keys for
//! supervisor pages, user interrupts, and every bit that is unknown here. The list grows only with
//! a new platform version: what a guest sees never changes under it.

use kvm_bindings::kvm_cpuid_entry2;

use super::table::Table;

// Leaf 1 ECX: SSE3 PCLMUL SSSE3 FMA CX16 PCID SSE4.1 SSE4.2 x2APIC MOVBE POPCNT TSC-deadline AES
// XSAVE AVX F16C RDRAND.
const L1_ECX: u32 = bits(&[0, 1, 9, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 28, 29, 30]);
// Leaf 1 EDX: all of the classic features, without DS (21), ACPI (22), TM (29), PBE (31).
const L1_EDX: u32 =
    bits(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26, 27, 28]);
// Leaf 7 EBX: FSGSBASE TSC_ADJUST BMI1 AVX2 SMEP BMI2 ERMS INVPCID AVX512F AVX512DQ RDSEED ADX SMAP
// AVX512IFMA CLFLUSHOPT CLWB AVX512CD SHA AVX512BW AVX512VL; FDP-excptn-only and FCS/FDS describe.
const L7_EBX: u32 =
    bits(&[0, 1, 3, 5, 6, 7, 8, 9, 10, 13, 16, 17, 18, 19, 20, 21, 23, 24, 28, 29, 30, 31]);
// Leaf 7 ECX: AVX512VBMI UMIP PKU VBMI2 GFNI VAES VPCLMULQDQ VNNI BITALG VPOPCNTDQ LA57 RDPID.
const L7_ECX: u32 = bits(&[1, 2, 3, 6, 8, 9, 10, 11, 12, 14, 16, 22]);
// Leaf 7 EDX: FSRM MD_CLEAR SERIALIZE IBRS/IBPB STIBP L1D_FLUSH ARCH_CAPABILITIES SSBD.
const L7_EDX: u32 = bits(&[4, 10, 14, 26, 27, 28, 29, 31]);
// Leaf 7.1 EAX: AVX-VNNI AVX512-BF16 FZRM FSRS FSRC.
const L7_1_EAX: u32 = bits(&[4, 5, 10, 11, 12]);
// Leaf 7.2 EDX: speculation controls PSFD IPRED RRSBA BHI; MCDT_NO.
const L7_2_EDX: u32 = bits(&[0, 1, 2, 4, 5]);
// Leaf 0xd.1 EAX: XSAVEOPT XSAVEC XGETBV1. XSAVES goes with supervisor state, which is not offered.
const LD_1_EAX: u32 = bits(&[0, 1, 2]);
// 0x8000_0001 ECX: LAHF CmpLegacy CR8 ABM SSE4A misaligned-SSE 3DNow-prefetch OSVW XOP FMA4 TBM
// TOPOEXT.
const E1_ECX: u32 = bits(&[0, 1, 4, 5, 6, 7, 8, 9, 11, 16, 21, 22]);
// 0x8000_0001 EDX: the AMD copies of leaf 1, SYSCALL NX MMXEXT FXSR_OPT 1-GiB pages RDTSCP LM.
const E1_EDX: u32 = bits(&[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 20, 22, 23, 24, 25, 26, 27, 29,
]);
// 0x8000_0008 EBX: CLZERO XSAVEERPTR WBNOINVD IBPB IBRS STIBP STIBP-always-on AMD-SSBD
// VIRT-SSBD SSB_NO PSFD BTC_NO.
const E8_EBX: u32 = bits(&[0, 2, 9, 12, 14, 15, 17, 24, 25, 26, 28, 29]);
// 0x8000_0021 EAX: no nested data breakpoints, LFENCE serialises, null selector clears base,
// automatic IBRS, SBPB and its companions.
const E21_EAX: u32 = bits(&[0, 2, 6, 8, 27, 28, 29]);

/// XSAVE components: x87, SSE, AVX, three of AVX-512, protection keys.
const XCR0: u32 = 0x2e7;

/// Leaves that exist for features outside the list, or whose content is not the guest's business.
const DROPPED: &[u32] =
    &[0x5, 0xf, 0x10, 0x12, 0x14, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1d, 0x1e, 0x20, 0x21, 0x23, 0x24];
const DROPPED_EXTENDED: &[u32] = &[0x8000_000a, 0x8000_001b, 0x8000_001c, 0x8000_001f, 0x8000_0020];

pub(super) fn narrow(table: &mut Table) {
    table.retain(|leaf| {
        !DROPPED.contains(&leaf.function) && !DROPPED_EXTENDED.contains(&leaf.function)
    });
    table.edit(1, 0, |leaf| (leaf.ecx, leaf.edx) = (leaf.ecx & L1_ECX, leaf.edx & L1_EDX));
    table.edit(7, 0, |leaf| {
        leaf.eax = leaf.eax.min(2);
        leaf.ebx &= L7_EBX;
        leaf.ecx &= L7_ECX;
        leaf.edx &= L7_EDX;
    });
    table.edit(7, 1, |leaf| keep(leaf, [L7_1_EAX, 0, 0, 0]));
    table.edit(7, 2, |leaf| keep(leaf, [0, 0, 0, L7_2_EDX]));
    table.retain(|leaf| leaf.function != 7 || leaf.index <= 2);
    xsave(table);
    table
        .edit(0x8000_0001, 0, |leaf| (leaf.ecx, leaf.edx) = (leaf.ecx & E1_ECX, leaf.edx & E1_EDX));
    table.edit(0x8000_0007, 0, |leaf| keep(leaf, [0; 4])); // bit 8 of EDX: invariant TSC
    table.edit(0x8000_0008, 0, |leaf| leaf.ebx &= E8_EBX);
    table.edit(0x8000_0021, 0, |leaf| keep(leaf, [E21_EAX, 0, 0, 0]));
}

/// Offer the state of the features that are left, and no other.
pub(super) fn fit_xsave(table: &mut Table) {
    let has = |table: &Table, leaf, register: fn(&kvm_cpuid_entry2) -> u32, bit: u32| {
        table.get(leaf, 0).is_some_and(|leaf| register(leaf) >> bit & 1 == 1)
    };
    let mut components = 0;
    if has(table, 1, |leaf| leaf.ecx, 26) {
        components |= 0b11;
        for (there, state) in [
            (has(table, 1, |leaf| leaf.ecx, 28), 1 << 2),
            (has(table, 7, |leaf| leaf.ebx, 16), 0b111 << 5),
            (has(table, 7, |leaf| leaf.ecx, 3), 1 << 9),
        ] {
            components |= if there { state } else { 0 };
        }
    }
    table.edit(0xd, 0, |leaf| leaf.eax &= components | !XCR0);
    if components == 0 {
        table.remove(0xd);
        return;
    }
    resize_xsave(table);
}

/// Leaf 0xd: the components offered, and the size of the area that holds them all.
fn xsave(table: &mut Table) {
    table.edit(0xd, 0, |leaf| (leaf.eax, leaf.edx) = (leaf.eax & XCR0, 0));
    resize_xsave(table);
    table.edit(0xd, 1, |leaf| keep(leaf, [LD_1_EAX, 0, 0, 0]));
}

fn resize_xsave(table: &mut Table) {
    let offered = table.get(0xd, 0).map_or(0, |leaf| leaf.eax);
    table.retain(|leaf| {
        leaf.function != 0xd
            || leaf.index < 2
            || (leaf.index < 32 && offered >> leaf.index & 1 == 1)
    });
    let mut size = 576; // legacy area and header
    table.edit_all(0xd, |leaf| {
        if leaf.index >= 2 {
            size = size.max(leaf.eax.saturating_add(leaf.ebx)); // length + offset
        }
    });
    table.edit(0xd, 0, |leaf| {
        leaf.ecx = size;
        // EBX, the size for the enabled components, follows XCR0; KVM keeps it.
        leaf.ebx = leaf.ebx.min(size);
    });
}

fn keep(leaf: &mut kvm_cpuid_entry2, [eax, ebx, ecx, edx]: [u32; 4]) {
    leaf.eax &= eax;
    leaf.ebx &= ebx;
    leaf.ecx &= ecx;
    leaf.edx &= edx;
}

const fn bits(list: &[u32]) -> u32 {
    let (mut mask, mut i) = (0, 0);
    while i < list.len() {
        mask |= 1 << list[i];
        i += 1;
    }
    mask
}
