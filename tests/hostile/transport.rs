//! Registers, BARs and interrupts of the PCI transport, used as no driver would.

use baremetal::Width::{Byte, Dword, Qword, Word};

use crate::attack;
use crate::driver::{BAR_SIZE, MSIX_TABLE, NEEDS_RESET, NOTIFY, RUNNING, VERSION_1, common};
use crate::vm::Setup;

/// The capability by which configuration space reaches into the BAR: where the transport puts it.
const WINDOW: u8 = 0x90;
const MSIX: u8 = 0x40;

#[test]
fn queues_are_frozen_while_they_run() {
    attack(Setup::default(), |guest, devices| {
        guest.case("queues set up anew while running", devices, &[], |guest, device| {
            for (index, ring) in (0..).zip(device.rings.clone()) {
                guest.write(device, Word, common::QUEUE_SELECT, index);
                guest.write(device, Word, common::QUEUE_SIZE, 4);
                guest.reads(device, "queue size", Word, common::QUEUE_SIZE, ring.max.into());
                guest.write(device, Word, common::QUEUE_ENABLE, 0);
                guest.reads(device, "queue enable", Word, common::QUEUE_ENABLE, 1);
                let fields = [
                    (common::DESCRIPTORS, ring.descriptors()),
                    (common::AVAILABLE, ring.avail()),
                    (common::USED, ring.used_ring()),
                ];
                for (register, value) in fields {
                    guest.write_u64(device, register, 0xffff_ffff_dead_0000);
                    guest.reads(device, "ring, low half", Dword, register, value);
                    guest.reads(device, "ring, high half", Dword, register + 4, 0);
                }
                guest.write(device, Word, common::QUEUE_VECTOR, 0x7ff);
                guest.reads(device, "vector", Word, common::QUEUE_VECTOR, 0xffff);
            }
            guest.write(device, Dword, common::DRIVER_FEATURE, u32::MAX);
            // No reset in between: it works on.
            guest.works(device);
        });
        guest.case("queues of impossible sizes", devices, &[], |guest, device| {
            guest.negotiate(device);
            guest.write(device, Word, common::QUEUE_SELECT, 0);
            let max = u32::from(device.rings[0].max);
            for size in [0, 3, max - 1, max + 1, 2 * max, 0x8000, 0xffff] {
                guest.write(device, Word, common::QUEUE_SIZE, size);
                guest.reads(device, "queue size", Word, common::QUEUE_SIZE, max);
            }
        });
        guest.case("a queue of one", devices, &[], |guest, device| {
            guest.negotiate(device);
            for ring in &mut device.rings {
                ring.size = 1;
            }
            for index in 0..device.rings.len() {
                guest.set_up_queue(device, index);
            }
            guest.go(device);
            guest.offer_busy(device);
            guest.kick(device, device.queue());
            guest.pause(30);
            for ring in &mut device.rings {
                ring.size = ring.max;
            }
        });
        guest.case("queues that do not exist", devices, &[], |guest, device| {
            for select in [0x7f, 0x8000, 0xffff] {
                guest.write(device, Word, common::QUEUE_SELECT, select);
                for at in (0x18..0x40).step_by(2) {
                    guest.write(device, Word, at, 1);
                    guest.write(device, Dword, at, u32::MAX);
                }
                guest.reads(device, "size of no queue", Word, common::QUEUE_SIZE, 0);
                guest.reads(device, "vector of no queue", Word, common::QUEUE_VECTOR, 0xffff);
                guest.reads(device, "enable of no queue", Word, common::QUEUE_ENABLE, 0);
            }
            for queue in [2, 3, 0x100, 0x3ff] {
                guest.write(device, Word, NOTIFY + 4 * queue, queue);
            }
            guest.works(device);
        });
    });
}

#[test]
fn a_status_that_jumps_about_is_contained() {
    attack(Setup::default(), |guest, devices| {
        guest.case("states skipped", devices, &[], |guest, device| {
            for status in [4, 8, 0xc, 5, 9, 0xf, 0x7f, 0x80, 0xff] {
                guest.reset(device);
                guest.write(device, Byte, common::STATUS, status);
                guest.kick(device, device.queue());
                guest.read(device, Byte, common::STATUS);
                guest.asm.and_eax(4);
                guest.expect("a device without features that runs", 0);
            }
        });
        guest.case("features nobody offered", devices, &[], |guest, device| {
            for features in [0, 1, u64::MAX, VERSION_1 | 1 << 63, VERSION_1 | 1 << 40] {
                guest.reset(device);
                guest.write(device, Byte, common::STATUS, 3);
                for half in 0..2 {
                    guest.write(device, Dword, common::DRIVER_FEATURE_SELECT, half);
                    let bits = (features >> (32 * half)) as u32;
                    guest.write(device, Dword, common::DRIVER_FEATURE, bits);
                }
                for select in [2, 3, 0x8000_0000, u32::MAX] {
                    guest.write(device, Dword, common::DRIVER_FEATURE_SELECT, select);
                    guest.write(device, Dword, common::DRIVER_FEATURE, 0);
                }
                guest.write(device, Byte, common::STATUS, 0xb);
                guest.reads(device, "status with bad features", Byte, common::STATUS, 3);
                guest.write(device, Byte, common::STATUS, RUNNING);
                guest.reads(device, "status without features", Byte, common::STATUS, 3);
            }
        });
        guest.case("bits cleared, and set by the driver", devices, &[], |guest, device| {
            for status in [1, 3, 0xb, 0xe, 7] {
                guest.write(device, Byte, common::STATUS, status);
                guest.reads(device, "status", Byte, common::STATUS, RUNNING);
            }
            guest.write(device, Byte, common::STATUS, RUNNING | NEEDS_RESET);
            guest.reads(device, "status", Byte, common::STATUS, RUNNING);
            guest.works(device);
            guest.write(device, Byte, common::STATUS, 0x80 | RUNNING);
            guest.write(device, Byte, common::STATUS, 0xff);
        });
        guest.case("started without queues", devices, &[], |guest, device| {
            guest.negotiate(device);
            guest.go(device);
            guest.kick(device, 0);
            guest.kick(device, 1);
        });
        guest.case("started over and over", devices, &[], |guest, device| {
            guest.negotiate(device);
            for index in 0..device.rings.len() {
                guest.set_up_queue(device, index);
            }
            for _ in 0..16 {
                guest.go(device);
                guest.offer_busy(device);
                guest.kick(device, device.queue());
            }
            for _ in 0..16 {
                guest.write(device, Byte, common::STATUS, 0);
            }
        });
    });
}

#[test]
fn accesses_of_every_size_and_alignment_are_contained() {
    attack(Setup::default(), |guest, devices| {
        guest.case("all of the BAR, unaligned", devices, &[], |guest, device| {
            let bar = device.bar;
            // Everything that means something, byte by byte, and the rest with a coarse comb.
            let parts = [(0, 0x60, 1), (0xff0, 0x1010, 1), (0x2000, 0x2050, 1)];
            let more = [(0x2ff8, 0x3010, 1), (MSIX_TABLE - 8, MSIX_TABLE + 0x48, 1)];
            let rest = [(0x5ff8, 0x6010, 1), (0x7ff0, BAR_SIZE, 1), (0, BAR_SIZE, 509)];
            for (start, end, step) in parts.into_iter().chain(more).chain(rest) {
                guest.asm.sweep(bar + start, bar + end, step, |asm| {
                    for width in [Byte, Word, Dword, Qword] {
                        asm.load_there(width);
                    }
                    for value in [u32::MAX, 0, 0x8001_0003] {
                        for width in [Byte, Word, Dword, Qword] {
                            asm.set_eax(value).store_there(width);
                        }
                    }
                });
            }
        });
        guest.case("all of configuration space", devices, &[], |guest, device| {
            let page = 0xb000_0000 + (u32::from(device.slot) << 15);
            guest.asm.sweep(page - 4, page + 0x110, 1, |asm| {
                for width in [Byte, Word, Dword, Qword] {
                    asm.load_there(width);
                }
                for value in [u32::MAX, 0, 0x1234_5678] {
                    for width in [Byte, Word, Dword, Qword] {
                        asm.set_eax(value).store_there(width);
                    }
                }
            });
            guest.place(device);
        });
        guest.case("the window into the BAR", devices, &[], |guest, device| {
            guest.asm.pci_read(device.slot, 0, WINDOW).and_eax(0xff00_00ff);
            guest.expect("capability of configuration access", 0x0500_0009);
            for bar in [0, 1, 5, 0xff] {
                for (offset, len) in [
                    (0x14, 1),
                    (0, 0),
                    (0, 3),
                    (0, 8),
                    (0, u32::MAX),
                    (1, 4),
                    (0x7ffc, 4),
                    (0x7ffd, 4),
                    (0x7ffe, 2),
                    (0x8000, 4),
                    (u32::MAX, 1),
                    (u32::MAX - 3, 4),
                    (0x3000, 2),
                    (0x3ffc, 4),
                    (0x4000, 4),
                ] {
                    guest.asm.pci_write(device.slot, 0, WINDOW + 4, bar);
                    guest.asm.pci_write(device.slot, 0, WINDOW + 8, offset);
                    guest.asm.pci_write(device.slot, 0, WINDOW + 12, len);
                    guest.asm.pci_read(device.slot, 0, WINDOW + 16);
                    guest.asm.pci_write(device.slot, 0, WINDOW + 16, u32::MAX);
                    // Less than the width that was set up, and beside it.
                    for port in 0xcfc..=0xcff {
                        guest.asm.read_port(Byte, port).out(Byte, port, 0xff);
                    }
                    guest.asm.read_port(Word, 0xcfd).out(Dword, 0xcfe, u32::MAX);
                }
            }
        });
    });
}

#[test]
fn bars_that_move_while_requests_run_are_contained() {
    attack(Setup::default(), |guest, devices| {
        let other = devices[0].bar;
        guest.case("BARs where they cannot be", devices, &[], |guest, device| {
            let own = u64::from(device.bar);
            let places = [
                0,
                0x10_0000,
                u64::from(device.buffers),
                u64::from(other),
                u64::from(other) + 0x8000,
                0xb000_0000,
                0xfec0_0000,
                0xfee0_0000,
                0xffff_8000,
                (1 << 32) + 0x1_0000,
                1 << 45,
                0xffff_ffff_ffff_8000,
                own,
            ];
            for place in places {
                for _ in 0..8 {
                    guest.offer_busy(device);
                }
                guest.kick(device, device.queue());
                guest.move_bar(device, place);
                // RAM is still RAM, and others answer where they were.
                guest.asm.poke(Dword, device.buffers, 0x1234_5678).load(Dword, device.buffers);
                guest.expect("RAM below a BAR", 0x1234_5678);
                guest.place(device);
                guest.kick(device, device.queue());
                guest.bring_up(device);
            }
            // Half of a move is a place, too.
            guest.asm.pci_write(device.slot, 0, 0x14, 0xffff_ffff);
            guest.asm.pci_write(device.slot, 0, 0x10, 0);
            guest.asm.pci_write(device.slot, 0, 0x14, 0);
            guest.place(device);
        });
        guest.case("decoding on and off", devices, &[], |guest, device| {
            for _ in 0..32 {
                guest.offer_busy(device);
            }
            let (slot, doorbell) = (device.slot, device.bar + NOTIFY);
            guest.asm.repeat(200, |asm| {
                asm.pci_write(slot, 0, 4, 0).poke(Word, doorbell, 0).poke(Word, doorbell + 4, 1);
                asm.pci_write(slot, 0, 4, 2).poke(Word, doorbell, 0).poke(Word, doorbell + 4, 1);
            });
            guest.place(device);
        });
    });
}

#[test]
fn storms_of_interrupts_and_kicks_are_contained() {
    attack(Setup::default(), |guest, devices| {
        guest.case("vectors masked and moved in a storm", devices, &[], |guest, device| {
            let queue = device.queue();
            guest.negotiate(device);
            for index in 0..device.rings.len() {
                guest.set_up_queue(device, index);
                guest.write(device, Word, common::QUEUE_VECTOR, 1);
            }
            guest.go(device);
            // Interrupts wanted.
            guest.asm.poke(Word, device.ring().avail(), 0);
            let (slot, table) = (device.slot, device.bar + MSIX_TABLE + 16);
            let doorbell = device.bar + NOTIFY + 4 * u32::from(queue);
            for _ in 0..64 {
                guest.offer_busy(device);
            }
            guest.asm.repeat(50, |asm| {
                for (address, data) in
                    [(0xfee0_0000, 0x40), (0, 0), (0xfec0_0000, 0xffff_ffff), (0xffff_fffc, 0xff)]
                {
                    asm.pci_write(slot, 0, MSIX, 0x8000_0000);
                    asm.poke(Dword, table, address).poke(Dword, table + 4, 0);
                    asm.poke(Dword, table + 8, data).poke(Dword, table + 12, 0);
                    asm.poke(Word, doorbell, 0);
                    asm.pci_write(slot, 0, MSIX, 0xc000_0000);
                    asm.poke(Dword, table + 12, 1).poke(Dword, table + 12, 0);
                    asm.poke(Word, doorbell, 0);
                    asm.pci_write(slot, 0, MSIX, 0);
                    asm.load(Dword, table - 16 + 0x2000);
                }
            });
        });
        guest.case("kicks in a storm", devices, &[], |guest, device| {
            let bar = device.bar;
            guest.asm.repeat(5_000, |asm| {
                for queue in 0..3 {
                    asm.poke(Word, bar + NOTIFY + 4 * queue, queue);
                }
            });
            guest.works(device);
        });
        guest.case("an available index that runs to and fro", devices, &[], |guest, device| {
            let (avail, doorbell) = (device.ring().avail() + 2, device.bar + NOTIFY);
            guest.asm.repeat(2_000, |asm| {
                asm.poke(Word, avail, 0x100).poke(Word, doorbell, 0).poke(Word, doorbell + 4, 1);
                asm.poke(Word, avail, 0).poke(Word, doorbell, 0).poke(Word, doorbell + 4, 1);
            });
        });
    });
}
