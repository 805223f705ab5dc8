//! Command lists, tables and registers of an AHCI adapter that no driver would write (AHCI 1.3.1).

use baremetal::Width::{Byte, Dword, Word};

use crate::attack;
use crate::driver::Guest;
use crate::vm::{AHCI, Setup};

const BAR: u32 = 0xc0b0_0000;
const GHC: u32 = BAR + 4;
/// Memory: the list, received FISes, the table of slot 0, data.
const LIST: u32 = 0x130_0000;
const RECEIVED: u32 = LIST + 0x1000;
const TABLE: u32 = LIST + 0x2000;
const DATA: u32 = LIST + 0x1_0000;

const READ: u8 = 0x25;
const WRITE: u8 = 0x35;
const READ_QUEUED: u8 = 0x60;
const PACKET: u8 = 0xa0;

fn port(number: u32) -> u32 {
    BAR + 0x100 + number * 0x80
}

/// The adapter as after its reset, with a port that runs.
fn bring_up(guest: &mut Guest<'_>, number: u32) {
    let port = port(number);
    guest.asm.poke(Dword, GHC, 0x8000_0001);
    guest.wait("the adapter's reset", 0, |asm| {
        asm.load(Dword, GHC).and_eax(1);
    });
    guest.asm.poke(Dword, GHC, 0x8000_0000);
    guest.asm.poke(Dword, port, LIST).poke(Dword, port + 4, 0);
    guest.asm.poke(Dword, port + 8, RECEIVED).poke(Dword, port + 12, 0);
    guest.asm.poke(Dword, port + 0x30, u32::MAX).poke(Dword, port + 0x10, u32::MAX);
    guest.asm.poke(Dword, port + 0x18, 0x10).poke(Dword, port + 0x18, 0x11);
}

/// Header and table of slot 0: one range of memory.
fn command(guest: &mut Guest<'_>, code: u8, lba: u64, count: u16, data: u64, len: u32) {
    guest.asm.poke(Dword, LIST, 5 | 1 << 16 | u32::from(code == WRITE) << 6);
    guest.asm.poke(Dword, LIST + 4, 0);
    guest.asm.poke(Dword, LIST + 8, TABLE).poke(Dword, LIST + 12, 0);
    let [l0, l1, l2, l3, l4, l5, _, _] = lba.to_le_bytes();
    let [c0, c1] = count.to_le_bytes();
    let features = u8::from(code == PACKET);
    let fis = [0x27, 0x80, code, features, l0, l1, l2, 0x40, l3, l4, l5, 0, c0, c1, 0, 0];
    for (at, byte) in (TABLE..).zip(fis) {
        guest.asm.poke(Byte, at, byte.into());
    }
    guest.asm.poke(Dword, TABLE + 0x80, data as u32);
    guest.asm.poke(Dword, TABLE + 0x84, (data >> 32) as u32);
    guest.asm.poke(Dword, TABLE + 0x8c, len.wrapping_sub(1));
}

/// Issue slot 0; it ends, well or not: 1 or 0 in EAX.
fn issue(guest: &mut Guest<'_>, number: u32) {
    let port = port(number);
    guest.asm.poke(Dword, port + 0x38, 1);
    let (done, failed) = (guest.asm.label(), guest.asm.label());
    let again = guest.asm.here();
    guest.asm.load(Dword, port + 0x38).and_eax(1).jump_if_eax_is(0, done);
    // Task file error, host bus fatal and data errors, overflow.
    guest.asm.load(Dword, port + 0x10).and_eax(0x7100_0000).jump_unless_eax_is(0, failed);
    guest.asm.jump(again);
    guest.asm.place(failed).set_eax(0);
    let end = guest.asm.label();
    guest.asm.jump(end).place(done).set_eax(1).place(end);
}

fn works(guest: &mut Guest<'_>) {
    bring_up(guest, 0);
    command(guest, READ, 7, 1, DATA.into(), 512);
    guest.asm.poke(Dword, DATA, 0);
    issue(guest, 0);
    guest.expect("a read of the SATA disk", 1);
    guest.asm.load(Dword, DATA);
    guest.expect("data of the SATA disk", 0x5a5a_5a5a);
}

#[test]
fn ahci_commands_that_make_no_sense_fail_and_the_adapter_goes_on() {
    attack(Setup { controllers: true, ..Setup::default() }, |guest, devices| {
        guest.asm.pci_write(AHCI, 0, 0x24, BAR).pci_write(AHCI, 0, 4, 6);
        works(guest);
        guest.asm.print("sectors beyond the disk\n");
        for (lba, count) in [(8192, 1), (8191, 2), ((1 << 48) - 1, 1), ((1 << 48) - 1, 0), (0, 0)] {
            for code in [READ, WRITE] {
                command(guest, code, lba, count, DATA.into(), 512);
                issue(guest, 0);
                guest.expect("a command beyond the disk", 0);
                bring_up(guest, 0);
            }
        }
        guest.asm.print("data in no memory\n");
        for data in [0x9000_0000, u64::from(BAR), 0xfee0_0000, u64::MAX - 511, 1 << 63, 1 << 40] {
            command(guest, READ, 0, 1, data, 512);
            issue(guest, 0);
            guest.expect("a read to no memory", 0);
            bring_up(guest, 0);
        }
        command(guest, READ, 0, 8, DATA.into(), 512);
        issue(guest, 0);
        guest.expect("a read of more than there is room for", 0);
        guest.asm.print("structures in no memory\n");
        for place in [0x9000_0000, BAR, 0xffff_fc00, 0x7fff_fc00] {
            bring_up(guest, 0);
            let port = port(0);
            guest.asm.poke(Dword, port + 0x18, 0x10);
            guest.asm.poke(Dword, port, place).poke(Dword, port + 8, place);
            guest.asm.poke(Dword, port + 4, u32::MAX).poke(Dword, port + 12, u32::MAX);
            guest.asm.poke(Dword, port + 0x18, 0x11);
            guest.asm.poke(Dword, port + 0x38, u32::MAX).poke(Dword, port + 0x34, u32::MAX);
            guest.pause(20);
        }
        // A table over the list, of all entries, the last behind the end of memory.
        for table in [LIST, 0x7fff_ff00] {
            bring_up(guest, 0);
            command(guest, READ, 0, 1, DATA.into(), 512);
            guest.asm.poke(Dword, LIST, 0xffff_0005).poke(Dword, LIST + 8, table);
            guest.asm.poke(Dword, port(0) + 0x38, 1);
            guest.pause(50);
        }
        works(guest);
        for device in devices {
            guest.works(device);
        }
    });
}

#[test]
fn ahci_queues_packets_and_resets_are_contained() {
    attack(Setup { controllers: true, ..Setup::default() }, |guest, devices| {
        guest.asm.pci_write(AHCI, 0, 0x24, BAR).pci_write(AHCI, 0, 4, 6);
        works(guest);
        guest.asm.print("every slot at once\n");
        for (active, code) in
            [(0, READ), (u32::MAX, READ_QUEUED), (u32::MAX, READ), (0, READ_QUEUED)]
        {
            bring_up(guest, 0);
            command(guest, code, 0, 0x80, DATA.into(), 0x1_0000);
            for slot in 1..32 {
                let header = LIST + 32 * slot;
                guest.asm.poke(Dword, header, 5 | 1 << 16).poke(Dword, header + 8, TABLE);
                guest.asm.poke(Dword, header + 12, 0);
            }
            let port = port(0);
            guest.asm.poke(Dword, port + 0x34, active).poke(Dword, port + 0x38, u32::MAX);
            guest.pause(5);
            // Stopped, started and issued again while it works.
            guest.asm.poke(Dword, port + 0x18, 0x10).poke(Dword, port + 0x18, 0x11);
            guest.asm.poke(Dword, port + 0x38, u32::MAX);
        }
        guest.asm.print("resets in the middle\n");
        for round in 0..40 {
            bring_up(guest, 0);
            command(guest, READ, 0, 0x80, DATA.into(), 0x1_0000);
            guest.asm.poke(Dword, port(0) + 0x38, 1);
            match round % 4 {
                // Of the device, of the port, of bus mastering.
                0 => _ = guest.asm.poke(Dword, port(0) + 0x2c, 1).poke(Dword, port(0) + 0x2c, 0),
                1 => _ = guest.asm.poke(Dword, port(0) + 0x18, 0),
                2 => _ = guest.asm.pci_write(AHCI, 0, 4, 2).pci_write(AHCI, 0, 4, 6),
                _ => {}
            }
        }
        guest.asm.print("packets\n");
        for code in 0..=255_u8 {
            bring_up(guest, 1);
            command(guest, PACKET, 0x00ff_ff00, 0, DATA.into(), 0x1000);
            guest.asm.poke(Dword, LIST, 5 | 1 << 5 | 1 << 16);
            for at in 0..4 {
                guest.asm.poke(Dword, TABLE + 0x40 + 4 * at, 0x7fff_ff7f);
            }
            guest.asm.poke(Byte, TABLE + 0x40, code.into());
            issue(guest, 1);
        }
        guest.asm.print("every register\n");
        for value in [u32::MAX, 0, 0xa5a5_a5a5] {
            guest.asm.sweep(BAR, BAR + 0x400, 4, |asm| {
                asm.set_eax(value).store_there(Dword).load_there(Dword);
                asm.store_there(Word).store_there(Byte).load_there(Byte);
            });
        }
        guest.asm.pci_write(AHCI, 0, 4, 6);
        works(guest);
        for device in devices {
            guest.works(device);
        }
    });
}
