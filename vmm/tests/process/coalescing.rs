//! Port writes that KVM keeps until the guest leaves for something else: fewer exits, and nothing
//! that a guest could tell the difference by.

use std::io::Write;

use baremetal::{Asm, Width, pvh};
use vmm_protocol::control::{ControlErrorCode, EventKind, Reply, Request};
use vmm_protocol::exit::ExitReason;

use crate::needs_kvm;
use crate::rig::{Guest, Rig};

const PCI_ADDRESS: u16 = 0xcf8;
/// Ids of the host bridge (slot 0) and of the LPC bridge (slot 0x1f).
const HOST_BRIDGE: u32 = 0x29c0_8086;
const LPC_BRIDGE: u32 = 0x2918_8086;

fn exits(guest: &Guest) -> u64 {
    let (mut client, _) = guest.greet();
    let Ok(Reply::Statistics(statistics)) = client.ask(Request::Statistics) else { panic!() };
    statistics.vcpus[0].exits
}

/// A byte of input for the serial port.
fn type_into(guest: &Guest) {
    let (mut client, _) = guest.greet();
    let console = Request::Console { id: "serial0".to_owned(), replay: false, force: false };
    client.ask(console).unwrap();
    client.stream.write_all(b"!").unwrap();
}

/// Print what EAX is when it is not `expected`.
fn expect(asm: &mut Asm, expected: u32) {
    let right = asm.label();
    asm.jump_if_eax_is(expected, right).print_eax().print(" is wrong\n").place(right);
}

/// Run `body` 500 times; its exits, all told.
fn exits_of(body: impl FnOnce(&mut Asm)) -> u64 {
    let kernel = pvh(|asm| {
        asm.repeat(500, body).print("done").stop();
    });
    let mut guest = Rig::new(&kernel).start();
    let serial = guest.wait_serial("the end", |serial| serial.ends_with("done"));
    assert_eq!(serial, "done");
    exits(&guest)
}

#[test]
fn pci_functions_are_found_with_one_exit_for_each_read() {
    needs_kvm!();
    let exits = exits_of(|asm| {
        asm.pci_read(0, 0, 0);
        expect(asm, HOST_BRIDGE);
        asm.pci_read(0x1f, 0, 0);
        expect(asm, LPC_BRIDGE);
    });
    assert!((1000..1050).contains(&exits), "{exits} exits for 1,000 reads");
}

#[test]
fn cmos_bytes_are_read_and_written_with_one_exit_each() {
    needs_kvm!();
    let exits = exits_of(|asm| {
        for (register, value) in [(0x50, 0x12), (0x51, 0x34)] {
            asm.out(Width::Byte, 0x70, register).out(Width::Byte, 0x71, value);
        }
        for (register, value) in [(0x50, 0x12), (0x51, 0x34)] {
            asm.out(Width::Byte, 0x70, register).read_port(Width::Byte, 0x71);
            expect(asm, value);
        }
    });
    assert!((2000..2050).contains(&exits), "{exits} exits for 2,000 accesses");
}

#[test]
fn the_last_write_counts_also_when_there_are_more_than_kvm_keeps() {
    needs_kvm!();
    for count in [2, 169, 170, 171, 1000] {
        let kernel = pvh(|asm| {
            let start = 1 << 31;
            asm.sweep(start, start + 4 * count, 4, |asm| {
                asm.eax_from_esi().write_port(Width::Dword, PCI_ADDRESS);
            });
            asm.read_port(Width::Dword, PCI_ADDRESS);
            expect(asm, start + 4 * (count - 1));
            asm.print("done").stop();
        });
        let mut guest = Rig::new(&kernel).start();
        let serial = guest.wait_serial("the end", |serial| serial.ends_with("done"));
        assert_eq!(serial, "done", "{count} writes");
        let exits = exits(&guest);
        assert!(exits < 8 + u64::from(count) / 100, "{exits} exits for {count} writes");
    }
}

#[test]
fn writes_of_other_widths_to_the_same_ports_keep_their_order() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        // Parts of the address register are not writable, but for the reset control byte.
        asm.out(Width::Dword, PCI_ADDRESS, 0x8000_1234);
        asm.out(Width::Word, PCI_ADDRESS, 0xffff).out(Width::Byte, 0xcf9, 2);
        asm.read_port(Width::Dword, PCI_ADDRESS);
        expect(asm, 0x8000_1234);
        asm.read_port(Width::Byte, 0xcf9);
        expect(asm, 2);
        // A write that reaches beyond the index is none that KVM keeps.
        asm.out(Width::Byte, 0x70, 0x50).out(Width::Byte, 0x71, 0x77);
        asm.out(Width::Byte, 0x70, 0x51).out(Width::Word, 0x70, 0x50);
        asm.out(Width::Byte, 0x70, 0x50).read_port(Width::Byte, 0x71);
        expect(asm, 0x77);
        asm.print("done").stop();
    });
    let mut guest = Rig::new(&kernel).start();
    let serial = guest.wait_serial("the end", |serial| serial.ends_with("done"));
    assert_eq!(serial, "done");
}

/// Writes the address register, waits for input without leaving the guest, and prints the register.
fn writing_and_waiting() -> Vec<u8> {
    pvh(|asm| {
        // The UART raises IRQ 4 for input; the PIC shows requests, masked or not. It is in the
        // kernel, so that looking at it is no exit.
        asm.out(Width::Byte, 0x3f9, 1).out(Width::Byte, 0x3fc, 8).out(Width::Byte, 0x20, 0x0a);
        asm.print("up\n").out(Width::Dword, PCI_ADDRESS, 0x8012_3454);
        let again = asm.here();
        asm.read_port(Width::Byte, 0x20).and_eax(1 << 4).jump_if_eax_is(0, again);
        asm.read_port(Width::Dword, PCI_ADDRESS).print_eax().print("\n").stop();
    })
}

#[test]
fn a_write_that_waits_is_part_of_the_saved_state() {
    needs_kvm!();
    let image = tempfile::tempfile().unwrap();
    let mut guest = Rig::new(&writing_and_waiting()).start();
    guest.wait_serial("the guest", |serial| serial == "up\n");
    let before = exits(&guest);
    let (mut client, _) = guest.greet();
    assert_eq!(client.save(&image).unwrap_err().code, ControlErrorCode::State, "it runs");
    client.ask(Request::Pause).unwrap();
    assert_eq!(client.save(&image), Ok(Reply::Done));
    assert_eq!(exits(&guest), before, "nothing but the pause made it leave");
    client.ask(Request::Destroy).unwrap();
    assert_eq!(guest.wait().1.reason, ExitReason::Saved);

    let mut guest = Rig::new(&writing_and_waiting()).restoring(&image).start();
    type_into(&guest);
    let serial = guest.wait_serial("the register", |serial| serial.ends_with('\n'));
    assert_eq!(serial, "80123454\n");
}

#[test]
fn a_reset_that_waits_comes_before_the_one_that_does_not_and_is_one_reset() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.read_port(Width::Dword, PCI_ADDRESS).print_eax().print("\n");
        let again = asm.here();
        asm.read_port(Width::Byte, 0x3fd).and_eax(1).jump_if_eax_is(0, again);
        // What is written after the reset is lost with it.
        asm.out(Width::Byte, 0xcf9, 6).out(Width::Dword, PCI_ADDRESS, 0x8000_0010);
        asm.out(Width::Byte, 0x64, 0xfe).stop();
    });
    let mut guest = Rig::new(&kernel).start();
    guest.wait_serial("the guest", |serial| serial == "00000000\n");
    type_into(&guest);
    let serial = guest.wait_serial("the second start", |serial| serial.lines().count() == 2);
    assert!(serial.starts_with("00000000\n0"), "{serial}");
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    client.ask(Request::Pause).unwrap();
    let mut resets = 0;
    loop {
        match client.event().kind {
            EventKind::Paused => break,
            EventKind::Reset => resets += 1,
            _ => {}
        }
    }
    assert_eq!(resets, 1);
    client.ask(Request::Resume).unwrap();
    guest.wait_serial("the register", |serial| serial == "00000000\n00000000\n");
}

/// Three CPUs under one lock, each leaving the guest outside of it, too: so each takes out writes of
/// the others.
#[test]
fn cpus_that_share_the_ports_under_a_lock_each_read_what_they_asked_for() {
    needs_kvm!();
    const LOCK: u16 = 0x2100;
    const WRONG: u16 = 0x2104;
    const ROUNDS: u16 = 0x2108;
    // Real mode, DS = 0.
    let [lock, wrong, rounds] = [LOCK, WRONG, ROUNDS].map(u16::to_le_bytes);
    let other = [
        &[0xb0, 1, 0x86, 0x06][..],
        &lock,                     // again: mov al, 1; xchg [LOCK], al
        &[0x84, 0xc0, 0x75, 0xf6], // test al, al; jnz again
        &[0xba, 0xf8, 0x0c, 0x66, 0xb8, 0x00, 0xf8, 0x00, 0x80], // mov dx, 0xcf8; mov eax, 1f:0
        &[0x66, 0xef, 0xba, 0xfc, 0x0c, 0x66, 0xed], // out dx, eax; mov dx, 0xcfc; in eax, dx
        &[0x66, 0x3d],
        &LPC_BRIDGE.to_le_bytes(),
        &[0x74, 4], // cmp eax, LPC_BRIDGE; je +4
        &[0xff, 0x06],
        &wrong, // inc word [WRONG]
        &[0xff, 0x06],
        &rounds, // inc word [ROUNDS]
        &[0xc6, 0x06],
        &lock,
        &[0],                // mov byte [LOCK], 0
        &[0xe4, 0x80, 0xeb], // in al, 0x80; jmp again
    ];
    let mut other = other.concat();
    other.push((other.len() + 1).wrapping_neg() as u8);

    let kernel = pvh(|asm| {
        for word in [LOCK, WRONG, ROUNDS] {
            asm.poke(Width::Dword, word.into(), 0);
        }
        asm.start_others(2, &[], &other);
        asm.repeat(5000, |asm| {
            let again = asm.here();
            // mov eax, 1; xchg [LOCK], eax
            asm.set_eax(1).raw(&[0x87, 0x05]).raw(&u32::from(LOCK).to_le_bytes());
            asm.jump_unless_eax_is(0, again);
            asm.pci_read(0, 0, 0);
            expect(asm, HOST_BRIDGE);
            asm.poke(Width::Dword, LOCK.into(), 0).read_port(Width::Byte, 0x80);
        });
        let more = asm.here();
        asm.load(Width::Word, ROUNDS.into()).and_eax(0xf000).jump_if_eax_is(0, more);
        asm.load(Width::Word, WRONG.into());
        expect(asm, 0);
        asm.print("done").stop();
    });
    let mut guest = Rig::new(&kernel).cpus(3).start();
    let serial = guest.wait_serial("the end", |serial| serial.ends_with("done"));
    assert_eq!(serial, "done");
}
