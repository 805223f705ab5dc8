//! Looks into the memory of a guest that runs, and onto its disks.

use baremetal::Width::Dword;
use baremetal::{SCRATCH, pvh};
use vmm_protocol::config::{ImageFormat, PciKind};
use vmm_protocol::control::{ControlErrorCode, Reply, Request, SwapLayer};
use vmm_protocol::peek::{MOST, from_hex};

use crate::devices::{blk, device};
use crate::disks;
use crate::needs_kvm;
use crate::rig::{Client, Rig};
use crate::swap::{SIZE, ask, layer, overlay, swap};

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

#[test]
fn a_disk_shows_what_the_guest_sees_through_all_its_images() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.print("up\n");
        let again = asm.here();
        asm.raw(&[0xf4]).jump(again); // hlt
    });
    let mut rig = Rig::new(&kernel);
    let disk = device("disk0", 3, PciKind::Blk(blk(&mut rig, disks::image())));
    let guest = rig.devices(vec![disk]).start();
    let (mut client, _) = guest.greet();
    let mut look = |offset, len| {
        let id = "disk0".to_owned();
        match client.ask(Request::PeekDisk { id, offset, len }) {
            Ok(Reply::DiskBytes { size, hex }) => {
                Ok((size, hex.map(|hex| from_hex(&hex).unwrap())))
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code),
        }
    };
    assert_eq!(look(7 * 512 - 1, 3), Ok((SIZE, Some(vec![6, 7, 7]))));
    assert_eq!(look(SIZE - 1, 2), Ok((SIZE, None)));
    assert_eq!(look(u64::MAX, 2), Ok((SIZE, None)));
    assert_eq!(look(SIZE, 0), Ok((SIZE, Some(Vec::new()))));
    assert_eq!(look(0, MOST + 1), Err(ControlErrorCode::Malformed));
    let over = overlay(SIZE, Some(0xa1));
    let chain = vec![layer(ImageFormat::Qcow2, 0), SwapLayer::Kept(0)];
    assert_eq!(ask(&mut client, vec![swap("disk0", chain)], &[&over]), Ok(Reply::Done));
    let id = "disk0".to_owned();
    let seen = client.ask(Request::PeekDisk { id, offset: 7 * 512 - 1, len: 3 }).unwrap();
    assert_eq!(seen, Reply::DiskBytes { size: SIZE, hex: Some("06a1a1".to_owned()) });
    let none = Request::PeekDisk { id: "none".to_owned(), offset: 0, len: 1 };
    assert_eq!(client.ask(none).unwrap_err().code, ControlErrorCode::NotFound);
}
