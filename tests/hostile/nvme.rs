//! Queues, doorbells and commands of an NVMe controller that no driver would write (NVMe 1.4).

use baremetal::Width::{Byte, Dword, Word};

use crate::attack;
use crate::driver::Guest;
use crate::vm::{NVME, Setup};

const BAR: u32 = 0xc0c0_0000;
const CC: u32 = BAR + 0x14;
const CSTS: u32 = BAR + 0x1c;
const DOORBELLS: u32 = BAR + 0x1000;
/// Memory: submissions and completions of both queues, lists of pages, data.
const SUBMISSIONS: u32 = 0x140_0000;
const COMPLETIONS: u32 = SUBMISSIONS + 0x4000;
const PAGES: u32 = SUBMISSIONS + 0x8000;
const DATA: u32 = SUBMISSIONS + 0x1_0000;
const ENTRIES: u32 = 64;

const READ: u32 = 0x02;
const WRITE: u32 = 0x01;
const DATASET: u32 = 0x09;

/// How many commands each queue has had since it was made.
#[derive(Default)]
struct Driver {
    counts: [u32; 2],
}

impl Driver {
    fn disable(&mut self, guest: &mut Guest<'_>) {
        guest.asm.poke(Dword, CC, 0);
        guest.wait("the controller's reset", 0, |asm| {
            asm.load(Dword, CSTS).and_eax(1);
        });
        self.counts = [0; 2];
    }

    fn bring_up(&mut self, guest: &mut Guest<'_>) {
        self.disable(guest);
        guest.asm.sweep(COMPLETIONS, COMPLETIONS + 0x2000, 4, |asm| {
            asm.set_eax(0).store_there(Dword);
        });
        guest.asm.poke(Dword, BAR + 0x24, (ENTRIES - 1) << 16 | (ENTRIES - 1));
        guest.asm.poke(Dword, BAR + 0x28, SUBMISSIONS).poke(Dword, BAR + 0x2c, 0);
        guest.asm.poke(Dword, BAR + 0x30, COMPLETIONS).poke(Dword, BAR + 0x34, 0);
        guest.asm.poke(Dword, CC, 0x0046_0001);
        guest.wait("the controller", 1, |asm| {
            asm.load(Dword, CSTS);
        });
        let size = (ENTRIES - 1) << 16;
        self.command(guest, 0, &[(0, 5), (6, COMPLETIONS + 0x1000), (10, size | 1), (11, 1)]);
        guest.expect("status of a new queue", 0);
        let place = SUBMISSIONS + 0x1000;
        self.command(guest, 0, &[(0, 1), (6, place), (10, size | 1), (11, 1 << 16 | 1)]);
        guest.expect("status of a new queue", 0);
    }

    /// Write an entry, without the doorbell.
    fn entry(&mut self, guest: &mut Guest<'_>, queue: u32, dwords: &[(u32, u32)]) {
        let count = &mut self.counts[queue as usize];
        let entry = SUBMISSIONS + 0x1000 * queue + 64 * (*count % ENTRIES);
        *count += 1;
        for index in 0..16 {
            guest.asm.poke(Dword, entry + 4 * index, 0);
        }
        for (index, value) in dwords {
            guest.asm.poke(Dword, entry + 4 * index, *value);
        }
    }

    fn ring(&self, guest: &mut Guest<'_>, queue: u32) {
        let tail = self.counts[queue as usize] % ENTRIES;
        guest.asm.poke(Dword, DOORBELLS + 8 * queue, tail);
    }

    /// A command and its status, without "do not retry", in EAX.
    fn command(&mut self, guest: &mut Guest<'_>, queue: u32, dwords: &[(u32, u32)]) {
        let number = self.counts[queue as usize];
        self.entry(guest, queue, dwords);
        self.ring(guest, queue);
        let status = COMPLETIONS + 0x1000 * queue + 16 * (number % ENTRIES) + 14;
        // The phase is another one in each lap.
        let phase = 1 - number / ENTRIES % 2;
        guest.wait("a completion", phase, |asm| {
            asm.load(Word, status).and_eax(1);
        });
        guest.asm.poke(Dword, DOORBELLS + 8 * queue + 4, self.counts[queue as usize] % ENTRIES);
        guest.asm.load(Word, status).and_eax(0xffe);
    }

    fn works(&mut self, guest: &mut Guest<'_>) {
        self.bring_up(guest);
        guest.asm.poke(Dword, DATA, 0);
        self.command(guest, 1, &[(0, READ), (1, 1), (6, DATA), (10, 7)]);
        guest.expect("status of an NVMe read", 0);
        guest.asm.load(Dword, DATA);
        guest.expect("data of the NVMe disk", 0x5a5a_5a5a);
    }

    /// A command that the device refuses, somehow.
    fn refused(&mut self, guest: &mut Guest<'_>, queue: u32, dwords: &[(u32, u32)]) {
        self.command(guest, queue, dwords);
        let good = guest.asm.label();
        guest.asm.jump_unless_eax_is(0, good);
        guest.expect("a status other than success", 1);
        guest.asm.place(good);
    }
}

#[test]
fn nvme_commands_that_make_no_sense_are_refused() {
    attack(Setup { controllers: true, ..Setup::default() }, |guest, devices| {
        guest.asm.pci_write(NVME, 0, 0x10, BAR).pci_write(NVME, 0, 0x14, 0);
        guest.asm.pci_write(NVME, 0, 4, 6);
        let mut driver = Driver::default();
        driver.works(guest);
        guest.asm.print("blocks beyond the disk\n");
        for (low, high, count) in [
            (8192, 0, 0),
            (8191, 0, 1),
            (u32::MAX, u32::MAX, 0xffff),
            (0, 1 << 31, 0),
            (0, 0, 0xffff),
        ] {
            for opcode in [READ, WRITE, 0x08] {
                let dwords = [(0, opcode), (1, 1), (6, DATA), (10, low), (11, high), (12, count)];
                driver.refused(guest, 1, &dwords);
            }
        }
        for namespace in [0, 2, 0xffff, u32::MAX] {
            driver.refused(guest, 1, &[(0, READ), (1, namespace), (6, DATA)]);
        }
        guest.asm.print("pages in no memory\n");
        for (low, high) in
            [(0x9000_0000, 0), (BAR, 0), (0, u32::MAX), (0xffff_f000, u32::MAX), (1, 0)]
        {
            driver.refused(guest, 1, &[(0, READ), (1, 1), (6, low), (7, high), (12, 7)]);
        }
        // A list whose last entry leads to itself, and one that cannot be read.
        guest.asm.sweep(PAGES, PAGES + 0x1000, 8, |asm| {
            asm.set_eax(DATA).store_there(Dword);
        });
        guest.asm.poke(Dword, PAGES + 0xff8, PAGES);
        for list in [PAGES, 0x9000_0000, PAGES + 4, PAGES + 0xff8] {
            let dwords = [(0, READ), (1, 1), (6, DATA), (8, list), (12, 0x7ff)];
            driver.command(guest, 1, &dwords);
        }
        driver.refused(guest, 1, &[(0, READ), (1, 1), (6, DATA), (8, PAGES), (12, 0xffff)]);
        // Ranges beyond the disk, and a list of them in no memory.
        guest.asm.sweep(DATA, DATA + 0x1000, 4, |asm| {
            asm.set_eax(u32::MAX).store_there(Dword);
        });
        driver.refused(guest, 1, &[(0, DATASET), (1, 1), (6, DATA), (10, 0xff), (11, 4)]);
        driver.refused(guest, 1, &[(0, DATASET), (1, 1), (6, 0x9000_0000), (10, 0xff), (11, 4)]);
        guest.asm.print("queues that cannot be\n");
        for (ten, eleven) in [
            (2, 1),
            (0xffff_0002, 1),
            (0x003f_ffff, 1),
            (0x003f_0000, 1),
            (0x003f_0001, 1),
            (0x003f_0002, 0),
            (0x003f_0002, 0xffff_0003),
        ] {
            for opcode in [1, 5] {
                let dwords = [(0, opcode), (6, PAGES), (10, ten), (11, eleven)];
                driver.refused(guest, 0, &dwords);
            }
            driver.bring_up(guest);
        }
        for opcode in [0, 4] {
            for number in [0, 2, 0xffff] {
                driver.refused(guest, 0, &[(0, opcode), (10, number)]);
            }
        }
        // All other admin commands with rubbish behind them; those for events are not answered.
        for opcode in (0..=255).filter(|opcode| !matches!(opcode, 0x00 | 0x01 | 0x04 | 0x05 | 0x0c))
        {
            let mut dwords = vec![(0, opcode), (1, u32::MAX)];
            dwords.extend((6..16).map(|index| (index, u32::MAX)));
            driver.command(guest, 0, &dwords);
        }
        driver.works(guest);
        for device in devices {
            guest.works(device);
        }
    });
}

#[test]
fn nvme_doorbells_registers_and_resets_are_contained() {
    attack(Setup { controllers: true, ..Setup::default() }, |guest, devices| {
        guest.asm.pci_write(NVME, 0, 0x10, BAR).pci_write(NVME, 0, 0x14, 0);
        guest.asm.pci_write(NVME, 0, 4, 6);
        let mut driver = Driver::default();
        guest.asm.print("doorbells\n");
        for up in [false, true] {
            if up {
                driver.works(guest);
            }
            for value in [u32::MAX, ENTRIES, 0x1_0000, ENTRIES - 1] {
                guest.asm.sweep(DOORBELLS, DOORBELLS + 0x400, 4, |asm| {
                    asm.set_eax(value).store_there(Dword).store_there(Word).store_there(Byte);
                });
            }
        }
        driver.works(guest);
        guest.asm.print("queues in no memory\n");
        for (place, sizes) in [
            (0x9000_0000, 0x3f_003f),
            (BAR, 0x3f_003f),
            (0xffff_f000, 0xfff_0fff),
            (DATA, 0),
            (0, 0x3f_003f),
        ] {
            driver.disable(guest);
            guest.asm.poke(Dword, BAR + 0x24, sizes);
            guest.asm.poke(Dword, BAR + 0x28, place).poke(Dword, BAR + 0x30, place);
            guest.asm.poke(Dword, BAR + 0x2c, 0).poke(Dword, BAR + 0x34, 0);
            guest.asm.poke(Dword, CC, 0x0046_0001);
            guest.asm.poke(Dword, DOORBELLS, 1);
            guest.pause(20);
        }
        guest.asm.print("resets with commands in flight\n");
        for round in 0..30 {
            driver.bring_up(guest);
            for number in 0..32 {
                driver.entry(guest, 1, &[(0, READ), (1, 1), (6, DATA), (10, number), (12, 0)]);
            }
            driver.ring(guest, 1);
            if round % 2 == 0 {
                guest.asm.pci_write(NVME, 0, 4, 2).pci_write(NVME, 0, 4, 6);
            }
        }
        driver.works(guest);
        // Completions that nobody takes, until there is no room.
        for number in 0..ENTRIES - 1 {
            driver.entry(guest, 1, &[(0, READ), (1, 1), (6, DATA), (10, number)]);
        }
        driver.ring(guest, 1);
        guest.pause(50);
        guest.asm.print("every register\n");
        for value in [u32::MAX, 0, 0xa5a5_a5a5] {
            guest.asm.sweep(BAR, BAR + 0x4000, 4, |asm| {
                asm.set_eax(value).store_there(Dword).load_there(Dword);
                asm.store_there(Word).store_there(Byte).load_there(Byte);
            });
        }
        driver.works(guest);
        for device in devices {
            guest.works(device);
        }
    });
}
