//! A screen without a card: where the guest says that its picture is, it is shown, and nowhere else.

use std::fs::File;

use baremetal::{Asm, SCRATCH, Width, pvh, sector};
use manor_tests::rfb::{self, Viewer};
use vmm_protocol::config::{PciKind, Ramfb, VideoModel};
use vmm_protocol::control::{Request, RunState};

use crate::devices::{device, video};
use crate::display::{bios_disk, picture, turned};
use crate::needs_kvm;
use crate::rig::Rig;

/// The rig's RAM ends at 64 MiB.
const PICTURE: u32 = 0x200_0000;
const TOLD: u32 = SCRATCH + 0x40;
/// "XR24"
const XRGB: u32 = 0x3432_5258;
/// The only file has the first selector: select it and write.
const WRITE_FIRST_FILE: u32 = 0x0020_0018;

fn with_ramfb(kernel: &[u8]) -> Rig {
    let mut rig = Rig::new(kernel);
    rig.config.ramfb = Some(Ramfb { id: "video0".to_owned(), rom: None });
    rig
}

/// Tell where the picture is; EAX is what came of it.
fn tell(asm: &mut Asm, address: [u32; 2], format: u32, size: [u32; 2], stride: u32) {
    let told = [address[0], address[1], format, 0, size[0], size[1], stride];
    let request = [WRITE_FIRST_FILE, 4 * told.len() as u32, 0, TOLD];
    for (start, words) in [(SCRATCH, &request[..]), (TOLD, &told)] {
        for (at, word) in (start..).step_by(4).zip(words) {
            asm.poke(Width::Dword, at, word.swap_bytes());
        }
    }
    asm.out(Width::Dword, 0x514, 0).out(Width::Dword, 0x518, SCRATCH.swap_bytes());
    asm.load(Width::Dword, SCRATCH);
}

/// 64 × 48 pixels, the first row of them green.
fn drawing() -> Vec<u8> {
    pvh(|asm| {
        asm.set_eax(PICTURE).raw(&[0x89, 0xc7, 0xb9, 64, 0, 0, 0]); // mov edi, eax; mov ecx, 64
        asm.set_eax(0x00_ff00).raw(&[0xf3, 0xab]); // rep stosd
        tell(asm, [0, PICTURE], XRGB, [64, 48], 0);
        asm.print_eax().print(" drawn\n").stop();
    })
}

#[test]
fn pictures_viewers_and_saved_states_show_what_lies_in_the_guests_memory() {
    needs_kvm!();
    let mut guest = with_ramfb(&drawing()).start();
    let serial = guest.wait_serial("drawn", |serial| serial.contains("drawn"));
    assert_eq!(serial, "00000000 drawn\n");
    let (width, height, pixels) = picture(&guest);
    assert_eq!((width, height), (64, 48));
    assert!(pixels[..64 * 3].chunks(3).all(|pixel| pixel == [0, 0xff, 0]));
    assert!(pixels[64 * 3..].iter().all(|byte| *byte == 0));

    let stream = turned(&guest, Request::Viewer { id: "video0".to_owned() });
    let mut viewer = Viewer::connect(stream, None).unwrap();
    viewer.set_encodings(&[rfb::ZRLE, rfb::DESKTOP_SIZE]).unwrap();
    while (viewer.width, viewer.height) != (64, 48) || viewer.pixels[0] != 0x00_ff00 {
        viewer.request(true).unwrap();
        viewer.update().unwrap();
    }

    let image = tempfile::tempfile().unwrap();
    let (mut client, _) = guest.greet();
    client.ask(Request::Pause).unwrap();
    client.save(&image).unwrap();
    client.ask(Request::Destroy).unwrap();
    guest.wait();
    let guest = with_ramfb(&drawing()).restoring(&image).start();
    assert_eq!(picture(&guest).2, pixels);
    let (mut client, _) = guest.greet();
    client.ask(Request::Pause).unwrap();
    client.ask(Request::Reset).unwrap();
    let (width, height, pixels) = picture(&guest);
    assert_eq!((width, height), (720, 400));
    assert!(pixels.iter().all(|byte| *byte == 0), "a reset guest has told nothing");
}

#[test]
fn a_picture_that_lies_outside_of_memory_is_a_dark_screen_and_spoils_nothing() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        let again = asm.here();
        let end = 64 << 20;
        for (address, format, size, stride) in [
            ([0, end], XRGB, [640, 480], 0),
            ([0, end - 4], XRGB, [1, 2], 0),
            ([u32::MAX, u32::MAX], XRGB, [8192, 1024], u32::MAX),
            ([0, 0xa_0000], XRGB, [u32::MAX, u32::MAX], 1),
            ([0, 0xffff_f000], XRGB, [64, 64], 0),
            ([0, PICTURE], 0xffff_ffff, [64, 64], 0),
        ] {
            tell(asm, address, format, size, stride);
        }
        asm.print(".").jump(again);
    });
    let mut guest = with_ramfb(&kernel).start();
    guest.wait_serial("the first round", |serial| serial.contains('.'));
    for _ in 0..20 {
        let (width, height, pixels) = picture(&guest);
        assert_eq!((width, height), (720, 400));
        assert!(pixels.iter().all(|byte| *byte == 0));
    }
    assert_eq!(guest.state(), RunState::Running);
}

#[test]
fn a_bios_shows_text_through_the_vga_bios_of_the_ramfb() {
    needs_kvm!();
    let image = sector::disk(|code| {
        code.raw(&[0xb8, 3, 0, 0xcd, 0x10]); // mode 3: 80 × 25 characters
        code.say("Boot:").print("ready\n");
        code.forever(|code| {
            code.raw(&[0xf4]); // hlt
        });
    });
    let (mut rig, disk, seabios) = bios_disk(&image);
    let rom = File::open(seabios.with_file_name("vgabios-ramfb.bin")).unwrap();
    rig.config.ramfb = Some(Ramfb { id: "video0".to_owned(), rom: Some(rig.add(rom)) });
    let mut guest = rig.devices(vec![disk]).start();
    guest.wait_serial("the boot sector", |serial| serial.contains("ready"));
    let (width, height, pixels) = picture(&guest);
    assert!(width >= 640 && height >= 400, "{width} × {height}");
    let lit = pixels.chunks(3).filter(|pixel| **pixel != [0; 3]).count();
    // Five letters of 8 × 16 dots and a cursor.
    assert!((20..5 * 128 + 16).contains(&lit), "{lit} dots");
}

#[test]
fn a_ramfb_beside_a_card_is_refused() {
    needs_kvm!();
    let mut rig = with_ramfb(&drawing());
    let card = video(&mut rig, VideoModel::Vga);
    let (status, record, _) =
        rig.devices(vec![device("video1", 2, PciKind::Video(card))]).start().wait();
    assert_eq!(status.code(), Some(1));
    let message = format!("{:?}", record.reason);
    assert!(message.contains("graphics cards 2: there can be one"), "{message}");
}
