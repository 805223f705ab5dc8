//! Hostile guests against the whole VMM process: they misuse virtqueues, registers and the board
//! in every way that brought another VMM down, and nothing may happen but to themselves.
//!
//! Each guest is machine code that attacks a device, then shows from inside that all other devices
//! still work, and that the attacked one does after a reset by its driver. Meanwhile the control
//! socket has to answer. The guests run on any `/dev/kvm`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: what fails here fails it")]
#![allow(clippy::print_stdout, reason = "says when there is no KVM to test with")]

mod ahci;
mod balloon;
mod board;
mod console;
mod disk;
mod driver;
mod ide;
mod net;
mod nvme;
mod rng;
mod scsi;
mod storm;
#[path = "../../vmm/tests/process/sys.rs"]
#[allow(dead_code, reason = "the VMM's own tests use all of it")]
mod sys;
mod transport;
mod virtqueue;
mod vm;
mod vsock;

use manor_tests::KvmLevel;
use vmm_protocol::exit::ExitReason;

use driver::{Device, Guest};
use vm::{Setup, Vm};

fn without_kvm() -> bool {
    let skip = KvmLevel::BareMetal.lacking();
    if let Some(skip) = &skip {
        println!("{skip}");
    }
    skip.is_some()
}

/// Run a guest with all devices to its end.
fn attack(mut setup: Setup, body: impl FnOnce(&mut Guest<'_>, &mut [Device])) {
    if without_kvm() {
        return;
    }
    match sys::open_tap("hostile%d") {
        Ok(tap) => setup.tap = Some(tap),
        Err(error) => println!("network interfaces are not attacked, no tap can be made: {error}"),
    }
    let mut devices = Device::all(setup.tap.is_some());
    let kernel = driver::kernel(|guest| {
        guest.start(&mut devices);
        body(guest, &mut devices);
    });
    let mut vm = Vm::start(setup, &kernel);
    vm.read_until("DONE");
    assert_eq!(vm.end(), ExitReason::Shutdown);
}
