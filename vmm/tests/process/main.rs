//! The VMM process from outside: bare-metal guests on the local /dev/kvm, and clients on the control
//! socket. Where there is no KVM the tests say so.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "says when there is no KVM to test with"
)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod backup;
mod block_jobs;
mod clock;
mod coalescing;
mod control;
mod cpu;
mod devices;
mod disks;
mod display;
mod dump;
mod ends;
mod faults;
mod firmware;
mod flash;
mod hyperv;
mod jailbreak;
mod limits;
mod logs;
mod machine;
mod media;
mod nbd;
mod nmi;
mod peek;
mod plug;
mod ramfb;
mod rig;
mod sandbox;
mod save;
mod snapshots;
mod swap;
mod sys;
mod vcpus;
mod watchdog;
mod watched;

/// Not a test: what [`rig::Rig::start`] runs this program as. Seccomp filters die with their process,
/// so it must be one of its own.
#[test]
fn the_vmm_itself() {
    if std::env::var_os(rig::ROLE).is_some() {
        std::process::exit(vmm::process::run([]).into());
    }
}

/// Leave a test that cannot run here, saying why.
macro_rules! needs_kvm {
    () => {
        if let Some(skip) = manor_tests::KvmLevel::BareMetal.lacking() {
            println!("{skip}");
            return;
        }
    };
}
pub(crate) use needs_kvm;
