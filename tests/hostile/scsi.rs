//! Commands that no SCSI unit can serve, and functions of tasks that do not exist (virtio 1.2 §5.6).

use baremetal::Width::Dword;

use crate::attack;
use crate::driver::{Device, WRITE};
use crate::vm::{DISK_SIZE, Setup};

const CHECK_CONDITION: u32 = 2;
const CONTROL: usize = 0;
const EVENTS: usize = 1;

#[test]
fn scsi_commands_beyond_everything_end_in_a_check_condition() {
    attack(Setup { controllers: true, ..Setup::default() }, |guest, devices| {
        let mut scsi = Device::scsi();
        let device = &mut scsi;
        guest.place(device);
        guest.bring_up(device);
        guest.works(device);
        let blocks = DISK_SIZE as u32 / 512;
        let [b0, b1, b2, b3] = blocks.to_be_bytes();
        guest.asm.print("ranges\n");
        let commands: &[&[u8]] = &[
            // READ and WRITE of 10, 12 and 16 bytes, from the end on and over it.
            &[0x28, 0, b0, b1, b2, b3, 0, 0, 1],
            &[0x28, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            &[0x2a, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff],
            &[0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x8a, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1],
            // WRITE SAME and VERIFY.
            &[0x93, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x41, 8, b0, b1, b2, b3, 0, 0, 1],
            // UNMAP with a list that is not there.
            &[0x42, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            &[0xff; 16],
            &[0x5a, 0, 0xff, 0, 0, 0, 0, 0xff, 0xff],
            &[0x12, 1, 0xee, 0xff, 0xff],
        ];
        for command in commands {
            guest.scsi_command(device, 0, command, Some(0x1000));
            guest.expect("status of a command that cannot be", CHECK_CONDITION);
        }
        guest.asm.print("the drive\n");
        let commands: &[&[u8]] = &[
            &[0],
            &[0x28, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0xff, 0xff],
            &[0xbe, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf8],
            &[0x43, 2, 0x0f, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1],
        ];
        for command in commands {
            guest.scsi_command(device, 1, command, Some(0x1000));
            guest.expect("status of a command that cannot be", CHECK_CONDITION);
        }
        // All operation codes with the same rubbish behind them, whatever they answer.
        for code in 0..=255 {
            let rubbish = [code, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
            guest.scsi_command(device, code & 1, &rubbish, Some(0x200));
        }
        guest.runs(device);
        guest.bring_up(device);
        guest.works(device);
        for device in devices {
            guest.works(device);
        }
    });
}

#[test]
fn scsi_queues_take_requests_for_nobody_and_a_reset_in_the_middle() {
    attack(Setup { controllers: true, ..Setup::default() }, |guest, devices| {
        let mut scsi = Device::scsi();
        let device = &mut scsi;
        guest.place(device);
        guest.bring_up(device);
        guest.works(device);
        let header = u64::from(device.buffers);
        guest.asm.print("addresses of nobody\n");
        for lun in [0, u32::MAX, 0x0000_ff01, 0xffff_0001, 0x0000_0002, 0xff40_0001] {
            for at in 0..13 {
                guest.asm.poke(Dword, header as u32 + 4 * at, u32::MAX);
            }
            guest.asm.poke(Dword, header as u32, lun);
            let (answer, data) = (header + 0x800, header + 0x1000);
            guest.submit(device, &[(header, 51, 0), (answer, 108, WRITE), (data, 512, WRITE)]);
            guest.wait_used(device, 1);
        }
        guest.asm.print("functions of tasks, and events\n");
        for (queue, kind) in
            [(CONTROL, 0), (CONTROL, 1), (CONTROL, 2), (CONTROL, u32::MAX), (EVENTS, 0)]
        {
            guest.asm.poke(Dword, header as u32, kind);
            for subtype in [0, 1, 2, 3, 4, 5, 6, 7, u32::MAX] {
                guest.asm.poke(Dword, header as u32 + 4, subtype);
                let mut ring = device.rings[queue].clone();
                guest.offer_chain(&mut ring, &[(header, 24, 0), (header + 0x800, 5, WRITE)]);
                guest.offer_chain(&mut ring, &[(header + 0x800, 1, WRITE)]);
                device.rings[queue] = ring;
                guest.kick(device, queue as u16);
            }
        }
        guest.pause(100);
        // Broken or not: a reset mends it.
        guest.bring_up(device);
        guest.works(device);
        guest.asm.print("resets with requests in flight\n");
        for _ in 0..20 {
            for _ in 0..80 {
                guest.offer_busy(device);
            }
            guest.kick(device, 2);
            guest.bring_up(device);
        }
        guest.works(device);
        for device in devices {
            guest.works(device);
        }
    });
}
