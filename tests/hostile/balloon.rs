//! Pages that no guest can give, and statistics that none has (virtio 1.2 §5.5).

use baremetal::Width::Dword;

use crate::attack;
use crate::driver::{Device, WRITE};
use crate::vm::Setup;

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const STATISTICS: usize = 2;
const REPORTING: usize = 3;
/// Of the configuration space.
const ACTUAL: u32 = 0x2004;

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
            guest.submit_to(device, queue, &[(list.into(), 28, 0)]);
            // A number cut in two, nothing to read, and far more than a list is long.
            guest.submit_to(device, queue, &[(list.into(), 3, 0)]);
            guest.submit_to(device, queue, &[(list.into(), 4, WRITE)]);
            for at in 0..8 {
                guest.asm.poke(Dword, list + 4 * at, u32::MAX);
            }
            guest.submit_to(device, queue, &[(list.into(), 28, 0)]);
            guest.wait_used_on(device, queue, 4);
            guest.runs(device);
        }
        guest.asm.print("statistics\n");
        guest.submit_to(device, STATISTICS, &[(list.into(), 0x4_0000, 0)]);
        for len in [1, 9, 11, 5000] {
            guest.submit_to(device, STATISTICS, &[(list.into(), len, 0)]);
        }
        guest.submit_to(device, STATISTICS, &[(list.into(), 100, WRITE)]);
        // All but the one that the device keeps for the next period.
        guest.wait_used_on(device, STATISTICS, 5);
        guest.runs(device);
        guest.asm.print("reporting\n");
        let free = u64::from(device.buffers) + 0x1_0000;
        for (gpa, len) in [(free + 1, 4095), (free + 4095, 2), (free, 0x1_0000), (free, 1)] {
            guest.submit_to(device, REPORTING, &[(gpa, len, WRITE)]);
        }
        guest.submit_to(device, REPORTING, &[(free, 4096, 0)]);
        guest.wait_used_on(device, REPORTING, 5);
        guest.runs(device);
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
