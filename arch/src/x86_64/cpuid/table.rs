//! A CPUID table that is edited leaf by leaf.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use super::features::{Feature, Register};

/// Leaves in KVM's order.
#[derive(Clone)]
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

    /// Change one register of a leaf that exists.
    pub(super) fn change(
        &mut self,
        function: u32,
        index: u32,
        register: Register,
        change: impl FnOnce(u32) -> u32,
    ) {
        self.edit(function, index, |leaf| {
            let value = match register {
                Register::Eax => &mut leaf.eax,
                Register::Ebx => &mut leaf.ebx,
                Register::Ecx => &mut leaf.ecx,
                Register::Edx => &mut leaf.edx,
            };
            *value = change(*value);
        });
    }

    pub(super) fn feature(&self, feature: &Feature) -> bool {
        let value =
            self.get(feature.leaf, feature.index).map_or(0, |leaf| match feature.register {
                Register::Eax => leaf.eax,
                Register::Ebx => leaf.ebx,
                Register::Ecx => leaf.ecx,
                Register::Edx => leaf.edx,
            });
        value >> feature.bit & 1 == 1
    }

    /// Replace a leaf without subleaves.
    pub(super) fn set_leaf(&mut self, function: u32, [eax, ebx, ecx, edx]: [u32; 4]) {
        self.remove(function);
        self.push(kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() });
    }

    pub(super) fn vendor(&self) -> [u8; 12] {
        let words = self.get(0, 0).map_or([0; 3], |leaf| [leaf.ebx, leaf.edx, leaf.ecx]);
        let [[a, b, c, d], [e, f, g, h], [i, j, k, l]] = words.map(u32::to_le_bytes);
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    pub(super) fn set_vendor(&mut self, &[a, b, c, d, e, f, g, h, i, j, k, l]: &[u8; 12]) {
        let words = [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_le_bytes);
        for function in [0, 0x8000_0000] {
            self.edit(function, 0, |leaf| [leaf.ebx, leaf.edx, leaf.ecx] = words);
        }
    }

    /// Highest basic leaf.
    pub(super) fn max_basic(&self) -> u32 {
        self.get(0, 0).map_or(0, |leaf| leaf.eax)
    }

    pub(super) fn is_amd(&self) -> bool {
        matches!(&self.vendor(), b"AuthenticAMD" | b"HygonGenuine")
    }
}
