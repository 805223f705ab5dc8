//! Random bytes for more memory than anybody has use for (virtio 1.2 §5.4.6).

use baremetal::Width::Dword;

use crate::attack;
use crate::driver::{Kind, WRITE};
use crate::vm::Setup;

/// What one request gets at most.
const MOST: u32 = 64 << 10;
/// RAM that the guest has no other use for.
const SPARE: u64 = 0x1000_0000;

#[test]
fn a_gigabyte_of_random_bytes_is_answered_soon_with_a_few() {
    attack(Setup::default(), |guest, devices| {
        guest.case("a gigabyte", devices, &[Kind::Rng], |guest, device| {
            let parts = [(SPARE, 0x2000_0000, WRITE), (SPARE + 0x2000_0000, 0x2000_0000, WRITE)];
            for request in [&parts[..], &[parts[0]; 7]] {
                let ring = device.ring();
                let at = ring.used_ring() + 8 + 8 * u32::from(ring.used % ring.size);
                guest.submit(device, request);
                guest.wait_used(device, 1);
                guest.asm.load(Dword, at);
                guest.expect("random bytes", MOST);
            }
            // Behind them nothing was written.
            guest.asm.load(Dword, SPARE as u32 + MOST);
            guest.expect("the byte behind", 0);
        });
    });
}
