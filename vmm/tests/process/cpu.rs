//! CPU models as a guest sees them.

use baremetal::pvh;
use vmm_protocol::config::{CpuDetails, CpuModel, FeaturePolicy};
use vmm_protocol::exit::ExitReason;

use crate::needs_kvm;
use crate::rig::Rig;

/// Prints EAX and EBX of leaf 1, ECX of it, and EAX of the first leaf of hypervisors.
fn rig(model: CpuModel, details: CpuDetails) -> Rig {
    let kernel = pvh(|asm| {
        asm.raw(&[0xb8, 1, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2]).print_eax().print(" "); // cpuid 1
        asm.raw(&[0xb8, 1, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0x89, 0xc8]).print_eax().print(" ");
        asm.raw(&[0xb8, 0, 0, 0, 0x40, 0x0f, 0xa2, 0x89, 0xd8]).print_eax().print("\n"); // ebx
        asm.power_off();
    });
    let mut rig = Rig::new(&kernel);
    rig.config.cpus.model = model;
    rig.config.cpus.details = details;
    rig
}

fn seen(rig: Rig) -> Vec<u32> {
    let (_, record, serial) = rig.start().wait();
    assert_eq!(record.reason, ExitReason::Shutdown);
    serial.split_whitespace().map(|word| u32::from_str_radix(word, 16).unwrap()).collect()
}

fn refused(rig: Rig) -> String {
    let (_, record, _) = rig.start().wait();
    let ExitReason::Failed { message } = record.reason else { panic!("{record:?}") };
    message
}

const KVM: u32 = u32::from_le_bytes(*b"KVMK");
const SSSE3: u32 = 1 << 9;
const AVX: u32 = 1 << 28;

#[test]
fn a_named_model_is_the_same_processor_on_any_host() {
    // A KVM that cannot run ordinary kernels may let CPUID through.
    if let Some(skip) = manor_tests::KvmLevel::Linux.lacking() {
        println!("{skip}");
        return;
    }
    // A host without one of its features does as well here.
    let unchecked = CpuDetails { unchecked: true, ..CpuDetails::default() };
    let [signature, features, hypervisor] =
        seen(rig(CpuModel::Named("kvm64".into()), unchecked.clone()))[..]
    else {
        panic!()
    };
    assert_eq!((signature, hypervisor), (0xf61, KVM));
    assert_eq!(features & (SSSE3 | AVX), 0);
    let details = CpuDetails {
        features: vec![("ssse3".into(), FeaturePolicy::Force)],
        hide_kvm: true,
        ..unchecked
    };
    let [_, features, hypervisor] = seen(rig(CpuModel::Named("kvm64".into()), details))[..] else {
        panic!()
    };
    assert_eq!(features & (SSSE3 | AVX), SSSE3);
    assert_ne!(hypervisor, KVM);
}

#[test]
fn what_the_host_lacks_is_named() {
    needs_kvm!();
    let missing = CpuDetails {
        features: vec![("avx512er".into(), FeaturePolicy::Require)],
        ..CpuDetails::default()
    };
    let message = refused(rig(CpuModel::HostModel, missing));
    assert!(message.contains("it lacks avx512er"), "{message}");
    let wide = CpuDetails { physical_bits: Some(57), ..CpuDetails::default() };
    let message = refused(rig(CpuModel::HostModel, wide));
    assert!(message.contains("57 physical address bits"), "{message}");
    let message = refused(rig(CpuModel::Named("i486".into()), CpuDetails::default()));
    assert!(message.contains("i486"), "{message}");
}
