//! The graphics card and its screen: what a guest draws is what viewers and pictures show.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use baremetal::{Asm, SCRATCH, Width, pvh, sector};
use manor_tests::rfb::{self, Viewer};
use manor_tests::vencrypt::{self, Certificates};
use vmm_protocol::config::{
    PciDevice, PciKind, Video, VideoModel, Vnc, VncPassword, VncSharing, VncTls,
};
use vmm_protocol::control::{Codeset, ControlErrorCode, Reply, Request, RunState};

use crate::devices::{blk, device, video};
use crate::needs_kvm;
use crate::rig::{Guest, Rig};

const SLOT: u8 = 2;
const FRAME_BUFFER: u8 = 0x10;
const ATTRIBUTE: u16 = 0x3c0;
const DISPI: u16 = 0x1ce;

fn with_card(kernel: &[u8], model: VideoModel) -> Rig {
    let mut rig = Rig::new(kernel);
    let card = video(&mut rig, model);
    rig.devices(vec![device("video0", SLOT, PciKind::Video(card))])
}

fn dispi(asm: &mut Asm, index: u32, value: u32) {
    asm.out(Width::Word, DISPI, index).out(Width::Word, DISPI + 1, value);
}

/// 64 × 48 pixels of 32 bits; EAX is the address of the first.
fn set_mode(asm: &mut Asm) {
    for (index, value) in [(1, 64), (2, 48), (3, 32), (4, 0x41)] {
        dispi(asm, index, value);
    }
    asm.out(Width::Byte, ATTRIBUTE, 0x20);
    asm.pci_read(SLOT, 0, FRAME_BUFFER).and_eax(!0xf);
}

/// Draws a line of green pixels at the top, through the frame buffer, and says so.
fn drawing() -> Vec<u8> {
    pvh(|asm| {
        set_mode(asm);
        asm.raw(&[0x89, 0xc7, 0xb9, 64, 0, 0, 0]); // mov edi, eax; mov ecx, 64
        asm.set_eax(0x00_ff00).raw(&[0xf3, 0xab]); // rep stosd
        asm.print("drawn\n").stop();
    })
}

/// A connection of its own that becomes what `request` asks for.
pub(crate) fn turned(guest: &Guest, request: Request) -> UnixStream {
    let (mut client, _) = guest.greet();
    assert_eq!(client.ask(request), Ok(Reply::Done));
    client.stream
}

pub(crate) fn picture(guest: &Guest) -> (u32, u32, Vec<u8>) {
    let mut file = Vec::new();
    turned(guest, Request::Screenshot { id: "video0".to_owned() }).read_to_end(&mut file).unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (info.width, info.height, pixels)
}

#[test]
fn a_screenshot_shows_what_the_guest_drew() {
    needs_kvm!();
    let mut guest = with_card(&drawing(), VideoModel::Vga).start();
    guest.wait_serial("drawn", |serial| serial.contains("drawn"));
    let (width, height, pixels) = picture(&guest);
    assert_eq!((width, height), (64, 48));
    assert!(pixels[..64 * 3].chunks(3).all(|pixel| pixel == [0, 0xff, 0]));
    assert!(pixels[64 * 3..].iter().all(|byte| *byte == 0));
    let (mut client, _) = guest.greet();
    let other = Request::Screenshot { id: "video1".to_owned() };
    assert_eq!(client.ask(other).unwrap_err().code, ControlErrorCode::NotFound);
    // A paused guest has a picture, too.
    client.ask(Request::Pause).unwrap();
    assert_eq!(picture(&guest).2, pixels);
}

#[test]
fn a_reset_guest_starts_with_a_dark_screen() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        let first = asm.label();
        asm.load(Width::Dword, SCRATCH).print("up\n").jump(first).place(first);
        asm.stop();
    });
    let mut rig = with_card(&kernel, VideoModel::Vga);
    rig.config.start_paused = false;
    let mut guest = rig.start();
    guest.wait_serial("the start", |serial| serial == "up\n");
    let (mut client, _) = guest.greet();
    client.ask(Request::Reset).unwrap();
    guest.wait_serial("another start", |serial| serial == "up\nup\n");
    let (width, height, pixels) = picture(&guest);
    assert_eq!((width, height), (720, 400));
    assert!(pixels.iter().all(|byte| *byte == 0));
}

#[test]
fn a_viewer_sees_the_guest_go_on_drawing() {
    needs_kvm!();
    for model in [VideoModel::Vga, VideoModel::Bochs] {
        let kernel = pvh(|asm| {
            if model == VideoModel::Vga {
                set_mode(asm);
            } else {
                // The registers of a card without ports: behind its third BAR.
                asm.pci_read(SLOT, 0, 0x18).raw(&[0x89, 0xc7]); // mov edi, eax
                for (register, value) in [(1u8, 64u32), (2, 48), (3, 32), (4, 0x41)] {
                    asm.set_eax(value); // mov [edi + 0x500 + 2 * register], ax
                    asm.raw(&[0x66, 0x89, 0x87, 2 * register, 5, 0, 0]);
                }
                asm.pci_read(SLOT, 0, FRAME_BUFFER).and_eax(!0xf);
            }
            asm.raw(&[0x89, 0xc6]); // mov esi, eax
            let again = asm.here();
            asm.raw(&[0xff, 0x06]); // inc dword [esi]
            asm.jump(again);
        });
        let guest = with_card(&kernel, model).start();
        let stream = turned(&guest, Request::Viewer { id: "video0".to_owned() });
        let mut viewer = Viewer::connect(stream, None).unwrap();
        assert_eq!(viewer.name, "test");
        viewer.set_encodings(&[rfb::ZRLE, rfb::DESKTOP_SIZE]).unwrap();
        viewer.request(false).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        while seen.len() < 5 || (viewer.width, viewer.height) != (64, 48) {
            assert!(Instant::now() < deadline, "{model:?}: {seen:?}");
            viewer.update().unwrap();
            viewer.request(true).unwrap();
            seen.insert(viewer.pixels[0]);
        }
    }
}

#[test]
fn viewers_come_in_at_the_listener_with_the_password() {
    needs_kvm!();
    let mut rig = with_card(&drawing(), VideoModel::Vga);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let password = VncPassword { text: "secret".to_owned(), valid_to: None };
    let listeners = vec![rig.add(listener)];
    let sharing = VncSharing::AllowExclusive;
    rig.config.vnc = vec![Vnc { listeners, password: Some(password), tls: None, sharing }];
    let mut guest = rig.start();
    guest.wait_serial("drawn", |serial| serial.contains("drawn"));
    assert!(Viewer::connect(TcpStream::connect(address).unwrap(), Some("guess")).is_err());
    let stream = TcpStream::connect(address).unwrap();
    let mut viewer = Viewer::connect(stream, Some("secret")).unwrap();
    viewer.set_encodings(&[rfb::TIGHT, rfb::DESKTOP_SIZE]).unwrap();
    while viewer.pixels[0] != 0x00_ff00 {
        viewer.request(true).unwrap();
        viewer.update().unwrap();
    }
}

#[test]
fn viewers_come_in_by_tls_with_the_certificate_of_the_server() {
    needs_kvm!();
    let certificates = Certificates::new().unwrap();
    let mut rig = with_card(&drawing(), VideoModel::Vga);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut file = |text: &str| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        rig.add(file)
    };
    let tls = VncTls {
        certificate: file(&certificates.server.certificate),
        key: file(&certificates.server.key),
        viewers: Some(file(&certificates.authority)),
    };
    let password = Some(VncPassword { text: "secret".to_owned(), valid_to: None });
    let (listeners, sharing) = (vec![rig.add(listener)], VncSharing::AllowExclusive);
    rig.config.vnc = vec![Vnc { listeners, password, tls: Some(tls), sharing }];
    let mut guest = rig.start();
    guest.wait_serial("drawn", |serial| serial.contains("drawn"));
    let connect = || TcpStream::connect(address).unwrap();
    assert!(Viewer::connect(connect(), Some("secret")).is_err(), "without TLS");
    assert!(vencrypt::connect(connect(), &certificates, false, Some("secret")).is_err());
    let mut viewer = vencrypt::connect(connect(), &certificates, true, Some("secret")).unwrap();
    viewer.set_encodings(&[rfb::ZRLE, rfb::DESKTOP_SIZE]).unwrap();
    while viewer.pixels[0] != 0x00_ff00 {
        viewer.request(true).unwrap();
        viewer.update().unwrap();
    }
}

#[test]
fn the_window_of_a_vga_takes_the_place_of_ram_and_only_that() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        for address in [0x9_fff0, 0xa_0000, 0xb_fffc, 0xc_0000] {
            asm.poke(Width::Dword, address, 0x55aa_55aa).load(Width::Dword, address);
            asm.print_eax().print(" ");
        }
        asm.power_off();
    });
    // Without a map mask nothing gets into the planes.
    let (_, _, serial) = with_card(&kernel, VideoModel::Vga).start().wait();
    assert_eq!(serial, "55aa55aa 00000000 00000000 55aa55aa ");
    let (_, _, serial) = with_card(&kernel, VideoModel::Bochs).start().wait();
    assert_eq!(serial, "55aa55aa 55aa55aa 55aa55aa 55aa55aa ");
}

#[test]
fn a_frame_buffer_follows_its_bar_and_is_never_over_ram() {
    needs_kvm!();
    const NEW: u32 = 0xd000_0000;
    let kernel = pvh(|asm| {
        set_mode(asm);
        asm.raw(&[0xc7, 0x00]).raw(&[0xff, 0, 0, 0]); // mov dword [eax], blue
        asm.pci_write(SLOT, 0, FRAME_BUFFER, NEW);
        asm.load(Width::Dword, NEW).print_eax().print(" ");
        // Over RAM the RAM stays.
        asm.poke(Width::Dword, 0x40_0000, 7).pci_write(SLOT, 0, FRAME_BUFFER, 0x40_0000);
        asm.load(Width::Dword, 0x40_0000).print_eax().print(" ");
        asm.load(Width::Dword, NEW).print_eax().print(" ");
        asm.pci_write(SLOT, 0, FRAME_BUFFER, NEW).load(Width::Dword, NEW).print_eax();
        asm.power_off();
    });
    let (_, _, serial) = with_card(&kernel, VideoModel::Vga).start().wait();
    assert_eq!(serial, "000000ff 00000007 ffffffff 000000ff");
}

#[test]
fn a_saved_picture_comes_back() {
    needs_kvm!();
    let image = tempfile::tempfile().unwrap();
    let mut guest = with_card(&drawing(), VideoModel::Vga).start();
    guest.wait_serial("drawn", |serial| serial.contains("drawn"));
    let before = picture(&guest);
    let (mut client, _) = guest.greet();
    client.ask(Request::Pause).unwrap();
    client.save(&image).unwrap();
    client.ask(Request::Destroy).unwrap();
    guest.wait();
    let guest = with_card(&drawing(), VideoModel::Vga).restoring(&image).start();
    assert_eq!(picture(&guest), before);
}

/// A boot sector on a machine with SeaBIOS and its VGA BIOS.
fn bios_machine(image: &[u8]) -> Rig {
    let (mut rig, disk, seabios) = bios_disk(image);
    let rom = File::open(seabios.with_file_name("vgabios-stdvga.bin")).unwrap();
    let resolution = (1024, 768);
    let rom = Some(rig.add(rom));
    let card = Video { model: VideoModel::Vga, memory: 16 << 20, resolution, rom };
    rig.devices(vec![device("video0", 1, PciKind::Video(card)), disk])
}

/// The machine, the disk with the boot sector, and where SeaBIOS is.
pub(crate) fn bios_disk(image: &[u8]) -> (Rig, PciDevice, PathBuf) {
    let seabios = manor_tests::firmware::seabios().unwrap();
    let mut rig = Rig::new(&[]).firmware(&std::fs::read(&seabios).unwrap());
    let mut disk = tempfile::tempfile().unwrap();
    disk.write_all(image).unwrap();
    let disk = PciKind::Blk(blk(&mut rig, disk));
    let disk = PciDevice { boot_index: Some(1), ..device("virtio-disk0", 3, disk) };
    (rig, disk, seabios)
}

#[test]
fn a_bios_shows_text_and_takes_what_is_typed() {
    needs_kvm!();
    let image = sector::disk(|code| {
        code.raw(&[0xb8, 3, 0, 0xcd, 0x10]); // mode 3: 80 × 25 characters
        code.say("Boot:").print("ready\n");
        code.forever(|code| {
            code.raw(&[0xb4, 0, 0xcd, 0x16]); // wait for a key
            code.raw(&[0xba, 0xf8, 0x03, 0xee]); // mov dx, COM1; out dx, al
            code.raw(&[0xb4, 0x0e, 0xbb, 7, 0, 0xcd, 0x10]); // and show it
        });
    });
    let mut guest = bios_machine(&image).start();
    guest.wait_serial("the boot sector", |serial| serial.contains("ready"));
    let (width, height, pixels) = picture(&guest);
    assert_eq!((width, height), (720, 400));
    let lit = |x: usize, y: usize| pixels[(y * 720 + x) * 3..][..3] == [0xaa; 3];
    let lit_in =
        |columns: std::ops::Range<usize>| (0..16).any(|y| columns.clone().any(|x| lit(x, y)));
    assert!((0..5).all(|character| lit_in(character * 9..character * 9 + 8)), "Boot:");
    // Behind the text is the cursor, and nothing else.
    assert!(!lit_in(6 * 9..720));
    assert!((16..400).all(|y| (0..720).all(|x| !lit(x, y))));

    let (mut client, _) = guest.greet();
    for down in [true, false] {
        client.ask(Request::Keys { codes: vec![30], codeset: Codeset::Linux, down }).unwrap();
    }
    guest.wait_serial("a", |serial| serial.ends_with("ready\na"));
    let stream = turned(&guest, Request::Viewer { id: "video0".to_owned() });
    let mut viewer = Viewer::connect(stream, None).unwrap();
    for (key, down) in
        [(0xffe1, true), (u32::from('B'), true), (u32::from('B'), false), (0xffe1, false)]
    {
        viewer.key(key, down).unwrap();
    }
    guest.wait_serial("B", |serial| serial.ends_with("ready\naB"));
    let codes = vec![0x1c];
    for down in [true, false] {
        let codes = codes.clone();
        client.ask(Request::Keys { codes, codeset: Codeset::Xt, down }).unwrap();
    }
    guest.wait_serial("Enter", |serial| serial.ends_with("aB\r"));
}

/// Random values to the card's registers, to the display interface and into the window, for ever.
fn storming() -> Vec<u8> {
    pvh(|asm| {
        asm.print("storming\n");
        let again = asm.here();
        asm.raw(&[0x69, 0xdb, 0x0d, 0x66, 0x19, 0x00]); // imul ebx, ebx, 1664525
        asm.raw(&[0x81, 0xc3, 0x5f, 0xf3, 0x6e, 0x3c]); // add ebx, 1013904223
        asm.raw(&[0x89, 0xd8, 0xc1, 0xe8, 0x08]); // mov eax, ebx; shr eax, 8
        asm.raw(&[0x89, 0xda, 0xc1, 0xea, 0x1b]); // mov edx, ebx; shr edx, 27
        asm.raw(&[0x81, 0xc2, 0xc0, 0x03, 0x00, 0x00, 0xee]); // add edx, 0x3c0; out dx, al
        asm.raw(&[0x89, 0xd9, 0xc1, 0xe9, 0x14, 0x83, 0xe1, 0x0f]); // ecx = bits 20 to 23
        asm.raw(&[0x66, 0xba, 0xce, 0x01, 0x91, 0x66, 0xef]); // mov dx, 0x1ce; out dx, cx
        asm.raw(&[0x42, 0x91, 0x66, 0xef]); // inc edx; out dx, ax
        asm.raw(&[0x89, 0xdf, 0x81, 0xe7, 0xff, 0xff, 0x01, 0x00]); // mov edi, ebx; and edi, 0x1ffff
        asm.raw(&[0x81, 0xc7, 0x00, 0x00, 0x0a, 0x00, 0x88, 0x07]); // add edi, 0xa0000; mov [edi], al
        asm.jump(again);
    })
}

#[test]
fn a_guest_that_misuses_its_card_spoils_nothing_but_its_picture() {
    needs_kvm!();
    let mut guest = with_card(&storming(), VideoModel::Vga).start();
    guest.wait_serial("the storm", |serial| serial.contains("storming"));
    let stream = turned(&guest, Request::Viewer { id: "video0".to_owned() });
    let mut viewer = Viewer::connect(stream, None).unwrap();
    let (mut client, _) = guest.greet();
    let end = Instant::now() + Duration::from_secs(2);
    let mut updates = 0;
    while Instant::now() < end || updates < 4 {
        let encoding = [rfb::TIGHT, rfb::ZRLE, rfb::RAW][updates % 3];
        viewer.set_encodings(&[encoding, rfb::DESKTOP_SIZE]).unwrap();
        viewer.request(false).unwrap();
        viewer.update().unwrap();
        updates += 1;
        assert!(client.ask(Request::Status).is_ok());
    }
    picture(&guest);
    client.ask(Request::Pause).unwrap();
    client.save(&tempfile::tempfile().unwrap()).unwrap();
    client.ask(Request::Reset).unwrap();
    assert_eq!(guest.state(), RunState::Paused);
    assert_eq!(picture(&guest).2.iter().max(), Some(&0), "a reset card is dark");
}
