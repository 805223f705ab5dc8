//! The machine a guest sees: memory, vCPUs, pause and resume.

use std::thread::sleep;
use std::time::Duration;

use baremetal::{Asm, Width, pvh};
use vmm_protocol::config::Machine;
use vmm_protocol::config::MemoryBacking;
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
fn locked_memory_that_is_given_at_once_is_there_before_the_guest_runs_and_after_its_reset() {
    needs_kvm!();
    let mut rig = Rig::new(&ticking());
    (rig.config.memory.locked, rig.config.memory.prefault) = (true, true);
    let mut guest = rig.start();
    guest.wait_serial("ticks", |serial| serial.len() > 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", guest.id())).unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    assert_eq!(locked.trim(), "65536 kB");
    let (mut client, _) = guest.greet();
    client.ask(Request::Reset).unwrap();
    let before = guest.serial().len();
    guest.wait_serial("more ticks", |serial| serial.len() > before + 3);
}

#[test]
fn too_few_huge_pages_are_named() {
    needs_kvm!();
    let mut rig = Rig::new(&ticking()).memory(1 << 20);
    rig.config.memory.backing = MemoryBacking::Huge { page: None };
    let (_, record, _) = rig.start().wait();
    let ExitReason::Failed { message } = record.reason else { panic!("{record:?}") };
    assert!(message.contains("huge pages"), "{message}");
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

/// Index and data register of the IOAPIC, and the entry of its first pin.
const IOAPIC_INDEX: u32 = 0xfec0_0000;
const IOAPIC_DATA: u32 = 0xfec0_0010;
const FIRST_PIN: u32 = 0x10;

#[test]
fn a_kernel_finds_the_pics_wired_to_the_first_ioapic_pin_also_after_a_reset() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.set_eax(FIRST_PIN).store(Width::Dword, IOAPIC_INDEX);
        asm.load(Width::Dword, IOAPIC_DATA).print_eax().print(" ");
        // Masked, as an interrupt of its own.
        asm.set_eax(1 << 16).store(Width::Dword, IOAPIC_DATA);
        asm.load(Width::Dword, IOAPIC_DATA).print_eax().print(" ").reset();
    });
    let mut guest = Rig::new(&kernel).start();
    guest.wait_serial("two starts", |serial| serial.starts_with("00000700 00010000 00000700 "));
}

/// Of a board with hardware-reduced ACPI.
const EVENTS: u16 = 0x600;
const SLEEP_CONTROL: u16 = 0x601;
const SLEEP_S5: u32 = 5 << 2 | 1 << 5;

#[test]
fn a_microvm_takes_its_power_button_from_the_event_device() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.print("up\n");
        let again = asm.here();
        asm.read_port(Width::Byte, EVENTS).and_eax(1).jump_if_eax_is(0, again);
        asm.read_port(Width::Byte, EVENTS).and_eax(1).print_eax();
        asm.out(Width::Byte, SLEEP_CONTROL, SLEEP_S5).stop();
    });
    let mut rig = Rig::new(&kernel);
    rig.config.platform.machine = Machine::Microvm;
    let mut guest = rig.start();
    guest.wait_serial("the guest", |serial| serial == "up\n");
    let (mut client, _) = guest.greet();
    client.ask(Request::PowerButton).unwrap();
    let (_, record, serial) = guest.wait();
    assert_eq!((record.reason, serial.as_str()), (ExitReason::Shutdown, "up\n00000000"));
}

const PM_TIMER: u16 = 0x608;

/// kvmclock is all that a microvm measures time by, and a guest that is not told of KVM has none.
#[test]
fn a_microvm_has_the_timers_of_old_pcs_only_if_it_hides_kvm() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.read_port(Width::Dword, PM_TIMER).print_eax().stop();
    });
    for hidden in [false, true] {
        let mut rig = Rig::new(&kernel);
        rig.config.platform.machine = Machine::Microvm;
        rig.config.cpus.details.hide_kvm = hidden;
        let mut guest = rig.start();
        let serial = guest.wait_serial("the value", |serial| serial.len() == 8);
        assert_eq!(serial != "ffffffff", hidden, "{serial}");
    }
}
