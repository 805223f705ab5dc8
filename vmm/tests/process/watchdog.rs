//! A watchdog that nobody reloads, and what the machine does about it.

use baremetal::{Asm, Width, pvh};
use vmm_protocol::config::WatchdogAction;
use vmm_protocol::control::{EventKind, Request, RunState, StateReason};
use vmm_protocol::exit::ExitReason;

use crate::devices::{device, watchdog};
use crate::needs_kvm;
use crate::rig::{Guest, Rig};

const SLOT: u8 = 3;
const BAR: u32 = 0xc000_0000;
/// Of two stages of 31 ms each, by the fast clock.
const TICKS: u32 = 0x8000;

/// Sets the watchdog up as a driver does, and then forgets about it.
fn forgetful() -> Vec<u8> {
    pvh(|asm| {
        asm.pci_write(SLOT, 0, 0x10, BAR).pci_write(SLOT, 0, 0x04, 2);
        asm.pci_write(SLOT, 0, 0x60, 1 << 2 | 3);
        // Whether it was the cause of this start.
        asm.load(Width::Word, BAR + 0xc).and_eax(1 << 9).print_eax().print("\n");
        write(asm, Width::Word, 0xc, 1 << 9);
        write(asm, Width::Dword, 0, TICKS);
        write(asm, Width::Dword, 4, TICKS);
        asm.pci_write(SLOT, 0, 0x68, 2);
        let again = asm.here();
        asm.read_port(Width::Byte, 0x80).jump(again);
    })
}

fn write(asm: &mut Asm, width: Width, register: u32, value: u32) {
    asm.poke(Width::Byte, BAR + 0xc, 0x80).poke(Width::Byte, BAR + 0xc, 0x86);
    asm.poke(width, BAR + register, value);
}

fn start(action: WatchdogAction) -> Guest {
    let devices = vec![device("watchdog0", SLOT, watchdog(action))];
    Rig::new(&forgetful()).devices(devices).start()
}

fn bites(client: &mut crate::rig::Client, wanted: WatchdogAction) {
    client.event_like(
        |kind| matches!(kind, EventKind::Watchdog { id, action } if id == "watchdog0" && *action == wanted),
    );
}

#[test]
fn a_reset_starts_the_guest_anew_and_it_can_ask_why() {
    needs_kvm!();
    let mut guest = start(WatchdogAction::Reset);
    guest.wait_serial("two starts", |serial| serial.starts_with("00000000\n00000200\n"));
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    bites(&mut client, WatchdogAction::Reset);
    client.event_like(|kind| *kind == EventKind::Reset);
}

#[test]
fn poweroff_ends_the_guest() {
    needs_kvm!();
    let (_, record, _) = start(WatchdogAction::Poweroff).wait();
    assert_eq!(record.reason, ExitReason::Shutdown);
}

#[test]
fn pause_keeps_the_guest_and_says_so() {
    needs_kvm!();
    let guest = start(WatchdogAction::Pause);
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    bites(&mut client, WatchdogAction::Pause);
    client.event_like(|kind| *kind == EventKind::Paused);
    let status = guest.greet().1.status;
    assert_eq!((status.state, status.reason), (RunState::Paused, StateReason::Watchdog));
    client.ask(Request::Resume).unwrap();
    assert_eq!(guest.state(), RunState::Running);
}

#[test]
fn the_other_actions_let_the_guest_run_on() {
    needs_kvm!();
    for action in [WatchdogAction::None, WatchdogAction::Shutdown, WatchdogAction::InjectNmi] {
        let guest = start(action);
        let (mut client, _) = guest.greet();
        client.ask(Request::Events { after: 0 }).unwrap();
        bites(&mut client, action);
        if action == WatchdogAction::Shutdown {
            client.event_like(|kind| *kind == EventKind::PowerButton);
        }
        // A guest with nothing to take an NMI by ends as it likes.
        assert!(action == WatchdogAction::InjectNmi || guest.state() == RunState::Running);
    }
}
