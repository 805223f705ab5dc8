//! Rings and descriptor chains that break the rules of virtio 1.2 §2.7.

use baremetal::Width::{Byte, Dword, Word};

use crate::attack;
use crate::driver::{
    Buffer, Device, EVENT_IDX, Guest, INDIRECT, Kind, NEXT, RUNNING, WRITE, common,
};
use crate::vm::Setup;

/// Where low RAM ends and where it goes on.
const LOW_END: u64 = 2 << 30;
const HIGH: u64 = 4 << 30;
const HIGH_END: u64 = HIGH + (64 << 20);
const LAPIC: u64 = 0xfee0_0000;
const IOAPIC: u64 = 0xfec0_0000;

/// What `attack` leaves on the queue breaks the device, and a reset mends it.
fn breaks(
    guest: &mut Guest<'_>,
    device: &mut Device,
    attack: impl FnOnce(&mut Guest<'_>, &mut Device),
) {
    attack(guest, device);
    guest.kick(device, device.queue());
    guest.wait_broken(device);
    guest.bring_up(device);
}

/// One chain of one descriptor table entry that `next` follows, at head 0.
fn one_descriptor(guest: &mut Guest<'_>, device: &mut Device, buffer: Buffer, next: u16) {
    let table = device.ring().descriptors();
    guest.descriptor(table, 0, buffer, next);
    guest.offer(device.ring(), 0);
}

fn direction(device: &Device) -> u16 {
    if device.fills() { WRITE } else { 0 }
}

#[test]
fn available_rings_that_lie_break_their_device_alone() {
    attack(Setup::default(), |guest, devices| {
        for features in [0, EVENT_IDX] {
            devices.iter_mut().for_each(|device| device.features |= features);
            guest.case("available index beyond the queue size", devices, &[], |guest, device| {
                guest.bring_up(device);
                for jump in [257_u16, 0x7fff, 0xffff] {
                    breaks(guest, device, |guest, device| {
                        let ring = device.ring();
                        let index = ring.available.wrapping_add(jump);
                        guest.asm.poke(Word, ring.avail() + 2, index.into());
                    });
                }
            });
        }
        guest.case("heads beyond the queue size", devices, &[], |guest, device| {
            for head in [256, 257, 0x8000, 0xffff] {
                breaks(guest, device, |guest, device| guest.offer(device.ring(), head));
            }
        });
        // The disk has the first of them in flight when the second comes.
        guest.case("the same head twice", devices, &[], |guest, device| {
            let (data, flags) = (device.buffers.into(), direction(device));
            for _ in 0..8 {
                guest.offer_chain(device.ring(), &[(data, 16, flags), (data + 64, 1, WRITE)]);
                for _ in 0..16 {
                    guest.offer(device.ring(), 0);
                }
                guest.kick(device, device.queue());
                guest.pause(20);
                guest.bring_up(device);
            }
        });
        guest.case("rings outside RAM", devices, &[], |guest, device| {
            let bar = u64::from(device.bar);
            let places = [LOW_END, LOW_END - 16, LOW_END - 2, HIGH_END - 4, u64::MAX - 15];
            for place in places.into_iter().chain([bar, LAPIC, IOAPIC, 1, HIGH_END]) {
                for register in [common::DESCRIPTORS, common::AVAILABLE, common::USED] {
                    guest.negotiate(device);
                    let queue = device.queue();
                    guest.write(device, Word, common::QUEUE_SELECT, queue.into());
                    let ring = device.ring().clone();
                    guest.write_u64(device, common::DESCRIPTORS, ring.descriptors().into());
                    guest.write_u64(device, common::AVAILABLE, ring.avail().into());
                    guest.write_u64(device, common::USED, ring.used_ring().into());
                    guest.write_u64(device, register, place);
                    guest.write(device, Word, common::QUEUE_ENABLE, 1);
                    guest.go(device);
                    guest.kick(device, queue);
                    guest.wait_broken(device);
                }
            }
        });
        guest.case("rings on top of one another", devices, &[], |guest, device| {
            guest.negotiate(device);
            let queue = device.queue();
            guest.write(device, Word, common::QUEUE_SELECT, queue.into());
            for register in [common::DESCRIPTORS, common::AVAILABLE, common::USED] {
                guest.write_u64(device, register, device.buffers.into());
            }
            guest.write(device, Word, common::QUEUE_ENABLE, 1);
            guest.go(device);
            for at in (0..0x1800).step_by(4) {
                guest.asm.poke(Dword, device.buffers + at, 0x0001_0001 * (at >> 4));
            }
            guest.kick(device, queue);
            guest.pause(50);
        });
    });
}

#[test]
fn chains_that_do_not_end_break_their_device_alone() {
    attack(Setup::default(), |guest, devices| {
        guest.case("descriptor loops", devices, &[], |guest, device| {
            let (data, flags) = (device.buffers.into(), direction(device));
            breaks(guest, device, |guest, device| {
                one_descriptor(guest, device, (data, 16, flags | NEXT), 0);
            });
            breaks(guest, device, |guest, device| {
                let table = device.ring().descriptors();
                guest.descriptor(table, 1, (data, 16, flags | NEXT), 0);
                one_descriptor(guest, device, (data, 16, flags | NEXT), 1);
            });
            for next in [256, 0xffff] {
                breaks(guest, device, |guest, device| {
                    one_descriptor(guest, device, (data, 16, flags | NEXT), next);
                });
            }
            // Of length zero: a device that counts bytes would never see an end.
            breaks(guest, device, |guest, device| {
                one_descriptor(guest, device, (data, 0, flags | NEXT), 0);
            });
        });
        guest.case("a chain of all descriptors and one more", devices, &[], |guest, device| {
            let (data, flags) = (device.buffers.into(), direction(device));
            breaks(guest, device, |guest, device| {
                let table = device.ring().descriptors();
                let size = device.ring().size;
                for index in 0..size {
                    let next = (index + 1) % size;
                    guest.descriptor(table, index, (data, 1, flags | NEXT), next);
                }
                guest.offer(device.ring(), 0);
            });
        });
    });
}

#[test]
fn indirect_tables_that_make_no_sense_break_their_device_alone() {
    attack(Setup::default(), |guest, devices| {
        guest.case("indirect tables", devices, &[], |guest, device| {
            let flags = direction(device);
            let (table, data) = (device.buffers + 0x1000, u64::from(device.buffers));
            let gpa = u64::from(table);
            guest.descriptor(table, 0, (data, 16, flags), 0);
            for len in [0, 1, 15, 17, 16 * 257, 16 * 0x1_0000, u32::MAX, u32::MAX - 15] {
                breaks(guest, device, |guest, device| {
                    one_descriptor(guest, device, (gpa, len, INDIRECT), 0);
                });
            }
            for place in [LOW_END - 8, LOW_END, HIGH_END - 8, u64::MAX - 7, u64::MAX, LAPIC] {
                breaks(guest, device, |guest, device| {
                    one_descriptor(guest, device, (place, 32, INDIRECT), 0);
                });
            }
            breaks(guest, device, |guest, device| {
                one_descriptor(guest, device, (gpa, 16, INDIRECT | NEXT), 1);
            });
            // Nested, looping, running past the table.
            for (inner, next) in [(INDIRECT, 0), (NEXT, 0), (NEXT, 1), (NEXT, 0xffff)] {
                breaks(guest, device, |guest, device| {
                    guest.descriptor(table, 0, (data, 16, flags | inner), next);
                    one_descriptor(guest, device, (gpa, 16, INDIRECT), 0);
                });
            }
        });
        guest.case("an indirect table across the edge of a page", devices, &[], |guest, device| {
            let (table, data) = (device.buffers + 0xff9, u64::from(device.buffers));
            guest.descriptor(table, 0, (data, 16, direction(device)), 0);
            one_descriptor(guest, device, (table.into(), 16, INDIRECT), 0);
            guest.kick(device, device.queue());
            guest.pause(20);
        });
        devices.iter_mut().for_each(|device| device.features &= !crate::driver::INDIRECT_DESC);
        guest.case("indirect tables nobody agreed on", devices, &[], |guest, device| {
            guest.bring_up(device);
            let table = device.buffers + 0x1000;
            guest.descriptor(table, 0, (device.buffers.into(), 16, direction(device)), 0);
            breaks(guest, device, |guest, device| {
                one_descriptor(guest, device, (table.into(), 16, INDIRECT), 0);
            });
        });
    });
}

#[test]
fn buffers_outside_ram_break_their_device_alone() {
    attack(Setup::default(), |guest, devices| {
        guest.case("buffers outside RAM", devices, &[], |guest, device| {
            let bar = u64::from(device.bar);
            let buffers = [
                (LOW_END - 8, 16),
                (LOW_END, 1),
                (HIGH - 8, 16),
                (HIGH_END - 1, 2),
                (HIGH_END, 1),
                (u64::MAX - 7, 8),
                (u64::MAX - 7, 16),
                (u64::MAX, 1),
                (0, u32::MAX),
                (0x1000, 0x8000_0000),
                (HIGH, u32::MAX),
                (0x1000, 0),
                (bar, 16),
                (bar + 0x3000, 4),
                (bar + 0x4000, 16),
                (LAPIC, 4),
                (LAPIC + 0x300, 4),
                (IOAPIC, 4),
                (0xb000_0000, 64),
                (1 << 45, 64),
            ];
            for (gpa, len) in buffers {
                for flags in [0, WRITE] {
                    breaks(guest, device, |guest, device| {
                        one_descriptor(guest, device, (gpa, len, flags), 0);
                    });
                }
            }
        });
        guest.case("buffers of more than 4 GiB together", devices, &[], |guest, device| {
            breaks(guest, device, |guest, device| {
                let part = (0, 0x7fff_ffff, WRITE);
                guest.offer_chain(device.ring(), &[part, part, part, part]);
            });
        });
        guest.case("readable after writable", devices, &[], |guest, device| {
            let data = device.buffers.into();
            breaks(guest, device, |guest, device| {
                guest.offer_chain(device.ring(), &[(data, 16, WRITE), (data, 16, 0)]);
            });
        });
        // Both may be had: the disk's data may lie over its own rings, and high RAM is RAM.
        guest.case("buffers over the rings", devices, &[Kind::Disk], |guest, device| {
            let ring = device.ring().clone();
            for target in [ring.descriptors(), ring.avail(), ring.used_ring()] {
                let header = device.buffers;
                guest.asm.poke(Dword, header, 0);
                let buffers =
                    [(header.into(), 16, 0), (target.into(), 4096, WRITE), (0x7000, 1, WRITE)];
                guest.submit(device, &buffers);
                guest.pause(30);
                guest.bring_up(device);
            }
        });
    });
}

#[test]
fn nothing_is_written_after_a_reset() {
    for io in [vmm_protocol::config::DiskIo::Uring, vmm_protocol::config::DiskIo::Plain] {
        attack(Setup { io, ..Setup::default() }, |guest, devices| {
            guest.case("reset with requests in flight", devices, &[], |guest, device| {
                for round in 0..8 {
                    for _ in 0..64 {
                        guest.offer_busy(device);
                    }
                    guest.kick(device, device.queue());
                    guest.pause(1 + round * 3);
                    // Clears the used index; whatever is completed later would move it.
                    guest.reset(device);
                    let (last, used) = (device.buffers + 0x1_0ffc, device.ring().used_ring());
                    guest.asm.poke(Dword, last, 0x600d_600d);
                    guest.pause(100);
                    guest.asm.load(Dword, used);
                    guest.expect("used ring after reset", 0);
                    guest.asm.load(Dword, last);
                    guest.expect("buffer after reset", 0x600d_600d);
                    guest.bring_up(device);
                }
            });
        });
    }
}

/// The second vCPU rewrites the first two descriptors and the disk's header while the device reads
/// them; the first one offers them and resets what breaks.
#[test]
fn descriptors_rewritten_meanwhile_break_their_device_alone() {
    /// Within the reach of a vCPU in real mode.
    const LOW: u32 = 0x3_0000;
    let setup = Setup { cpus: 2, ..Setup::default() };
    attack(setup, |guest, devices| {
        let flip = |offset: u16, mask: u32| {
            // xor dword [offset], mask
            let mut code = vec![0x66, 0x81, 0x36];
            code.extend(offset.to_le_bytes());
            code.extend(mask.to_le_bytes());
            code
        };
        let body = [
            flip(0x08, 0xffff_ff00), // length
            flip(0x04, 0x0000_0001), // 4 GiB up
            flip(0x0c, 0x0001_0002), // written or read, next
            flip(0x18, 0x8000_0000),
            flip(0x14, 0xffff_ffff),
            flip(0x1c, 0x0000_0005),
            flip(0x9000, 0x0000_0001), // the header's type
            flip(0x9008, 0xffff_fff0), // and sector
        ]
        .concat();
        let mut after = vec![0xb8]; // mov ax, segment; mov ds, ax
        after.extend(((LOW >> 4) as u16).to_le_bytes());
        after.extend([0x8e, 0xd8]);
        let back = -(body.len() as i16 + 3);
        after.extend(&body);
        after.push(0xe9); // jmp to the first flip
        after.extend(back.to_le_bytes());
        guest.asm.start_others(1, &[], &after);

        guest.case("descriptors in flux", devices, &[], |guest, device| {
            let bases: Vec<u32> = device.rings.iter().map(|ring| ring.base).collect();
            device.ring().base = LOW;
            guest.bring_up(device);
            let header = u64::from(LOW) + 0x9000;
            let data = device.buffers.into();
            let ring = device.ring().clone();
            let (doorbell, status) = (device.bar + 0x3000, device.bar + common::STATUS);
            let doorbell = doorbell + 4 * u32::from(device.queue());
            let again = device.clone();
            let rounds = 4000;
            guest.asm.raw(&[0xb9]).raw(&u32::to_le_bytes(rounds)); // mov ecx, rounds
            let next = guest.asm.here();
            guest.asm.raw(&[0x51]); // push
            let flags = direction(device);
            guest.descriptor(LOW, 0, (header, 16, flags | NEXT), 1);
            guest.descriptor(LOW, 1, (data, 512, WRITE | NEXT), 2);
            guest.descriptor(LOW, 2, (data + 0x1000, 1, WRITE), 0);
            guest.asm.load(Word, ring.avail() + 2).add_eax(1).store(Word, ring.avail() + 2);
            guest.asm.poke(Word, doorbell, 0);
            guest.pause(1);
            let fine = guest.asm.label();
            guest.asm.load(Byte, status).jump_if_eax_is(RUNNING, fine);
            let mut again = again;
            guest.bring_up(&mut again);
            guest.asm.place(fine).raw(&[0x59, 0xff, 0xc9, 0x89, 0xc8]); // pop; dec ecx; mov eax, ecx
            guest.asm.jump_unless_eax_is(0, next);
            for (ring, base) in device.rings.iter_mut().zip(bases) {
                ring.base = base;
            }
        });
    });
}
