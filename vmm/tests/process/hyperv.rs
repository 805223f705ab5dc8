//! What KVM does as Hyper-V, as a guest finds it: leaves, registers, calls, and over a save.

use baremetal::{Asm, pvh};
use vmm_protocol::config::{CpuModel, Hyperv};
use vmm_protocol::exit::ExitReason;

use crate::rig::Rig;
use crate::save::save;

const GUEST_OS_ID: u32 = 0x4000_0000;
const HYPERCALL: u32 = 0x4000_0001;
const VP_INDEX: u32 = 0x4000_0002;
const RESET: u32 = 0x4000_0003;
const SINT2: u32 = 0x4000_0092;
const CRASH_P0: u32 = 0x4000_0100;
const CRASH_CONTROL: u32 = 0x4000_0105;
const CRASH_NOTIFY: u64 = 1 << 63;

/// Where the guest has its hypercalls.
const CALLS: u32 = 0x20_0000;
const POST_MESSAGE: u32 = 0x5c;
const NO_SUCH_CALL: u32 = 2;

/// A KVM that cannot run ordinary kernels may let CPUID through.
macro_rules! needs_linux {
    () => {
        if let Some(skip) = manor_tests::KvmLevel::Linux.lacking() {
            println!("{skip}");
            return;
        }
    };
}

fn rig(enlightenments: &[&str], code: impl FnOnce(&mut Asm)) -> Rig {
    let mut rig = Rig::new(&pvh(code));
    rig.config.cpus.model = CpuModel::HostPassthrough;
    rig.config.cpus.details.hyperv = Some(Hyperv {
        enlightenments: enlightenments.iter().map(|name| (*name).to_owned()).collect(),
        spinlock_retries: Some(8191),
        ..Hyperv::default()
    });
    rig
}

/// The guest's last words, when it went by itself.
fn words(rig: Rig) -> Vec<u32> {
    let (_, record, serial) = rig.start().wait();
    assert_eq!(record.reason, ExitReason::Shutdown, "{serial}");
    serial.split_whitespace().map(|word| u32::from_str_radix(word, 16).unwrap()).collect()
}

#[test]
fn a_guest_finds_hyper_v_before_kvm_and_its_index() {
    needs_linux!();
    let seen = words(rig(&["relaxed", "vapic", "vpindex", "hypervclock"], |asm| {
        for (leaf, register) in
            [(0x4000_0000, 1), (0x4000_0001, 0), (0x4000_0004, 1), (0x4000_0100, 1)]
        {
            asm.cpuid(leaf, 0, register).print_eax().print(" ");
        }
        asm.rdmsr(VP_INDEX).print_eax().print(" ");
        asm.wrmsr(GUEST_OS_ID, 0x8100_0001).rdmsr(GUEST_OS_ID).print_eax().print("\n");
        asm.power_off();
    }));
    let text = |four: &[u8; 4]| u32::from_le_bytes(*four);
    assert_eq!(seen, [text(b"Micr"), text(b"Hv#1"), 8191, text(b"KVMK"), 0, 0x8100_0001]);
}

#[test]
fn a_guest_resets_by_a_register() {
    needs_linux!();
    let mut guest = rig(&["reset"], |asm| {
        asm.print("up ").wrmsr(RESET, 1).stop();
    })
    .start();
    guest.wait_serial("three starts", |serial| serial.starts_with("up up up "));
}

#[test]
fn a_guest_that_says_it_crashed_has_crashed() {
    needs_linux!();
    let guest = rig(&["crash"], |asm| {
        asm.wrmsr(CRASH_P0, 0xdead).wrmsr(CRASH_CONTROL, CRASH_NOTIFY).stop();
    });
    let (_, record, _) = guest.start().wait();
    let ExitReason::Crashed(report) = record.reason else { panic!("{record:?}") };
    assert_eq!((report.cause.as_str(), report.vcpu), ("guest panicked", Some(0)));
}

#[test]
fn a_message_to_nobody_fails_and_the_guest_goes_on() {
    needs_linux!();
    let seen = words(rig(&["vpindex", "synic"], |asm| {
        asm.wrmsr(GUEST_OS_ID, 1).wrmsr(HYPERCALL, u64::from(CALLS) | 1);
        asm.raw(&[0x31, 0xd2]).set_eax(POST_MESSAGE); // xor edx, edx
        asm.raw(&[0x31, 0xdb, 0x31, 0xc9, 0x31, 0xff, 0x31, 0xf6]); // no input, no output
        asm.raw(&[0xbd]).raw(&CALLS.to_le_bytes()).raw(&[0xff, 0xd5]); // call ebp
        asm.print_eax().print("\n").power_off();
    }));
    assert_eq!(seen, [NO_SUCH_CALL]);
}

#[test]
fn a_saved_guest_keeps_its_synthetic_interrupts_and_its_page_of_calls() {
    needs_linux!();
    let sint: u64 = 1 << 16 | 0x55;
    let with = || {
        rig(&["vpindex", "synic", "hypervclock", "stimer"], |asm| {
            asm.wrmsr(GUEST_OS_ID, 7).wrmsr(HYPERCALL, u64::from(CALLS) | 1).wrmsr(SINT2, sint);
            let again = asm.here();
            for msr in [SINT2, HYPERCALL, GUEST_OS_ID] {
                asm.rdmsr(msr).print_eax().print(" ");
            }
            asm.print("\n");
            asm.repeat(1000, |asm| {
                asm.read_port(baremetal::Width::Byte, 0x80);
            });
            asm.jump(again);
        })
    };
    let line = format!("{sint:08x} {:08x} 00000007 \n", CALLS | 1);
    let image = tempfile::tempfile().unwrap();
    assert!(save(with().start(), &image, 60).contains(&line));
    let mut guest = with().restoring(&image).start();
    let after = guest.wait_serial("what was set", |serial| serial.lines().count() > 3);
    let whole: Vec<_> = after.split_inclusive('\n').skip(1).filter(|l| l.ends_with('\n')).collect();
    assert!(whole.iter().all(|found| *found == line), "{after}");
    // A reset takes it back.
    let (mut client, _) = guest.greet();
    let mut other = with();
    other.config.cpus.details.hyperv = None;
    let (_, record, _) = other.restoring(&image).start().wait();
    let ExitReason::Failed { message } = record.reason else { panic!("{record:?}") };
    assert!(message.contains("vpindex synic hypervclock stimer of Hyper-V"), "{message}");
    client.ask(vmm_protocol::control::Request::Reset).unwrap();
    guest.wait_serial("a new start", |serial| serial.ends_with(&line));
}

#[test]
fn what_kvm_lacks_is_named() {
    needs_linux!();
    // No processor has both of its vendors' kinds of virtualisation.
    let (_, record, _) = rig(&["vapic", "evmcs", "warp"], |asm| {
        asm.stop();
    })
    .start()
    .wait();
    let ExitReason::Failed { message } = record.reason else { panic!("{record:?}") };
    assert!(message.contains("Hyper-V enlightenment warp"), "{message}");
    let (_, record, _) = rig(&["ipi"], |asm| {
        asm.stop();
    })
    .start()
    .wait();
    let ExitReason::Failed { message } = record.reason else { panic!("{record:?}") };
    assert!(message.contains("ipi needs vpindex"), "{message}");
}
