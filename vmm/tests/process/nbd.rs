//! Disks on an NBD server, which is killed and comes back while a guest writes to them.

use std::fs::File;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;

use baremetal::Width::{Byte, Dword, Word};
use baremetal::{Asm, pvh};
use manor_tests::nbd::{NbdServer, Place};
use manor_tests::vencrypt::Certificates;
use vmm_protocol::config::{DiskErrors, DriveKind, Image, Nbd, NbdTls, OnError, PciKind};
use vmm_protocol::control::{ControlErrorCode, EventKind, Reply, Request};

use crate::devices::device;
use crate::disks::{self, ANSWER, AREA, BAR, DATA};
use crate::needs_kvm;
use crate::rig::{Client, Guest, Rig};

const ID: &str = "disk-disk-0";
const COUNT: u32 = AREA + 0x6000;

/// Writes a number to sector 9 and reads it again, with the next number each time.
pub(crate) fn counting() -> Vec<u8> {
    pvh(|asm| {
        disks::virtio_scsi(asm, 3);
        // The attention of power-on.
        command(asm, &[0]);
        asm.print("\n");
        let again = asm.here();
        asm.load(Dword, DATA + 4).add_eax(1).store(Dword, DATA + 4);
        command(asm, &[0x2a, 8, 0, 0, 0, 9, 0, 0, 1]);
        asm.poke(Dword, DATA, 0);
        command(asm, &[0x28, 0, 0, 0, 0, 9, 0, 0, 1]);
        asm.load(Dword, DATA + 4).print_eax().print("\n");
        asm.repeat(1000, |asm| _ = asm.read_port(Byte, 0x80)).jump(again);
    })
}

fn command(asm: &mut Asm, cdb: &[u8]) {
    disks::request(asm, 0, cdb, (cdb.len() > 1).then_some(512));
    asm.load(Word, COUNT).add_eax(1).and_eax(0xffff).store(Word, COUNT);
    asm.store(Word, AREA + 0x1002).poke(Word, BAR + 0x3000 + 8, 2);
    let again = asm.here();
    asm.load(Word, AREA + 0x2002).jump_unless_eax_is_at(Word, COUNT, again);
    asm.load(Byte, ANSWER + 10).print_eax().print(" ");
}

fn guest(socket: OwnedFd, delay: u32, tls: impl FnOnce(&mut Rig) -> Option<NbdTls>) -> Guest {
    let mut rig = Rig::new(&counting());
    let mut host = disks::scsi(&mut rig);
    let mut drive = disks::drive(&mut rig, disks::image(), DriveKind::Disk, 0);
    let tls = tls(&mut rig);
    if let Some(medium) = &mut drive.medium {
        let export = "disk".to_owned();
        let socket = rig.add(socket);
        medium.image = Image::Nbd(Nbd { socket, export, tls, reconnect_delay: delay });
    }
    host.drives[0] = drive;
    rig.devices(vec![device("scsi0", 3, PciKind::Scsi(host))]).start()
}

fn connect(place: &Place) -> OwnedFd {
    match place {
        Place::Unix(path) => {
            let stream = UnixStream::connect(path).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream.into()
        }
        Place::Tcp(port) => {
            let stream = TcpStream::connect(("127.0.0.1", *port)).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream.into()
        }
    }
}

fn image(dir: &tempfile::TempDir) -> std::path::PathBuf {
    let path = dir.path().join("image");
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    path
}

/// The numbers that the guest has read, all of them well.
pub(crate) fn numbers(serial: &str) -> Vec<u32> {
    let lines: Vec<_> = serial.lines().skip(1).filter(|line| line.len() == 26).collect();
    assert!(lines.iter().all(|line| line.starts_with("00000000 00000000 ")), "{serial}");
    lines.iter().map(|line| u32::from_str_radix(&line[18..], 16).unwrap()).collect()
}

pub(crate) fn wait_for_more(guest: &mut Guest) {
    let before = numbers(&guest.serial()).len();
    guest.wait_serial("more numbers", |serial| numbers(serial).len() >= before + 10);
}

#[test]
fn a_guest_works_on_when_its_server_was_killed_and_comes_back() {
    needs_kvm!();
    let dir = tempfile::tempdir().unwrap();
    let (image, place) = (image(&dir), Place::Unix(dir.path().join("nbd.sock")));
    let server = NbdServer::start(&image, &place, None).unwrap();
    let mut guest = guest(connect(&place), 60, |_| None);
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    wait_for_more(&mut guest);
    server.kill();
    let wanted =
        |kind: &EventKind| matches!(kind, EventKind::ConnectionWanted { id, .. } if id == ID);
    for _ in 0..3 {
        client.event_like(wanted);
        let server = NbdServer::start(&image, &place, None).unwrap();
        let asked =
            client.ask_with(Request::Connect { id: ID.to_owned() }, &File::from(connect(&place)));
        assert_eq!(asked, Ok(Reply::Done));
        wait_for_more(&mut guest);
        server.kill();
    }
    let numbers = numbers(&guest.serial());
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "none is lost: {numbers:?}");

    let unknown = Request::Connect { id: "vda".to_owned() };
    let refused = client.ask_with(unknown, &tempfile::tempfile().unwrap()).unwrap_err();
    assert_eq!(refused.code, ControlErrorCode::NotFound);
    let refused = client.ask(Request::Connect { id: ID.to_owned() }).unwrap_err();
    assert_eq!(refused.code, ControlErrorCode::Malformed);
}

#[test]
fn a_server_that_is_lost_and_back_is_told_of() {
    needs_kvm!();
    let dir = tempfile::tempdir().unwrap();
    let (image, place) = (image(&dir), Place::Unix(dir.path().join("nbd.sock")));
    let server = NbdServer::start(&image, &place, None).unwrap();
    let mut guest = guest(connect(&place), 60, |_| None);
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    wait_for_more(&mut guest);
    assert_eq!(connected(&mut client), Some(true));
    server.kill();
    let changed = |wanted: bool| {
        move |kind: &EventKind| {
            matches!(kind, EventKind::ConnectionChanged { id, up, reason }
                if id == ID && *up == wanted && reason.is_some() != wanted)
        }
    };
    client.event_like(changed(false));
    assert_eq!(connected(&mut client), Some(false));
    let _server = NbdServer::start(&image, &place, None).unwrap();
    let asked =
        client.ask_with(Request::Connect { id: ID.to_owned() }, &File::from(connect(&place)));
    assert_eq!(asked, Ok(Reply::Done));
    client.event_like(changed(true));
    assert_eq!(connected(&mut client), Some(true));
}

fn connected(client: &mut Client) -> Option<bool> {
    let Ok(Reply::Statistics(statistics)) = client.ask(Request::Statistics) else {
        panic!("no statistics")
    };
    statistics.blocks.into_iter().find(|(id, _)| id == ID).unwrap().1.connected
}

#[test]
fn a_guest_waits_for_a_server_of_nbdkit_that_fails_and_loses_nothing() {
    needs_kvm!();
    let dir = tempfile::tempdir().unwrap();
    let (image, socket) = (image(&dir), dir.path().join("nbd.sock"));
    let failing = dir.path().join("failing");
    let server = NbdServer::start_failing(&image, &socket, &failing);
    let _server = match server {
        Ok(server) => server,
        Err(error) => return println!("SKIP: no nbdkit: {error:#}"),
    };
    let stop = |rig: &mut Rig| {
        let id = ID.to_owned();
        rig.config.disk_errors = vec![DiskErrors { id, write: OnError::Stop, read: OnError::Stop }];
        None
    };
    let mut guest = guest(connect(&Place::Unix(socket)), 60, stop);
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    for _ in 0..3 {
        wait_for_more(&mut guest);
        File::create(&failing).unwrap();
        client.event_like(|kind| *kind == EventKind::Paused);
        std::fs::remove_file(&failing).unwrap();
        client.ask(Request::Resume).unwrap();
    }
    wait_for_more(&mut guest);
    let numbers = numbers(&guest.serial());
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "none is lost: {numbers:?}");
}

#[test]
fn without_a_delay_the_guest_is_told_of_a_lost_server_at_once() {
    needs_kvm!();
    let dir = tempfile::tempdir().unwrap();
    let (image, place) = (image(&dir), Place::Unix(dir.path().join("nbd.sock")));
    let server = NbdServer::start(&image, &place, None).unwrap();
    let mut guest = guest(connect(&place), 0, |_| None);
    wait_for_more(&mut guest);
    server.kill();
    // CHECK CONDITION of both commands.
    guest.wait_serial("errors", |serial| serial.contains("\n00000002 00000002 "));
}

#[test]
fn a_guest_uses_a_server_by_tls_which_knows_it_by_its_certificate() {
    needs_kvm!();
    let dir = tempfile::tempdir().unwrap();
    let (image, place) = (image(&dir), Place::free_port().unwrap());
    let certificates = Certificates::new().unwrap();
    certificates.write(&dir.path().join("pki")).unwrap();
    let _server = NbdServer::start(&image, &place, Some(&dir.path().join("pki"))).unwrap();
    let tls = |rig: &mut Rig, name: &str| {
        let mut file = |name: &str| rig.add(File::open(dir.path().join("pki").join(name)).unwrap());
        Some(NbdTls {
            authority: file("ca-cert.pem"),
            client: Some((file("client-cert.pem"), file("client-key.pem"))),
            server_name: name.to_owned(),
        })
    };
    let mut good = guest(connect(&place), 0, |rig| tls(rig, "127.0.0.1"));
    wait_for_more(&mut good);
    let mut sector = [0; 512];
    File::open(&image).unwrap().read_exact_at(&mut sector, 9 * 512).unwrap();
    assert_ne!(sector[4..8], [0; 4], "it is in the server's image");

    let refused = |guest: Guest| guest.wait().1.reason;
    let other = refused(guest(connect(&place), 0, |rig| tls(rig, "example.org")));
    assert!(format!("{other:?}").contains("not valid for name"), "{other:?}");
    let clear = refused(guest(connect(&place), 0, |_| None));
    assert!(format!("{clear:?}").contains("use tls='yes'"), "{clear:?}");
}
