#![allow(clippy::print_stdout, reason = "skips are told to who runs the tests")]

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;

use super::*;
use crate::{Broker, Ledger, Local, NetworkTerms, Owner, Policy};

fn range(first: u16, last: u16) -> PasstRange {
    PasstRange { first, last, to: None, excluded: false }
}

#[test]
fn arguments_are_those_that_libvirt_gives() {
    let passt = Passt {
        interface: Some("eth0".into()),
        addresses: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
        prefix: Some(24),
        mtu: Some(1400),
        log: Some("/var/log/passt.log".into()),
        user: None,
        forwards: vec![
            PasstForward {
                protocol: Protocol::Tcp,
                address: Some("2001:db8::1".parse().unwrap()),
                interface: Some("eth1".into()),
                ranges: vec![
                    range(22, 22),
                    PasstRange { to: Some(8080), ..range(80, 90) },
                    PasstRange { excluded: true, ..range(85, 86) },
                    PasstRange { to: Some(444), ..range(443, 443) },
                ],
            },
            PasstForward {
                protocol: Protocol::Udp,
                address: None,
                interface: None,
                ranges: Vec::new(),
            },
        ],
    };
    let expected = "passt --fd 3 --interface eth0 --address 192.0.2.7 --address 2001:db8::7 \
                    --netmask 24 --mtu 1400 --log-file /var/log/passt.log \
                    --tcp-ports 2001:db8::1%eth1/22,80-90:8080-8090,~85-86,443:444 \
                    --udp-ports all";
    assert_eq!(arguments(&passt).unwrap().join(" "), expected);
}

#[test]
fn a_program_that_is_missing_is_named_with_its_package() {
    let error = find(&["/nonexistent/passt".into()]).unwrap_err().to_string();
    assert_eq!(error, "this host has no passt; install the package passt");
}

/// A program in place of passt.
fn stand_in(text: &str) -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("passt");
    std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (dir, program)
}

#[test]
fn why_it_does_not_start_is_the_last_that_it_says() {
    let (_dir, program) = stand_in(
        "echo 'Do not run as root.' >&2; echo 'port 22 is taken' >&2; \
         echo 'Failed to send 7 bytes to syslog' >&2; exit 1",
    );
    let error = start(&program, "net0 of \"web\"", &Passt::default(), None).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("net0 of \"web\"") && text.contains("port 22 is taken"), "{text}");
}

#[test]
fn its_end_of_the_pair_is_its_own_and_goes_with_it() {
    let (_dir, program) = stand_in("echo hello >&3; exit 0");
    let ours = start(&program, "net0", &Passt::default(), None).unwrap();
    let mut said = String::new();
    std::fs::File::from(ours).read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello\n", "and then its end");
}

#[test]
fn a_daemon_has_no_word_in_who_it_is() {
    let (dir, program) = stand_in("echo \"$@\" >&3; exit 0");
    let started = |user, asked| {
        let owner = Owner { uid: 1, gid: 1, directories: Vec::new() };
        let policy = Policy::new(&owner, &[], None, Ledger::open(&dir.path().join("l"))?);
        let local = Local::new().with_passt(program.clone()).with_policy(Some(policy));
        let local = local.with_network_terms(NetworkTerms { user, seccomp: true });
        let broker: &dyn Broker = &local;
        let passt = Passt { user: asked, ..Passt::default() };
        let mut said = String::new();
        std::fs::File::from(broker.passt("net0", passt, None)?).read_to_string(&mut said).unwrap();
        Ok::<_, BrokerError>(said)
    };
    for asked in [None, Some((0, 0)), Some((9, 9))] {
        let said = started(Some((7, 8)), asked).unwrap();
        if rustix::process::geteuid().is_root() {
            assert_eq!(said, "--fd 3 --runas 7:8\n");
        }
        let error = started(None, asked).unwrap_err();
        assert!(matches!(error, BrokerError::NoNetworkUser), "{error}");
    }
}

/// A host with one way out: a network namespace, which this thread enters.
struct Host(String);

impl Host {
    fn enter() -> Option<Self> {
        if !rustix::process::geteuid().is_root() || Command::new("ip").arg("-V").output().is_err() {
            println!("SKIP: network namespaces need root and the command ip (iproute2)");
            return None;
        }
        let host = Self(format!("manor-passt-{}", std::process::id()));
        let name = &host.0;
        ip(&format!("netns add {name}"));
        for command in [
            "link set lo up",
            "link add out type veth peer name world",
            "link set world up",
            "addr add 192.0.2.2/24 dev out",
            "link set out up",
            "route add default via 192.0.2.1",
        ] {
            ip(&format!("-n {name} {command}"));
        }
        let file = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind)).unwrap();
        Some(host)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.0));
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
/// What passt gives the guest: the host's own.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// By which the guest reaches what listens at the host's loopback.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 2;

/// A guest's card, in frames.
struct Card(UnixStream);

impl Card {
    fn send(&mut self, protocol: u8, [from, to]: [Ipv4Addr; 2], payload: &[u8]) {
        let len = 20 + payload.len() as u16;
        let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        header[2..4].copy_from_slice(&len.to_be_bytes());
        header.extend([from.octets(), to.octets()].concat());
        let checksum = sum(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        let frame = [&[0xff; 6][..], &MAC, &[8, 0], &header, payload].concat();
        self.0.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
        self.0.write_all(&frame).unwrap();
    }

    /// The payload of the next IPv4 packet that `is_it`.
    fn expect(&mut self, protocol: u8, is_it: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        loop {
            let mut len = [0; 4];
            self.0.read_exact(&mut len).expect("a frame");
            let mut frame = vec![0; u32::from_be_bytes(len) as usize];
            self.0.read_exact(&mut frame).unwrap();
            let is_protocol = frame[12..14] == [8, 0] && frame[14 + 9] == protocol;
            if is_protocol && is_it(&frame[34..]) {
                return frame.split_off(34);
            }
        }
    }

    /// The address that a DHCP server offers.
    fn discover(&mut self) -> Ipv4Addr {
        let mut message = vec![1, 1, 6, 0, 1, 2, 3, 4];
        message.resize(28, 0);
        message.extend(MAC);
        message.resize(236, 0);
        message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]);
        let len = 8 + message.len() as u16;
        let mut datagram = [68_u16, 67, len, 0].map(u16::to_be_bytes).concat();
        datagram.extend(message);
        self.send(UDP, [NOBODY, Ipv4Addr::BROADCAST], &datagram);
        let offer = self.expect(UDP, |datagram| datagram[2..4] == 68_u16.to_be_bytes());
        let address: [u8; 4] = offer[8 + 16..8 + 20].try_into().unwrap();
        address.into()
    }

    /// Begin a TCP connection to the host.
    fn connect(&mut self, port: u16) {
        let mut segment = [40_000_u16, port].map(u16::to_be_bytes).concat();
        segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, SYN, 0xff, 0xff, 0, 0, 0, 0]);
        let pseudo =
            [&ADDRESS.octets()[..], &GATEWAY.octets(), &[0, TCP, 0, 20], &segment].concat();
        let checksum = sum(&pseudo);
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        self.send(TCP, [ADDRESS, GATEWAY], &segment);
    }
}

/// The Internet checksum (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[test]
fn a_guest_gets_an_address_reaches_the_host_and_is_reached() {
    let program = match manor_tests::tools::passt(manor_tests::apt::Release::Bookworm) {
        Ok(passt) => passt.program,
        Err(error) => return println!("SKIP: passt cannot be had: {error:#}"),
    };
    let Some(_host) = Host::enter() else { return };
    let broker = Local::new().with_passt(program);
    let broker: &dyn Broker = &broker;
    let passt = Passt {
        forwards: vec![PasstForward {
            protocol: Protocol::Tcp,
            address: None,
            interface: None,
            ranges: vec![PasstRange { to: Some(22), ..range(2022, 2022) }],
        }],
        ..Passt::default()
    };
    let taken = TcpListener::bind("0.0.0.0:2022").unwrap();
    let error = broker.passt("net0", passt.clone(), None).unwrap_err().to_string();
    assert!(error.contains("net0") && error.contains("2022"), "{error}");
    drop(taken);

    let socket = broker.passt("net0", passt, None).unwrap();
    let mut card = Card(socket.into());
    card.0.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(card.discover(), ADDRESS);

    let server = TcpListener::bind("127.0.0.1:8080").unwrap();
    card.connect(8080);
    server.accept().unwrap();

    let client = TcpStream::connect("127.0.0.1:2022").unwrap();
    let to_ssh = |segment: &[u8]| segment[2..4] == 22_u16.to_be_bytes();
    let segment = card.expect(TCP, to_ssh);
    assert_eq!(segment[13] & 0x3f, SYN);
    drop((client, card));
    let end = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect("127.0.0.1:2022").is_ok() {
        assert!(Instant::now() < end, "passt goes on without its guest");
        std::thread::sleep(Duration::from_millis(20));
    }
}
