//! A CPUID table that is edited leaf by leaf.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Leaves in KVM's order.
pub(super) struct Table(Vec<kvm_cpuid_entry2>);

impl Table {
    pub(super) fn new(supported: &[kvm_cpuid_entry2]) -> Self {
        // KVM's paravirtual leaves are written anew: a hypervisor below ours is not our guest's.
        let keep =
            |entry: &&kvm_cpuid_entry2| !(0x4000_0000..0x5000_0000).contains(&entry.function);
        Self(supported.iter().filter(keep).copied().collect())
    }

    pub(super) fn into_entries(self) -> Vec<kvm_cpuid_entry2> {
        self.0
    }

    pub(super) fn get(&self, function: u32, index: u32) -> Option<&kvm_cpuid_entry2> {
        self.0.iter().find(|entry| entry.function == function && entry.index == index)
    }

    /// Change a leaf that exists; absent ones read as zeros and stay so.
    pub(super) fn edit(
        &mut self,
        function: u32,
        index: u32,
        change: impl FnOnce(&mut kvm_cpuid_entry2),
    ) {
        let found =
            self.0.iter_mut().find(|entry| entry.function == function && entry.index == index);
        if let Some(entry) = found {
            change(entry);
        }
    }

    /// Change every subleaf of a leaf.
    pub(super) fn edit_all(&mut self, function: u32, change: impl FnMut(&mut kvm_cpuid_entry2)) {
        self.0.iter_mut().filter(|entry| entry.function == function).for_each(change);
    }

    pub(super) fn remove(&mut self, function: u32) {
        self.0.retain(|entry| entry.function != function);
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&kvm_cpuid_entry2) -> bool) {
        self.0.retain(keep);
    }

    pub(super) fn push(&mut self, entry: kvm_cpuid_entry2) {
        self.0.push(entry);
    }

    /// Replace all subleaves of a leaf; registers are `[eax, ebx, ecx, edx]`.
    pub(super) fn set_subleaves(&mut self, function: u32, subleaves: &[[u32; 4]]) {
        self.remove(function);
        for (index, &[eax, ebx, ecx, edx]) in (0..).zip(subleaves) {
            self.push(kvm_cpuid_entry2 {
                function,
                index,
                flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                eax,
                ebx,
                ecx,
                edx,
                ..Default::default()
            });
        }
    }

    /// Highest basic leaf.
    pub(super) fn max_basic(&self) -> u32 {
        self.get(0, 0).map_or(0, |leaf| leaf.eax)
    }

    pub(super) fn is_amd(&self) -> bool {
        self.get(0, 0).is_some_and(|leaf| {
            let vendor = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat();
            vendor == b"AuthenticAMD" || vendor == b"HygonGenuine"
        })
    }
}
