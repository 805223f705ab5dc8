//! The machine a guest sees: memory, vCPUs, pause and resume.

use std::thread::sleep;
use std::time::Duration;

use baremetal::{Asm, Width, pvh};
use vmm_protocol::control::{EventKind, Reply, Request, RunState};
use vmm_protocol::exit::ExitReason;

use crate::needs_kvm;
use crate::rig::Rig;

/// Prints dots for ever.
pub(crate) fn ticking() -> Vec<u8> {
    pvh(|asm| {
        let again = asm.here();
        asm.print(".");
        pause(asm);
        asm.jump(again);
    })
}

fn pause(asm: &mut Asm) {
    asm.repeat(200, |asm| {
        asm.read_port(Width::Byte, 0x80);
    });
}

#[test]
fn a_paused_guest_stands_still_and_goes_on_when_resumed() {
    needs_kvm!();
    let mut guest = Rig::new(&ticking()).start();
    guest.wait_serial("ticks", |serial| serial.len() > 3);
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    for _ in 0..3 {
        client.ask(Request::Pause).unwrap();
        assert_eq!(guest.state(), RunState::Paused);
        sleep(Duration::from_millis(50));
        let before = guest.serial().len();
        sleep(Duration::from_millis(200));
        assert_eq!(guest.serial().len(), before);
        client.ask(Request::Resume).unwrap();
        guest.wait_serial("more ticks", |serial| serial.len() > before + 3);
    }
    client.event_like(|kind| *kind == EventKind::Paused);
    client.event_like(|kind| *kind == EventKind::Resumed);
}

#[test]
fn a_guest_that_is_started_paused_runs_its_first_instruction_when_resumed() {
    needs_kvm!();
    let mut rig = Rig::new(&ticking());
    rig.config.start_paused = true;
    let mut guest = rig.start();
    let (mut client, hello) = guest.greet();
    assert_eq!(hello.status.state, RunState::Paused);
    sleep(Duration::from_millis(100));
    assert_eq!(guest.serial(), "");
    client.ask(Request::Resume).unwrap();
    guest.wait_serial("ticks", |serial| serial.len() > 3);
}

#[test]
fn pausing_and_resuming_quickly_loses_no_vcpu() {
    needs_kvm!();
    let mut guest = Rig::new(&ticking()).cpus(4).start();
    let (mut client, _) = guest.greet();
    for _ in 0..200 {
        client.ask(Request::Pause).unwrap();
        client.ask(Request::Resume).unwrap();
    }
    let before = guest.serial().len();
    guest.wait_serial("more ticks", |serial| serial.len() > before + 3);
}

#[test]
fn sixty_four_vcpus_are_named_threads_that_pause_and_reset() {
    needs_kvm!();
    let mut guest = Rig::new(&ticking()).cpus(64).start();
    guest.wait_serial("ticks", |serial| serial.len() > 1);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", guest.id())).unwrap();
    let names: Vec<String> = tasks
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap())
        .collect();
    for index in 0..64 {
        assert!(names.contains(&format!("vcpu{index}\n")), "{names:?}");
    }
    let (mut client, _) = guest.greet();
    client.ask(Request::Pause).unwrap();
    client.ask(Request::Resume).unwrap();
    client.ask(Request::Reset).unwrap();
    let before = guest.serial().len();
    guest.wait_serial("more ticks", |serial| serial.len() > before + 3);
    let Ok(Reply::Statistics(statistics)) = client.ask(Request::Statistics) else { panic!() };
    assert_eq!(statistics.vcpus.len(), 64);
    assert!(statistics.vcpus[0].exits > 0 && statistics.vcpus[0].time_ns > 0);
    assert!(statistics.resident > 0);
}

#[test]
fn more_vcpus_than_are_supported_are_refused() {
    needs_kvm!();
    let (_, record, _) = Rig::new(&ticking()).cpus(65).start().wait();
    let ExitReason::Failed { message } = record.reason else { panic!("{record:?}") };
    assert!(message.contains("65"), "{message}");
}

#[test]
fn memory_beyond_four_gib_is_in_the_guests_map_and_stays_free_until_used() {
    needs_kvm!();
    // The PVH start info lists the memory map; its last entry is what lies above 4 GiB.
    let kernel = pvh(|asm| {
        asm.eax_from_ebx().load_at_eax(48).print_eax().print("\n").power_off();
    });
    let guest = Rig::new(&kernel).memory(6 << 10).start();
    let (status, _, serial) = guest.wait();
    assert_eq!(status.code(), Some(0));
    let entries = u32::from_str_radix(serial.trim(), 16).unwrap();
    assert!(entries >= 4, "{entries} entries");
}

#[test]
fn unclaimed_ports_read_as_ones_and_are_counted() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.read_port(Width::Dword, 0x1234).print_eax().print("\n").stop();
    });
    let mut guest = Rig::new(&kernel).start();
    guest.wait_serial("the value", |serial| serial == "ffffffff\n");
    let (mut client, _) = guest.greet();
    let Ok(Reply::Statistics(statistics)) = client.ask(Request::Statistics) else { panic!() };
    assert!(statistics.unhandled_accesses >= 1);
}
