//! MSRs that firmware would have set before a kernel runs.

use kvm_bindings::kvm_msr_entry;

pub const IA32_TSC: u32 = 0x10;
pub const IA32_APIC_BASE: u32 = 0x1b;
pub const IA32_MISC_ENABLE: u32 = 0x1a0;
pub const IA32_PAT: u32 = 0x277;
pub const IA32_MTRR_DEF_TYPE: u32 = 0x2ff;

const MISC_ENABLE_FAST_STRING: u64 = 1;
const MTRR_ENABLE: u64 = 1 << 11;
const MTRR_WRITE_BACK: u64 = 6;
/// Power-on PAT: WB, WT, UC-, UC, twice.
const PAT_DEFAULT: u64 = 0x0007_0406_0007_0406;

/// For a kernel that is entered without firmware: set on *every* vCPU, as firmware does. Linux
/// warns and repairs when the MTRRs of the CPUs differ.
#[must_use]
pub fn direct_boot() -> Vec<kvm_msr_entry> {
    [
        (IA32_MISC_ENABLE, MISC_ENABLE_FAST_STRING),
        // All memory is write-back by default, and no range says otherwise: device memory is
        // uncached by the PAT attributes that drivers give it.
        (IA32_MTRR_DEF_TYPE, MTRR_ENABLE | MTRR_WRITE_BACK),
        (IA32_PAT, PAT_DEFAULT),
    ]
    .map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() })
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_write_back_before_the_kernel_runs() {
        let msrs = direct_boot();
        let value = |index| msrs.iter().find(|msr| msr.index == index).unwrap().data;
        assert_eq!(value(IA32_MTRR_DEF_TYPE), 0x806);
        assert_eq!(value(IA32_PAT) & 7, 6);
    }
}
