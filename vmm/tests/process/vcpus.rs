//! vCPUs that come and go while a guest runs.

use baremetal::Width::{Byte, Dword};
use baremetal::{TRAMPOLINE_VECTOR, pvh};
use vmm_protocol::control::{ControlErrorCode, EventKind, Reply, Request};

use crate::needs_kvm;
use crate::rig::{Client, Rig};
use crate::save::save;

const STATUS: u16 = 0xcdc;
const COMMAND: u16 = 0xcdd;
const GET_PENDING: u32 = 0;
const INSERTING: u32 = 1 << 1;
const REMOVING: u32 = 1 << 2;
const EJECT: u32 = 1 << 3;
const GPE_STATUS: u16 = 0x620;
/// The event of vCPUs.
const GPE: u32 = 1 << 2;
const LAPIC_ICR: u32 = 0xfee0_0300;

/// Wakes the other vCPU when it comes, and lets go of it when it is asked to.
fn careful() -> Vec<u8> {
    pvh(|asm| {
        // To all others, before there is one: nobody may wake now, nor remember it later.
        asm.poke(Dword, LAPIC_ICR, 0xc_4500);
        asm.poke(Dword, LAPIC_ICR, 0xc_4600 | TRAMPOLINE_VECTOR);
        asm.print("up\n");
        let again = asm.here();
        let (coming, leaving) = (asm.label(), asm.label());
        asm.read_port(Byte, GPE_STATUS).and_eax(GPE).jump_if_eax_is(0, again);
        asm.out(Byte, GPE_STATUS, GPE).out(Byte, COMMAND, GET_PENDING);
        asm.read_port(Byte, STATUS).and_eax(INSERTING | REMOVING);
        asm.jump_if_eax_is(INSERTING, coming).jump_if_eax_is(REMOVING, leaving).jump(again);
        asm.place(coming).out(Byte, STATUS, INSERTING);
        asm.start_other_cpus(1, "+").print(" on\n").jump(again);
        asm.place(leaving).out(Byte, STATUS, REMOVING).out(Byte, STATUS, EJECT);
        asm.print("off\n").jump(again);
    })
}

/// Counts for as long as it runs, and lets go of nothing.
fn counting() -> Vec<u8> {
    crate::machine::ticking()
}

fn rig(kernel: &[u8], present: u16, count: u16) -> Rig {
    let mut rig = Rig::new(kernel).cpus(count);
    rig.config.cpus.present = Some(present);
    rig
}

fn set(client: &mut Client, count: u16) -> Result<Reply, ControlErrorCode> {
    client.ask(Request::SetVcpus { count }).map_err(|error| error.code)
}

/// Which vCPUs are there.
fn present(client: &mut Client) -> Vec<bool> {
    match client.ask(Request::Statistics) {
        Ok(Reply::Statistics(all)) => all.vcpus.iter().map(|vcpu| !vcpu.absent).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_vcpu_comes_is_woken_by_the_guest_goes_and_comes_again() {
    needs_kvm!();
    let mut guest = rig(&careful(), 1, 2).start();
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    guest.wait_serial("the guest", |serial| serial == "up\n");
    for round in 1..4 {
        set(&mut client, 2).unwrap();
        guest.wait_serial("it is woken", |serial| serial.matches("+ on\n").count() == round);
        assert_eq!(present(&mut client), [true, true]);
        client.event_like(|kind| *kind == EventKind::VcpusChanged { count: 2 });
        set(&mut client, 1).unwrap();
        client.event_like(|kind| *kind == EventKind::VcpusChanged { count: 1 });
        guest.wait_serial("it is gone", |serial| serial.matches("off\n").count() == round);
        assert_eq!(present(&mut client), [true, false]);
    }
    assert_eq!(guest.serial(), "up\n".to_owned() + &"+ on\noff\n".repeat(3));
}

#[test]
fn which_vcpus_there_are_survives_a_pause_a_save_and_a_reset() {
    needs_kvm!();
    let guest = rig(&counting(), 1, 3).start();
    let (mut client, _) = guest.greet();
    client.ask(Request::Pause).unwrap();
    set(&mut client, 2).unwrap();
    client.ask(Request::Resume).unwrap();
    let image = tempfile::tempfile().unwrap();
    drop(client);
    save(guest, &image, 3);
    let mut guest = rig(&counting(), 1, 3).restoring(&image).start();
    let (mut client, _) = guest.greet();
    assert_eq!(present(&mut client), [true, true, false]);
    set(&mut client, 3).unwrap();
    set(&mut client, 2).unwrap();
    assert_eq!(present(&mut client), [true; 3], "this guest lets go of nothing");
    client.ask(Request::Reset).unwrap();
    assert_eq!(present(&mut client), [true, true, false], "but when it starts over");
    let before = guest.serial().len();
    guest.wait_serial("more ticks", |serial| serial.len() > before + 3);
}

#[test]
fn what_cannot_be_is_refused() {
    needs_kvm!();
    let guest = rig(&counting(), 1, 2).start();
    let (mut client, _) = guest.greet();
    for count in [0, 3, u16::MAX] {
        assert_eq!(set(&mut client, count), Err(ControlErrorCode::State));
    }
    let fixed = Rig::new(&counting()).cpus(2).start();
    let (mut client, _) = fixed.greet();
    assert_eq!(set(&mut client, 1), Err(ControlErrorCode::State));
    let (_, record, _) = rig(&counting(), 3, 2).start().wait();
    assert!(format!("{record:?}").contains("vCPUs present"), "{record:?}");
}
