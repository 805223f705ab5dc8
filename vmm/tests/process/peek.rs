//! Looks into the memory of a guest that runs.

use baremetal::Width::Dword;
use baremetal::{SCRATCH, pvh};
use vmm_protocol::control::{ControlErrorCode, Reply, Request};
use vmm_protocol::peek::{MOST, from_hex};

use crate::needs_kvm;
use crate::rig::{Client, Rig};

/// Over the end of a page.
const PLACE: u32 = SCRATCH + 0xffc;

fn look(client: &mut Client, address: u64, len: u32, linear: bool) -> Option<Vec<u8>> {
    match client.ask(Request::PeekMemory { address, len, linear }) {
        Ok(Reply::Memory { hex }) => hex.map(|hex| from_hex(&hex).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_guest_wrote_is_seen_by_both_kinds_of_addresses() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.poke(Dword, PLACE, 0x6c6c_6568).poke(Dword, PLACE + 4, 0x216f).print("up\n");
        let again = asm.here();
        asm.raw(&[0xf4]).jump(again); // hlt
    });
    let mut guest = Rig::new(&kernel).start();
    let (mut client, _) = guest.greet();
    guest.wait_serial("the guest", |serial| serial == "up\n");
    for linear in [false, true] {
        let seen = look(&mut client, u64::from(PLACE), 6, linear);
        assert_eq!(seen.as_deref(), Some(&b"hello!"[..]), "linear: {linear}");
        assert_eq!(look(&mut client, u64::MAX - 1, 4, linear), None);
        assert_eq!(look(&mut client, 0xfee0_0000, 4, linear), None, "no RAM is there");
        assert_eq!(look(&mut client, 0, 0, linear), Some(Vec::new()));
    }
    let most = look(&mut client, 0, MOST, true);
    assert_eq!(most.map(|seen| seen.len()), Some(MOST as usize));
    let more = Request::PeekMemory { address: 0, len: MOST + 1, linear: false };
    assert_eq!(client.ask(more).unwrap_err().code, ControlErrorCode::Malformed);
}
