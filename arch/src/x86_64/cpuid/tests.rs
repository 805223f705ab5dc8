use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use super::*;

pub(super) fn entry(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    let flags = if index > 0 { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 };
    kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, ..Default::default() }
}

fn vendor(name: &[u8; 12], max: u32) -> kvm_cpuid_entry2 {
    let word = |at: usize| u32::from_le_bytes(name[at..at + 4].try_into().unwrap());
    entry(0, 0, [max, word(0), word(8), word(4)])
}

/// A host on which KVM supports every bit there is.
pub(super) fn everything(name: &[u8; 12]) -> Vec<kvm_cpuid_entry2> {
    let all = [u32::MAX; 4];
    vec![
        vendor(name, 0x20),
        entry(1, 0, all),
        entry(4, 0, [0x121, 0, 0, 0]), // L1 data
        entry(4, 1, [0x163, 0, 0, 0]), // L3 unified
        entry(4, 2, [0, 0, 0, 0]),
        entry(6, 0, [0; 4]),
        entry(7, 0, [2, u32::MAX, u32::MAX, u32::MAX]),
        entry(7, 1, all),
        entry(7, 2, all),
        entry(0xa, 0, all),
        entry(0xd, 0, [0x6_02e7, 11008, 11008, 0]),
        entry(0xd, 1, [0x1f, 0, 0, 0]),
        entry(0xd, 2, [256, 576, 0, 0]),
        entry(0xd, 7, [1024, 1664, 0, 0]),
        entry(0xd, 9, [8, 2688, 0, 0]),
        entry(0xd, 18, [8192, 2816, 0, 0]),
        entry(0x12, 0, all),
        entry(0x1d, 0, all),
        entry(0x4000_0000, 0, [0x4000_0001, 0, 0, 0]),
        entry(0x4000_0001, 0, all),
        entry(0x8000_0000, 0, [0x8000_0021, 0, 0, 0]),
        entry(0x8000_0001, 0, all),
        entry(0x8000_0007, 0, all),
        entry(0x8000_0008, 0, [0x0030_302e, u32::MAX, 0xabcd_0000, 0]),
        entry(0x8000_000a, 0, all),
        entry(0x8000_001d, 0, [0x121, 0, 0, 0]),
        entry(0x8000_001d, 1, [0x163, 0, 0, 0]),
        entry(0x8000_001e, 0, all),
        entry(0x8000_0021, 0, all),
    ]
}

pub(super) fn intel() -> Vec<kvm_cpuid_entry2> {
    everything(b"GenuineIntel")
}

pub(super) fn amd() -> Vec<kvm_cpuid_entry2> {
    everything(b"AuthenticAMD")
}

pub(super) fn spec(model: CpuModel) -> CpuSpec {
    CpuSpec {
        model,
        selection: Selection::default(),
        vendor_id: None,
        caches: Caches::Host,
        hide_kvm: false,
        hints: KvmHints::default(),
        hyperv: None,
        topology: Topology { sockets: 2, dies: 1, cores: 3, threads: 2 },
        phys_bits: 40,
        kvmclock: true,
        pmu: false,
        tsc_deadline: true,
        tsc_khz: None,
    }
}

pub(super) fn leaf(table: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
    let found: Vec<_> =
        table.iter().filter(|e| e.function == function && e.index == index).collect();
    assert!(found.len() <= 1, "leaf {function:#x}.{index} appears {} times", found.len());
    found.first().map_or_else(|| entry(function, index, [0; 4]), |found| **found)
}

#[test]
fn every_leaf_appears_once() {
    for supported in [intel(), amd()] {
        let table = cpuid(&supported, &spec(CpuModel::HostPassthrough), 5);
        for entry in &table {
            leaf(&table, entry.function, entry.index);
        }
    }
}

#[test]
fn the_apic_id_is_the_same_wherever_it_is_told() {
    for supported in [intel(), amd()] {
        let spec = spec(CpuModel::HostPassthrough);
        for index in 0..12 {
            let table = cpuid(&supported, &spec, index);
            let id = spec.topology.apic_id(index);
            assert_eq!(leaf(&table, 1, 0).ebx >> 24, id);
            for subleaf in 0..3 {
                assert_eq!(leaf(&table, 0xb, subleaf).edx, id);
            }
        }
        let table = cpuid(&amd(), &spec, 7);
        assert_eq!(leaf(&table, 0x8000_001e, 0).eax, spec.topology.apic_id(7));
    }
}

#[test]
fn sixty_four_vcpus_have_sixty_four_ids() {
    let topology = Topology { sockets: 1, dies: 1, cores: 64, threads: 1 };
    let spec = CpuSpec { topology, ..spec(CpuModel::HostModel) };
    let ids: Vec<_> =
        (0..64).map(|index| leaf(&cpuid(&intel(), &spec, index), 1, 0).ebx >> 24).collect();
    assert_eq!(ids, (0..64).collect::<Vec<_>>());
    let first = cpuid(&intel(), &spec, 0);
    assert_eq!(leaf(&first, 1, 0).ebx >> 16 & 0xff, 64);
    assert_eq!(leaf(&first, 0xb, 1).eax, 6);
    assert_eq!(leaf(&first, 0xb, 1).ebx, 64);
}

#[test]
fn odd_topologies_tell_shifts_and_counts_apart() {
    let table = cpuid(&intel(), &spec(CpuModel::HostPassthrough), 0);
    let (smt, core, end) = (leaf(&table, 0xb, 0), leaf(&table, 0xb, 1), leaf(&table, 0xb, 2));
    assert_eq!((smt.eax, smt.ebx, smt.ecx), (1, 2, 0x100));
    assert_eq!((core.eax, core.ebx, core.ecx), (3, 6, 0x201));
    assert_eq!((end.eax, end.ebx, end.ecx), (0, 0, 2));
    assert_eq!(leaf(&table, 1, 0).ebx >> 16 & 0xff, 8, "ids a socket can hold");
    assert_eq!(leaf(&table, 1, 0).edx >> 28 & 1, 1, "HTT");
    let l1 = leaf(&table, 4, 0).eax;
    let l3 = leaf(&table, 4, 1).eax;
    assert_eq!((l1 >> 14 & 0xfff, l1 >> 26), (1, 3), "L1: two threads; four core ids");
    assert_eq!(l3 >> 14 & 0xfff, 7, "L3: the die");
    assert_eq!(leaf(&table, 4, 2).eax, 0, "the end of the list stays");
}

#[test]
fn a_lone_cpu_is_not_hyper_threaded() {
    let spec = CpuSpec { topology: Topology::one_socket(1), ..spec(CpuModel::HostPassthrough) };
    for supported in [intel(), amd()] {
        let table = cpuid(&supported, &spec, 0);
        assert_eq!(leaf(&table, 1, 0).edx >> 28 & 1, 0);
        assert_eq!(
            leaf(&table, 0x8000_0001, 0).ecx >> 1 & 1,
            u32::from(!Table::new(&supported).is_amd())
        );
    }
}

#[test]
fn dies_are_told_in_leaf_1f_on_intel() {
    let topology = Topology { sockets: 1, dies: 2, cores: 2, threads: 2 };
    let spec = CpuSpec { topology, ..spec(CpuModel::HostPassthrough) };
    let table = cpuid(&intel(), &spec, 5);
    let levels: Vec<_> =
        (0..4).map(|i| leaf(&table, 0x1f, i)).map(|l| (l.eax, l.ebx, l.ecx >> 8)).collect();
    assert_eq!(levels, [(1, 2, 1), (2, 4, 2), (3, 8, 5), (0, 0, 0)]);
    assert!(leaf(&table, 0, 0).eax >= 0x1f);
}

#[test]
fn amd_tells_its_core_die_and_id_width() {
    let topology = Topology { sockets: 1, dies: 2, cores: 3, threads: 2 };
    let spec = CpuSpec { topology, ..spec(CpuModel::HostPassthrough) };
    let table = cpuid(&amd(), &spec, 7); // die 1, core 0, thread 1
    assert_eq!(leaf(&table, 0x8000_0008, 0).ecx, 0xabcd_0000 | 4 << 12 | 11);
    let identity = leaf(&table, 0x8000_001e, 0);
    assert_eq!(identity.eax, 0b1001);
    assert_eq!(identity.ebx, 1 << 8 | 0b100);
    assert_eq!(identity.ecx, 1 << 8 | 1);
    assert_eq!(leaf(&table, 0x8000_001d, 0).eax >> 14 & 0xfff, 1);
    assert_eq!(leaf(&table, 0x8000_001d, 1).eax >> 14 & 0xfff, 5);
}

#[test]
fn guests_find_kvm_and_its_clock_unless_told_not_to() {
    let table = cpuid(&intel(), &spec(CpuModel::HostPassthrough), 0);
    let signature = leaf(&table, 0x4000_0000, 0);
    let name = [signature.ebx, signature.ecx, signature.edx].map(u32::to_le_bytes).concat();
    assert_eq!(name, b"KVMKVMKVM\0\0\0");
    assert_eq!(signature.eax, 0x4000_0001);
    assert_eq!(leaf(&table, 1, 0).ecx >> 31, 1);
    let features = leaf(&table, 0x4000_0001, 0).eax;
    assert_eq!(features & 0x0100_0009, 0x0100_0009);
    assert_eq!(features & (1 << 15 | 1 << 16 | 1 << 17), 0, "what user space must serve");

    let without = CpuSpec { kvmclock: false, ..spec(CpuModel::HostPassthrough) };
    let features = leaf(&cpuid(&intel(), &without, 0), 0x4000_0001, 0).eax;
    assert_eq!(features & 0x0100_0009, 0);
    assert_ne!(features, 0);
}

#[test]
fn a_known_tsc_rate_is_told() {
    let spec = CpuSpec { tsc_khz: Some(2_600_000), ..spec(CpuModel::HostPassthrough) };
    let table = cpuid(&intel(), &spec, 0);
    assert_eq!(leaf(&table, 0x4000_0000, 0).eax, 0x4000_0010);
    let rates = leaf(&table, 0x4000_0010, 0);
    assert_eq!((rates.eax, rates.ebx), (2_600_000, 1_000_000));
}

#[test]
fn host_model_hides_what_cannot_be_moved() {
    for supported in [intel(), amd()] {
        let table = cpuid(&supported, &spec(CpuModel::HostModel), 0);
        let absent = |function, index, register: fn(&kvm_cpuid_entry2) -> u32, bit: u32| {
            assert_eq!(
                register(&leaf(&table, function, index)) >> bit & 1,
                0,
                "leaf {function:#x} bit {bit}"
            );
        };
        absent(0x8000_0007, 0, |l| l.edx, 8); // invariant TSC
        absent(1, 0, |l| l.ecx, 5); // VMX
        absent(0x8000_0001, 0, |l| l.ecx, 2); // SVM
        absent(7, 0, |l| l.edx, 24); // AMX
        absent(7, 0, |l| l.ebx, 4); // TSX
        absent(0xd, 1, |l| l.eax, 3); // XSAVES
        assert!(!table.iter().any(|l| [0x12, 0x1d, 0x8000_000a].contains(&l.function)));
        // and keeps the rest of x86-64-v4
        assert_eq!(leaf(&table, 7, 0).ebx >> 16 & 1, 1);
        assert_eq!(leaf(&table, 1, 0).ecx >> 28 & 1, 1);
    }
}

#[test]
fn host_model_sizes_the_xsave_area_for_what_it_offers() {
    let table = cpuid(&intel(), &spec(CpuModel::HostModel), 0);
    let xsave = leaf(&table, 0xd, 0);
    assert_eq!((xsave.eax, xsave.ecx), (0x2e7, 2696), "up to the protection keys");
    assert_eq!(leaf(&table, 0xd, 18).eax, 0, "no AMX tiles");
    assert_eq!(leaf(&table, 0xd, 7).eax, 1024);
}

#[test]
fn passthrough_keeps_the_invariant_tsc_but_no_sgx() {
    let table = cpuid(&intel(), &spec(CpuModel::HostPassthrough), 0);
    assert_eq!(leaf(&table, 0x8000_0007, 0).edx >> 8 & 1, 1);
    assert_eq!(leaf(&table, 7, 0).ebx >> 2 & 1, 0);
    assert!(!table.iter().any(|l| l.function == 0x12));
}

#[test]
fn the_pmu_is_there_on_request_only() {
    let with = CpuSpec { pmu: true, ..spec(CpuModel::HostPassthrough) };
    assert_eq!(leaf(&cpuid(&intel(), &with, 0), 0xa, 0).eax, u32::MAX);
    let table = cpuid(&intel(), &spec(CpuModel::HostPassthrough), 0);
    assert_eq!(leaf(&table, 0xa, 0).eax, 0);
    assert_eq!(leaf(&table, 1, 0).ecx >> 15 & 1, 0);
}

#[test]
fn address_bits_are_at_most_the_hosts() {
    assert_eq!(host_phys_bits(&intel()), 46);
    assert_eq!(host_phys_bits(&[]), 36);
    for (asked, told) in [(40, 40), (46, 46), (52, 46)] {
        let spec = CpuSpec { phys_bits: asked, ..spec(CpuModel::HostPassthrough) };
        let eax = leaf(&cpuid(&intel(), &spec, 0), 0x8000_0008, 0).eax;
        assert_eq!(eax, 0x3000 | told);
    }
}

#[test]
fn runtime_bits_are_left_to_kvm_and_the_deadline_timer_to_its_capability() {
    let table = cpuid(&intel(), &spec(CpuModel::HostPassthrough), 0);
    assert_eq!(leaf(&table, 1, 0).ecx >> 27 & 1, 0, "OSXSAVE");
    assert_eq!(leaf(&table, 1, 0).ecx >> 24 & 1, 1);
    let without = CpuSpec { tsc_deadline: false, ..spec(CpuModel::HostPassthrough) };
    assert_eq!(leaf(&cpuid(&intel(), &without, 0), 1, 0).ecx >> 24 & 1, 0);
}

#[test]
fn an_empty_host_table_does_not_panic() {
    let table = cpuid(&[], &spec(CpuModel::HostModel), 0);
    assert!(table.iter().any(|l| l.function == 0xb));
}

#[test]
fn single_features_of_kvm_are_chosen() {
    let features = |hints| {
        let spec = CpuSpec { hints, ..spec(CpuModel::HostModel) };
        let found = leaf(&cpuid(&intel(), &spec, 0), 0x4000_0001, 0);
        (found.eax >> 11 & 1, found.eax >> 12 & 1, found.edx)
    };
    assert_eq!(features(KvmHints::default()), (1, 0, 0));
    let all = KvmHints { dedicated: true, poll_control: Some(true), without_pv_ipi: true };
    assert_eq!(features(all), (0, 1, 1));
}

#[test]
fn features_that_a_saved_guest_has_and_this_host_lacks_are_named() {
    let leaves =
        |first, seventh| vec![entry(1, 0, [0, 0, first, 0]), entry(7, 0, [0, seventh, 0, 0])];
    let (host, richer) = (leaves(0, 0), leaves(1 << 28, 1 << 5));
    assert_eq!(lacking(&richer, &host, &host, true), ["avx", "avx2"]);
    assert!(lacking(&host, &richer, &richer, true).is_empty());
    assert!(lacking(&richer, &richer, &host, true).is_empty(), "forced upon it");
    // What a kernel turns on by itself is no feature of the processor.
    assert!(lacking(&leaves(1 << 27, 0), &host, &host, true).is_empty());
}
