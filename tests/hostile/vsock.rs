//! Packets that no driver sends (virtio 1.2 §5.10.6).

use baremetal::Width::Dword;

use crate::attack;
use crate::driver::{Kind, NEEDS_RESET, WRITE, common};
use crate::vm::Setup;

const STREAM: u32 = 1;
const REQUEST: u32 = 1 << 16;
const DATA: u32 = 5 << 16;

#[test]
fn packets_that_make_no_sense_end_nothing_but_their_connection() {
    attack(Setup::default(), |guest, devices| {
        let device = devices.iter_mut().find(|it| it.kind == Kind::Vsock).unwrap();
        let data = device.buffers + 0x200;
        // Every operation there is and some that are none, of both types and of none, for
        // connections that are none: nobody takes the resets that are owed.
        for kind in 0..4 {
            for op in 0..10 {
                guest.vsock_packet(data, op << 16 | kind, 0);
                guest.submit(device, &[(data.into(), 44, 0)]);
                guest.wait_used(device, 1);
            }
        }
        // Cut short; more data said than there is; far more said; a header in pieces.
        guest.vsock_packet(data, DATA | STREAM, 0);
        for len in [1, 43] {
            guest.submit(device, &[(data.into(), len, 0)]);
        }
        guest.vsock_packet(data, DATA | STREAM, 100_000);
        guest.submit(device, &[(data.into(), 0x1_0000, 0)]);
        guest.asm.poke(Dword, data + 24, u32::MAX);
        guest.submit(device, &[(data.into(), 44, 0)]);
        guest.vsock_packet(data, REQUEST | STREAM, 0);
        let (first, second) = (data.into(), (data + 7).into());
        guest.submit(device, &[(first, 7, 0), (second, 30, 0), ((data + 37).into(), 7, 0)]);
        guest.wait_used(device, 5);
        // Of somebody else, and to somebody else.
        guest.vsock_packet(data, REQUEST | STREAM, 0);
        guest.asm.poke(Dword, data, 4);
        guest.submit(device, &[(data.into(), 44, 0)]);
        guest.wait_used(device, 1);
        guest.asm.poke(Dword, data, 3).poke(Dword, data + 8, 99);
        guest.submit(device, &[(data.into(), 44, 0)]);
        guest.wait_used(device, 1);
        guest.read(device, baremetal::Width::Byte, common::STATUS);
        guest.asm.and_eax(NEEDS_RESET);
        guest.expect("status", 0);
        // A buffer that holds no packet, for one of the resets.
        let mut receive = device.rings[0].clone();
        guest.offer_chain(&mut receive, &[(data.into(), 10, WRITE)]);
        device.rings[0] = receive;
        guest.kick(device, 0);
        guest.wait_broken(device);
        guest.bring_up(device);
        guest.works(device);
        for device in devices {
            guest.works(device);
        }
    });
}
