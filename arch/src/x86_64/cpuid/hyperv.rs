//! The leaves of a Hyper-V hypervisor, 0x4000_0000 and up (Microsoft, "Hypervisor Top-Level
//! Functional Specification", chapter 2): what KVM does as Hyper-V does it, for guests that know
//! how to use that.

use kvm_bindings::kvm_cpuid_entry2;

use super::features::Register::{self, Eax, Ebx, Edx};
use super::table::Table;

const VENDOR: u32 = 0x4000_0000;
const INTERFACE: u32 = 0x4000_0001;
const VERSION: u32 = 0x4000_0002;
const FEATURES: u32 = 0x4000_0003;
const RECOMMENDATIONS: u32 = 0x4000_0004;
const LIMITS: u32 = 0x4000_0005;
const NESTED: u32 = 0x4000_000a;

/// Where KVM's own leaves are when these have the first place.
pub(super) const KVM_BASE: u32 = 0x4000_0100;

/// In [`FEATURES`]: without the hypercall registers no guest takes this for a Hyper-V.
const HYPERCALLS: u32 = 1 << 5;
/// In [`FEATURES`], edx: processors may come and go. Windows brings up hotplugged ones only then.
const DYNAMIC_PARTITIONING: u32 = 1 << 3;

/// "Windows Server 2016", as every guest has met it: version 10.0, build 14393.
const BUILD: u32 = 14_393;
const MAJOR_MINOR: u32 = 10 << 16;
const MOST_VCPUS: u32 = 64;

/// By libvirt's names, but for the last two, which it sets by other elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Enlightenment {
    /// Watchdogs of the guest know that vCPUs may stand still.
    Relaxed,
    /// The APIC by MSRs, and a page that spares the end of interrupt its exit.
    Vapic,
    VpIndex,
    Runtime,
    /// Synthetic interrupts and their timers.
    Synic,
    Stimer,
    /// Timers that interrupt without a message.
    StimerDirect,
    Reset,
    Frequencies,
    Reenlightenment,
    TlbFlush,
    TlbFlushDirect,
    TlbFlushExtended,
    Ipi,
    /// For Hyper-V inside the guest.
    Evmcs,
    EmsrBitmap,
    /// The guest does without automatic ends of interrupts, which keep a host from using AVIC.
    Avic,
    XmmInput,
    /// `<timer name='hypervclock'>`
    Clock,
    /// `<panic model='hyperv'>`
    Crash,
}

struct Entry {
    name: &'static str,
    is: Enlightenment,
    /// Leaf, register, bit.
    bits: &'static [(u32, Register, u32)],
    needs: &'static [Enlightenment],
}

use Enlightenment as E;

const EX_PROCESSOR_MASKS: (u32, Register, u32) = (RECOMMENDATIONS, Eax, 11);

#[rustfmt::skip]
const ALL: &[Entry] = &[
    Entry { name: "relaxed", is: E::Relaxed, bits: &[(RECOMMENDATIONS, Eax, 5)], needs: &[] },
    Entry { name: "vapic", is: E::Vapic, bits: &[(FEATURES, Eax, 4), (RECOMMENDATIONS, Eax, 3)], needs: &[] },
    Entry { name: "vpindex", is: E::VpIndex, bits: &[(FEATURES, Eax, 6)], needs: &[] },
    Entry { name: "runtime", is: E::Runtime, bits: &[(FEATURES, Eax, 0)], needs: &[] },
    Entry { name: "synic", is: E::Synic, bits: &[(FEATURES, Eax, 2)], needs: &[E::VpIndex] },
    Entry { name: "stimer", is: E::Stimer, bits: &[(FEATURES, Eax, 3)], needs: &[E::VpIndex, E::Synic, E::Clock] },
    Entry { name: "stimer-direct", is: E::StimerDirect, bits: &[(FEATURES, Edx, 19)], needs: &[E::Stimer] },
    Entry { name: "reset", is: E::Reset, bits: &[(FEATURES, Eax, 7)], needs: &[] },
    Entry { name: "frequencies", is: E::Frequencies, bits: &[(FEATURES, Eax, 11), (FEATURES, Edx, 8)], needs: &[] },
    Entry { name: "reenlightenment", is: E::Reenlightenment, bits: &[(FEATURES, Eax, 13)], needs: &[] },
    Entry { name: "tlbflush", is: E::TlbFlush, bits: &[(RECOMMENDATIONS, Eax, 2), EX_PROCESSOR_MASKS], needs: &[E::VpIndex] },
    Entry { name: "tlbflush-direct", is: E::TlbFlushDirect, bits: &[(NESTED, Eax, 18)], needs: &[E::TlbFlush, E::Vapic] },
    Entry { name: "tlbflush-ext", is: E::TlbFlushExtended, bits: &[(FEATURES, Edx, 14)], needs: &[E::TlbFlush] },
    Entry { name: "ipi", is: E::Ipi, bits: &[(RECOMMENDATIONS, Eax, 10), EX_PROCESSOR_MASKS], needs: &[E::VpIndex] },
    Entry { name: "evmcs", is: E::Evmcs, bits: &[(RECOMMENDATIONS, Eax, 14)], needs: &[E::Vapic] },
    Entry { name: "emsr_bitmap", is: E::EmsrBitmap, bits: &[(NESTED, Eax, 19)], needs: &[] },
    Entry { name: "avic", is: E::Avic, bits: &[(RECOMMENDATIONS, Eax, 9)], needs: &[] },
    Entry { name: "xmm_input", is: E::XmmInput, bits: &[(FEATURES, Edx, 4)], needs: &[] },
    Entry { name: "hypervclock", is: E::Clock, bits: &[(FEATURES, Eax, 1), (FEATURES, Eax, 9)], needs: &[] },
    Entry { name: "crash", is: E::Crash, bits: &[(FEATURES, Edx, 10)], needs: &[] },
];

impl Enlightenment {
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        ALL.iter().find(|entry| entry.name == name).map(|entry| entry.is)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        ALL.iter().find(|entry| entry.is == self).map_or("", |entry| entry.name)
    }

    /// What a guest needs beside it to make use of it.
    #[must_use]
    pub fn needs(self) -> &'static [Self] {
        ALL.iter().find(|entry| entry.is == self).map_or(&[], |entry| entry.needs)
    }
}

/// What a guest is told of Hyper-V.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HyperV {
    enlightenments: Vec<Enlightenment>,
    /// How often a guest tries a lock before it tells the hypervisor; none: it never tells.
    spinlock_retries: Option<u32>,
    vendor_id: [u8; 12],
    /// Versions of the enlightened VMCS: the lowest and the highest.
    evmcs: u32,
}

pub const MICROSOFT: [u8; 12] = *b"Microsoft Hv";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HyperVError {
    #[error("this host's KVM lacks the Hyper-V enlightenments {}", .0.join(", "))]
    Lacking(Vec<&'static str>),
    #[error("the Hyper-V enlightenment {of} needs {needs}")]
    Needs { of: &'static str, needs: &'static str },
}

impl HyperV {
    /// `supported` is what `KVM_GET_SUPPORTED_HV_CPUID` returned.
    pub fn new(
        supported: &[kvm_cpuid_entry2],
        mut wanted: Vec<Enlightenment>,
        spinlock_retries: Option<u32>,
        vendor_id: [u8; 12],
    ) -> Result<Self, HyperVError> {
        wanted.sort_unstable();
        wanted.dedup();
        for of in &wanted {
            if let Some(missing) = of.needs().iter().find(|needed| !wanted.contains(needed)) {
                return Err(HyperVError::Needs { of: of.name(), needs: missing.name() });
            }
        }
        let lacking = wanted.iter().filter(|one| !is_supported(supported, **one));
        let lacking: Vec<_> = lacking.map(|one| one.name()).collect();
        if !lacking.is_empty() {
            return Err(HyperVError::Lacking(lacking));
        }
        Ok(Self::of(supported, wanted, spinlock_retries, vendor_id))
    }

    /// All that KVM supports here.
    #[must_use]
    pub fn passthrough(supported: &[kvm_cpuid_entry2], vendor_id: [u8; 12]) -> Self {
        let mut found: Vec<_> =
            ALL.iter().map(|entry| entry.is).filter(|one| is_supported(supported, *one)).collect();
        // What needs something that this KVM lacks goes with it, and so on.
        loop {
            let all = found.clone();
            found.retain(|one| one.needs().iter().all(|needed| all.contains(needed)));
            if found == all {
                break;
            }
        }
        let retries = register(supported, RECOMMENDATIONS, Ebx);
        Self::of(supported, found, Some(retries), vendor_id)
    }

    fn of(
        supported: &[kvm_cpuid_entry2],
        enlightenments: Vec<Enlightenment>,
        spinlock_retries: Option<u32>,
        vendor_id: [u8; 12],
    ) -> Self {
        let nested = enlightenments.contains(&E::Evmcs);
        let evmcs = if nested { register(supported, NESTED, Eax) & 0xffff } else { 0 };
        Self { enlightenments, spinlock_retries, vendor_id, evmcs }
    }

    #[must_use]
    pub fn has(&self, one: Enlightenment) -> bool {
        self.enlightenments.contains(&one)
    }

    pub(super) fn set(&self, table: &mut Table) {
        let word =
            |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        let nested = self.register(NESTED, Eax) | self.evmcs;
        let last = if nested == 0 { LIMITS } else { NESTED };
        let [a, b, c] = [0, 4, 8].map(|at| word(&self.vendor_id[at..at + 4]));
        table.set_leaf(VENDOR, [last, a, b, c]);
        table.set_leaf(INTERFACE, [word(b"Hv#1"), 0, 0, 0]);
        table.set_leaf(VERSION, [BUILD, MAJOR_MINOR, 0, 0]);
        let features = [
            self.register(FEATURES, Eax) | HYPERCALLS,
            self.register(FEATURES, Ebx),
            0,
            self.register(FEATURES, Edx) | DYNAMIC_PARTITIONING,
        ];
        table.set_leaf(FEATURES, features);
        let retries = self.spinlock_retries.unwrap_or(u32::MAX);
        table.set_leaf(RECOMMENDATIONS, [self.register(RECOMMENDATIONS, Eax), retries, 0, 0]);
        table.set_leaf(LIMITS, [MOST_VCPUS, MOST_VCPUS, 0, 0]);
        if nested != 0 {
            for empty in LIMITS + 1..NESTED {
                table.set_leaf(empty, [0; 4]);
            }
            table.set_leaf(NESTED, [nested, 0, 0, 0]);
        }
    }

    fn register(&self, leaf: u32, register: Register) -> u32 {
        let mine = ALL.iter().filter(|entry| self.has(entry.is)).flat_map(|entry| entry.bits);
        let here = mine.filter(|(of, at, _)| (*of, *at) == (leaf, register));
        here.fold(0, |value, (_, _, bit)| value | 1 << bit)
    }
}

fn is_supported(supported: &[kvm_cpuid_entry2], one: Enlightenment) -> bool {
    // Relaxed timing and the rest of the recommendations are for the guest alone, but KVM's word is
    // taken for all of them: it leaves out what it has no part for.
    let entry = ALL.iter().find(|entry| entry.is == one);
    entry.is_some_and(|entry| {
        entry.bits.iter().all(|(leaf, at, bit)| register(supported, *leaf, *at) >> bit & 1 == 1)
    })
}

fn register(supported: &[kvm_cpuid_entry2], leaf: u32, register: Register) -> u32 {
    let found = supported.iter().find(|entry| entry.function == leaf);
    found.map_or(0, |entry| match register {
        Eax => entry.eax,
        Ebx => entry.ebx,
        Register::Ecx => entry.ecx,
        Edx => entry.edx,
    })
}

/// MSRs of the synthetic interrupt controller and its timers that KVM's list of MSRs leaves out:
/// event and message pages, interrupts, and the timers' configuration and count.
#[must_use]
pub fn synic_msrs() -> Vec<u32> {
    [0x4000_0080, 0x4000_0082, 0x4000_0083]
        .into_iter()
        .chain(0x4000_0090..=0x4000_009f)
        .chain(0x4000_00b0..=0x4000_00b7)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{entry, intel, leaf, spec};
    use super::super::{CpuModel, CpuSpec, cpuid};
    use super::*;

    fn kvm() -> Vec<kvm_cpuid_entry2> {
        let all = |function| entry(function, 0, [u32::MAX, 0xfff, u32::MAX, u32::MAX]);
        vec![all(FEATURES), all(RECOMMENDATIONS), all(NESTED)]
    }

    fn table(hyperv: HyperV) -> Vec<kvm_cpuid_entry2> {
        let spec = CpuSpec { hyperv: Some(hyperv), ..spec(CpuModel::HostModel) };
        cpuid(&intel(), &spec, 0)
    }

    fn with(wanted: &[Enlightenment]) -> Vec<kvm_cpuid_entry2> {
        table(HyperV::new(&kvm(), wanted.to_vec(), Some(8191), MICROSOFT).unwrap())
    }

    #[test]
    fn the_first_leaves_are_hyper_vs_and_kvms_come_behind() {
        let table = with(&[E::Relaxed, E::Vapic]);
        let first = leaf(&table, VENDOR, 0);
        assert_eq!((first.eax, first.ebx.to_le_bytes()), (LIMITS, *b"Micr"));
        assert_eq!(leaf(&table, INTERFACE, 0).eax.to_le_bytes(), *b"Hv#1");
        assert_eq!(leaf(&table, FEATURES, 0).eax, 1 << 4 | 1 << 5);
        let recommended = leaf(&table, RECOMMENDATIONS, 0);
        assert_eq!((recommended.eax, recommended.ebx), (1 << 5 | 1 << 3, 8191));
        let kvm = leaf(&table, KVM_BASE, 0);
        assert_eq!((kvm.eax, kvm.ebx.to_le_bytes()), (KVM_BASE + 1, *b"KVMK"));
        assert_ne!(leaf(&table, KVM_BASE + 1, 0).eax, 0);
    }

    #[test]
    fn a_hidden_kvm_leaves_hyper_v_alone() {
        let hyperv = HyperV::new(&kvm(), vec![E::Relaxed], None, *b"Something  \0").unwrap();
        let spec = CpuSpec { hyperv: Some(hyperv), hide_kvm: true, ..spec(CpuModel::HostModel) };
        let table = cpuid(&intel(), &spec, 0);
        assert_eq!(leaf(&table, VENDOR, 0).ebx.to_le_bytes(), *b"Some");
        assert_eq!(leaf(&table, RECOMMENDATIONS, 0).ebx, u32::MAX, "it never tells");
        assert_eq!(leaf(&table, KVM_BASE, 0).ebx, 0);
    }

    #[test]
    fn timers_need_interrupts_and_a_clock() {
        let new = |wanted: &[Enlightenment]| HyperV::new(&kvm(), wanted.to_vec(), None, MICROSOFT);
        let needs = |of, needs| Err(HyperVError::Needs { of, needs });
        assert_eq!(new(&[E::Synic]), needs("synic", "vpindex"));
        assert_eq!(new(&[E::Stimer, E::Synic, E::VpIndex]), needs("stimer", "hypervclock"));
        assert_eq!(new(&[E::Ipi]), needs("ipi", "vpindex"));
        let table = with(&[E::StimerDirect, E::Stimer, E::Clock, E::Synic, E::VpIndex]);
        let features = leaf(&table, FEATURES, 0);
        assert_eq!(features.eax, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 9);
        assert_eq!(features.edx, 1 << 19 | DYNAMIC_PARTITIONING);
    }

    #[test]
    fn what_kvm_lacks_is_named_and_not_passed_through() {
        let mut lacking = kvm();
        lacking[0].eax &= !(1 << 6 | 1 << 13);
        let error =
            HyperV::new(&lacking, vec![E::VpIndex, E::Reenlightenment, E::Reset], None, MICROSOFT);
        assert_eq!(error, Err(HyperVError::Lacking(vec!["vpindex", "reenlightenment"])));
        let all = HyperV::passthrough(&lacking, MICROSOFT);
        assert!(all.has(E::Reset) && all.has(E::Clock) && all.has(E::Evmcs));
        for one in [E::VpIndex, E::Reenlightenment, E::Synic, E::Ipi] {
            assert!(!all.has(one), "{one:?}");
        }
    }

    #[test]
    fn the_leaf_of_nested_guests_is_there_with_what_is_in_it() {
        let hyperv = HyperV::new(&kvm(), vec![E::Evmcs, E::EmsrBitmap, E::Vapic], None, MICROSOFT);
        let hyperv = hyperv.unwrap();
        let spec = CpuSpec { hyperv: Some(hyperv), ..spec(CpuModel::HostModel) };
        let table = cpuid(&intel(), &spec, 0);
        assert_eq!(leaf(&table, VENDOR, 0).eax, NESTED);
        assert_eq!(leaf(&table, NESTED, 0).eax, 0xffff | 1 << 19, "all versions that KVM names");
    }

    #[test]
    fn names_are_found_again() {
        for entry in ALL {
            assert_eq!(Enlightenment::find(entry.name), Some(entry.is));
            assert_eq!(entry.is.name(), entry.name);
        }
        assert_eq!(Enlightenment::find("warp"), None);
    }
}
