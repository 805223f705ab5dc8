//! Pages that no guest can give, and statistics that none has (virtio 1.2 §5.5).

use baremetal::Width::Dword;

use crate::attack;
use crate::driver::{Device, Guest, NEEDS_RESET, WRITE, common};
use crate::vm::Setup;

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const STATISTICS: usize = 2;
const REPORTING: usize = 3;
/// Of the configuration space.
const ACTUAL: u32 = 0x2004;

/// Offer on any queue, and kick.
fn submit(guest: &mut Guest<'_>, device: &mut Device, queue: usize, buffers: &[(u64, u32, u16)]) {
    let mut ring = device.rings[queue].clone();
    guest.offer_chain(&mut ring, buffers);
    device.rings[queue] = ring;
    guest.kick(device, queue as u16);
}

fn wait(guest: &mut Guest<'_>, device: &mut Device, queue: usize, count: u16) {
    let ring = &mut device.rings[queue];
    ring.used = ring.used.wrapping_add(count);
    let (at, index) = (ring.used_ring() + 2, ring.used);
    guest.wait("used index", index.into(), |asm| {
        asm.load(baremetal::Width::Word, at);
    });
}

fn runs(guest: &mut Guest<'_>, device: &Device) {
    guest.read(device, baremetal::Width::Byte, common::STATUS);
    guest.asm.and_eax(NEEDS_RESET);
    guest.expect("status", 0);
}

#[test]
fn pages_and_statistics_that_make_no_sense_change_nothing() {
    attack(Setup::default(), |guest, devices| {
        let mut balloon = Device::balloon();
        let device = &mut balloon;
        guest.place(device);
        guest.bring_up(device);
        guest.works(device);
        let list = device.buffers;
        for (queue, name) in [(INFLATE, "inflate"), (DEFLATE, "deflate")] {
            guest.asm.print(&format!("{name}\n"));
            // Its own page; beyond RAM; a BAR; the interrupt controller; the last there is; twice.
            let own = (device.buffers + 0x1_0000) >> 12;
            let pages = [own, 0x9_0000, 0xc_0000, 0xf_ee00, u32::MAX, own, own];
            for (index, page) in (0..).zip(pages) {
                guest.asm.poke(Dword, list + 4 * index, page);
            }
            submit(guest, device, queue, &[(list.into(), 28, 0)]);
            // A number cut in two, nothing to read, and far more than a list is long.
            submit(guest, device, queue, &[(list.into(), 3, 0)]);
            submit(guest, device, queue, &[(list.into(), 4, WRITE)]);
            for at in 0..8 {
                guest.asm.poke(Dword, list + 4 * at, u32::MAX);
            }
            submit(guest, device, queue, &[(list.into(), 28, 0)]);
            wait(guest, device, queue, 4);
            runs(guest, device);
        }
        guest.asm.print("statistics\n");
        submit(guest, device, STATISTICS, &[(list.into(), 0x4_0000, 0)]);
        for len in [1, 9, 11, 5000] {
            submit(guest, device, STATISTICS, &[(list.into(), len, 0)]);
        }
        submit(guest, device, STATISTICS, &[(list.into(), 100, WRITE)]);
        // All but the one that the device keeps for the next period.
        wait(guest, device, STATISTICS, 5);
        runs(guest, device);
        guest.asm.print("reporting\n");
        let free = u64::from(device.buffers) + 0x1_0000;
        for (gpa, len) in [(free + 1, 4095), (free + 4095, 2), (free, 0x1_0000), (free, 1)] {
            submit(guest, device, REPORTING, &[(gpa, len, WRITE)]);
        }
        submit(guest, device, REPORTING, &[(free, 4096, 0)]);
        wait(guest, device, REPORTING, 5);
        runs(guest, device);
        guest.asm.print("what it says to hold\n");
        for value in [u32::MAX, 0, 0x4000] {
            guest.write(device, Dword, ACTUAL, value);
        }
        guest.write(device, Dword, ACTUAL - 4, u32::MAX);
        guest.reads(device, "pages that it shall hold", Dword, ACTUAL - 4, 0x8_3000);
        guest.bring_up(device);
        guest.works(device);
        for device in devices {
            guest.works(device);
        }
    });
}
