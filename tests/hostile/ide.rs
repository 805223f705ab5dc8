//! Commands, bus master tables and resets of the IDE function that no driver would give (ATA8-ACS,
//! bus master IDE 1.0).

use baremetal::Width::{Byte, Dword, Word};
use vmm_protocol::config::Machine;

use crate::attack;
use crate::driver::Guest;
use crate::vm::Setup;

const DISK: u16 = 0x1f0;
const DRIVE: u16 = 0x170;
/// Of the bus master, eight ports for each channel.
const MASTER: u16 = 0xc000;
const TABLE: u32 = 0x160_0000;
const DATA: u32 = TABLE + 0x1_0000;
const BUSY: u32 = 0x80;

fn settle(guest: &mut Guest<'_>, ports: u16) {
    guest.wait("a drive that is not busy", 0, |asm| {
        asm.read_port(Byte, ports + 7).and_eax(BUSY);
    });
}

/// A soft reset of the channel.
fn reset(guest: &mut Guest<'_>, ports: u16) {
    guest.asm.out(Byte, ports + 0x206, 4).out(Byte, ports + 0x206, 0);
    settle(guest, ports);
}

fn command(guest: &mut Guest<'_>, ports: u16, lba: u32, count: u8, code: u8) {
    let [l0, l1, l2, l3] = lba.to_le_bytes();
    for (offset, value) in [(2, count), (3, l0), (4, l1), (5, l2), (6, 0xe0 | l3 & 0xf), (7, code)]
    {
        guest.asm.out(Byte, ports + offset, value.into());
    }
}

/// One read of a sector, by PIO.
fn works(guest: &mut Guest<'_>) {
    reset(guest, DISK);
    command(guest, DISK, 7, 1, 0x20);
    settle(guest, DISK);
    guest.asm.repeat(255, |asm| _ = asm.read_port(Word, DISK));
    guest.asm.read_port(Word, DISK);
    guest.expect("data of the IDE disk", 0x5a5a);
}

/// The bus master is told to go, and to stop a little later.
fn master(guest: &mut Guest<'_>, channel: u16, table: u32, write: bool) {
    let base = MASTER + 8 * channel;
    guest.asm.out(Byte, base + 2, 6).out(Dword, base + 4, table);
    guest.asm.out(Byte, base, u32::from(!write) << 3 | 1);
    guest.pause(20);
    guest.asm.out(Byte, base, 0);
}

#[test]
fn ide_commands_tables_and_resets_are_contained() {
    let setup = Setup { controllers: true, machine: Machine::Pc, ..Setup::default() };
    attack(setup, |guest, devices| {
        guest.asm.pci_write(1, 1, 0x20, MASTER.into()).pci_write(1, 1, 4, 5);
        works(guest);
        guest.asm.print("sectors beyond the disk\n");
        for (lba, count) in [(8192, 1), (8191, 2), (0xfff_ffff, 0), (8191, 0)] {
            for code in [0x20, 0x30, 0xc4, 0xc5, 0xc8, 0xca, 0x40] {
                command(guest, DISK, lba, count, code);
                settle(guest, DISK);
                guest.asm.read_port(Byte, DISK + 7).and_eax(1);
                guest.expect("an error of a command beyond the disk", 1);
            }
        }
        guest.asm.print("tables of the bus master\n");
        for (address, count, last) in [
            (0x9000_0000, 512, true),
            (0xfee0_0000, 0, true),
            (0xffff_fffe, 0xfffe, true),
            (DATA, 2, true),
            // Without an end.
            (DATA, 2, false),
        ] {
            guest.asm.sweep(TABLE, TABLE + 0x1_0000, 8, |asm| {
                asm.set_eax(address).store_there(Dword);
            });
            guest.asm.sweep(TABLE + 4, TABLE + 0x1_0004, 8, |asm| {
                asm.set_eax(count | u32::from(last) << 31).store_there(Dword);
            });
            for (code, write) in [(0xc8, false), (0xca, true)] {
                command(guest, DISK, 16, 0, code);
                master(guest, 0, TABLE, write);
                reset(guest, DISK);
            }
        }
        for table in [0x9000_0000, u32::MAX, 0x7fff_fffc, 0] {
            command(guest, DISK, 16, 8, 0xc8);
            master(guest, 0, table, false);
            reset(guest, DISK);
        }
        guest.asm.print("resets in the middle\n");
        for round in 0..60 {
            let code = [0x20, 0xc4, 0xc8, 0x30, 0xca, 0xec][round % 6];
            command(guest, DISK, 100, 0, code);
            if round % 3 == 0 {
                guest.asm.out(Dword, MASTER + 4, TABLE).out(Byte, MASTER, 9);
            }
            guest.asm.out(Byte, DISK + 0x206, 4).out(Byte, DISK + 0x206, 0);
        }
        settle(guest, DISK);
        works(guest);
        guest.asm.print("every command\n");
        for ports in [DISK, DRIVE] {
            for code in 0..=255 {
                guest.asm.out(Byte, ports + 1, 0xff);
                command(guest, ports, u32::MAX, 0xff, code);
                guest.asm.repeat(8, |asm| {
                    asm.out(Dword, ports, u32::MAX).read_port(Dword, ports).read_port(Byte, ports);
                });
                reset(guest, ports);
            }
        }
        guest.asm.print("every packet\n");
        for code in 0..=255_u8 {
            for by_master in [0, 1] {
                guest.asm.out(Byte, DRIVE + 1, by_master).out(Byte, DRIVE + 4, 1).out(
                    Byte,
                    DRIVE + 5,
                    0,
                );
                guest.asm.out(Byte, DRIVE + 6, 0xa0).out(Byte, DRIVE + 7, 0xa0);
                settle(guest, DRIVE);
                guest.asm.out(Word, DRIVE, u32::from(code) | 0xff00);
                guest.asm.repeat(5, |asm| _ = asm.out(Word, DRIVE, 0xff7f));
                guest.asm.out(Dword, MASTER + 12, TABLE).out(Byte, MASTER + 8, 9);
                guest.asm.repeat(8, |asm| _ = asm.read_port(Word, DRIVE));
                guest.asm.out(Byte, MASTER + 8, 0);
                reset(guest, DRIVE);
            }
        }
        works(guest);
        for device in devices {
            guest.works(device);
        }
    });
}
