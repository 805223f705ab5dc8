//! How a guest ends, and what the process makes of it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use baremetal::{Width, pvh};
use vmm_protocol::config::Action;
use vmm_protocol::control::{EventKind, Reply, Request, RunState};
use vmm_protocol::exit::ExitReason;

use crate::needs_kvm;
use crate::rig::Rig;

#[test]
fn output_reaches_the_serial_port_and_power_off_ends_the_process() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.print("hello from a guest\n").power_off();
    });
    let (status, record, serial) = Rig::new(&kernel).start().wait();
    assert_eq!(serial, "hello from a guest\n");
    assert_eq!(record.reason, ExitReason::Shutdown);
    assert_eq!(status.code(), Some(0));
}

/// A guest that prints a line at each start.
fn resetting_by(reset: impl Fn(&mut baremetal::Asm)) -> Vec<u8> {
    pvh(|asm| {
        asm.print("started\n");
        reset(asm);
    })
}

#[test]
fn every_way_to_reset_starts_the_guest_again() {
    needs_kvm!();
    type Way = fn(&mut baremetal::Asm);
    let ways: [(&str, Way); 3] = [
        // Works at the next exit: its port lies among those whose writes wait for one.
        ("0xcf9", |asm| _ = asm.out(Width::Byte, 0xcf9, 6).read_port(Width::Byte, 0x80).stop()),
        ("the ACPI tables' register", |asm| _ = asm.reset()),
        ("port 0x92", |asm| _ = asm.out(Width::Byte, 0x92, 1).stop()),
    ];
    for (name, way) in ways {
        let mut guest = Rig::new(&resetting_by(way)).start();
        guest.wait_serial(name, |serial| serial.matches("started").count() >= 3);
    }
}

#[test]
fn a_reset_with_on_reboot_destroy_ends_the_process() {
    needs_kvm!();
    let rig = Rig::new(&resetting_by(|asm| _ = asm.reset()));
    let rig = rig.lifecycle(|lifecycle| lifecycle.on_reboot = Action::Destroy);
    let (status, record, serial) = rig.start().wait();
    assert_eq!((status.code(), record.reason), (Some(0), ExitReason::Shutdown));
    assert_eq!(serial, "started\n");
}

#[test]
fn memory_is_cleared_by_a_reset() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.load(Width::Dword, baremetal::SCRATCH).print_eax().print("\n");
        asm.poke(Width::Dword, baremetal::SCRATCH, 0xdead_beef);
        asm.reset();
    });
    let mut guest = Rig::new(&kernel).start();
    let serial = guest.wait_serial("three starts", |serial| serial.matches('\n').count() >= 3);
    assert!(serial.lines().take(3).all(|line| line == "00000000"), "{serial}");
}

#[test]
fn a_guest_that_resets_all_the_time_is_slowed_down_and_can_be_destroyed() {
    needs_kvm!();
    let mut guest = Rig::new(&resetting_by(|asm| _ = asm.reset())).start();
    guest.wait_serial("the burst", |serial| serial.lines().count() >= 6);
    let (before, start) = (guest.serial().lines().count(), Instant::now());
    sleep(Duration::from_millis(2500));
    let more = guest.serial().lines().count() - before;
    assert!(more as u64 <= start.elapsed().as_secs() + 2, "{more} resets");
    let (mut client, _) = guest.greet();
    assert_eq!(client.ask(Request::Destroy), Ok(Reply::Done));
    assert_eq!(guest.wait().1.reason, ExitReason::Destroyed);
}

#[test]
fn a_triple_fault_is_a_crash_with_a_register_dump() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.print("x").set_eax(0x1234_5678).triple_fault();
    });
    let guest = Rig::new(&kernel).start();
    let (status, record, _) = guest.wait();
    assert_eq!(status.code(), Some(3));
    let ExitReason::Crashed(report) = record.reason else { panic!("{record:?}") };
    assert_eq!((report.cause.as_str(), report.vcpu), ("triple fault", Some(0)));
    let registers = report.registers.unwrap();
    for expected in ["rax=0000000012345678", "cs ", "cr0=", "efer=", "code at rip: 0f 0b"] {
        assert!(registers.contains(expected), "{expected} in {registers}");
    }
}

#[test]
fn a_crash_with_on_crash_restart_starts_the_guest_again() {
    needs_kvm!();
    let rig = Rig::new(&resetting_by(|asm| _ = asm.triple_fault()));
    let mut guest = rig.lifecycle(|lifecycle| lifecycle.on_crash = Action::Restart).start();
    guest.wait_serial("three starts", |serial| serial.lines().count() >= 3);
}

#[test]
fn a_preserved_crash_stays_until_it_is_reset_or_destroyed() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.print("started\n").out(Width::Byte, 0x505, 1).stop();
    });
    let rig = Rig::new(&kernel);
    let mut guest = rig.lifecycle(|lifecycle| lifecycle.on_crash = Action::Preserve).start();
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    let crashed = |kind: &EventKind| matches!(kind, EventKind::Crashed(_));
    let event = client.event_like(crashed);
    let EventKind::Crashed(report) = event.kind else { unreachable!() };
    assert_eq!(report.cause, "guest panicked");
    assert_eq!(guest.state(), RunState::Crashed);
    assert!(client.ask(Request::Resume).is_err());
    client.ask(Request::Reset).unwrap();
    guest.wait_serial("the second start", |serial| serial.matches("started").count() == 2);
    client.event_like(crashed);
    client.ask(Request::Destroy).unwrap();
    assert_eq!(guest.wait().1.reason, ExitReason::Destroyed);
}

#[test]
fn sigterm_destroys_the_guest_in_good_order() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.print("up\n").stop();
    });
    let mut guest = Rig::new(&kernel).start();
    guest.wait_serial("the guest", |serial| serial == "up\n");
    let pid = rustix::process::Pid::from_raw(guest.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let (status, record, _) = guest.wait();
    assert_eq!((status.code(), record.reason), (Some(0), ExitReason::Destroyed));
}

#[test]
fn what_cannot_be_built_is_said_in_the_record() {
    needs_kvm!();
    let (status, record, _) = Rig::new(b"this is no kernel").start().wait();
    assert_eq!(status.code(), Some(1));
    let ExitReason::Failed { message } = record.reason else { panic!("{record:?}") };
    assert!(message.contains("kernel"), "{message}");

    let mut rig = Rig::new(b"");
    rig.config.process.kvm = rig.add(tempfile::tempfile().unwrap());
    let (_, record, _) = rig.start().wait();
    let ExitReason::Failed { message } = record.reason else { panic!("{record:?}") };
    assert!(message.contains("/dev/kvm is not KVM"), "{message}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_refused_with_its_reason() {
    needs_kvm!();
    let cases = [
        ("", "the configuration is not valid"),
        ("{\"version\":{\"major\":9,\"minor\":3}, \"new\":1}", "version 9.3"),
        ("{\"version\":{\"major\":1,\"minor\":0}}", "missing field"),
    ];
    for (text, expected) in cases {
        let (status, words) = Rig::new(b"").start_with(text).wait_refused();
        assert_eq!(status.code(), Some(1));
        assert!(words.contains(expected), "{expected:?} in {words:?}");
    }
}

#[test]
fn whoever_sees_the_connection_end_finds_the_record() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.print("up\n").stop();
    });
    for _ in 0..5 {
        let guest = Rig::new(&kernel).start();
        let (mut client, _) = guest.greet();
        client.ask(Request::Events { after: 0 }).unwrap();
        client.ask(Request::Destroy).unwrap();
        while client.receive().is_some() {}
        assert_eq!(guest.record().unwrap().reason, ExitReason::Destroyed);
    }
}
