//! A guest that sends all it can: the server stays small, and others are served.

use std::io::Write;
use std::net::{Ipv6Addr, SocketAddrV6, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket, sockopt};
use simple_dns::TYPE;

use super::{ACK, Client, DISCOVER, GATEWAY, Lab, REQUEST, address_in, over_udp, settings};
use crate::sys;

/// Numbers that look random and are the same in every run (xorshift64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.next() % most).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

#[test]
fn a_guest_that_sends_noise_takes_the_service_from_nobody() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start(settings(&lab));
    let mac = lab.client_mac();
    let address =
        lab.in_client(move || Client::new(mac).join(&[(12, b"guest")])).expect("an address");
    lab.give_client(address);
    let before = lab.resident();
    let start = Instant::now();
    lab.in_client(|| {
        let mut noise = Noise(88_172_645_463_325_252);
        dhcp_noise(&mut noise);
        dns_noise(&mut noise);
        router_noise(&mut noise);
        let _idle: Vec<_> = tcp_noise(&mut noise);
        assert_eq!(address_in(&over_udp("guest", TYPE::A)), Some(address));
    });
    lab.in_client(move || {
        let renewed = Client::new(mac).using(address).ask(REQUEST, &[]).expect("more time");
        assert_eq!((renewed.kind, renewed.address), (ACK, address));
    });
    let status = lab.status();
    assert_ne!(status["dhcp"]["exhausted"], 0, "there were more guests than addresses");
    assert_ne!(status["router"]["solicitations"], 0);
    let advertisements = status["router"]["advertisements"].as_u64().unwrap();
    assert!(advertisements <= start.elapsed().as_secs() / 3 + 2, "{advertisements}");
    let after = lab.resident();
    assert!(after < before + 8192, "{before} KiB, then {after} KiB");
    lab.stop();
}

/// Bytes of no sense, and guests that nobody has, one after the other.
fn dhcp_noise(noise: &mut Noise) {
    for _ in 0..500 {
        let mac = noise.next().to_le_bytes();
        let mac = [2, mac[1], mac[2], mac[3], mac[4], mac[5]];
        let client = Client::new(mac);
        client.send(DISCOVER, &[(12, &noise.bytes(64))]);
    }
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for _ in 0..2000 {
        socket.send_to(&noise.bytes(700), (GATEWAY, 67)).unwrap();
    }
}

fn dns_noise(noise: &mut Noise) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for round in 0..3000 {
        let mut bytes = noise.bytes(300);
        if let Some(header) = bytes.first_chunk_mut::<12>()
            && round % 2 == 0
        {
            header[2..].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        }
        socket.send_to(&bytes, (GATEWAY, 53)).unwrap();
    }
}

/// Connections that say nothing, too much or half of it.
fn tcp_noise(noise: &mut Noise) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..60 {
        let mut stream = TcpStream::connect((GATEWAY, 53)).unwrap();
        // Fails when the server has hung up already.
        let _ = stream.write_all(&noise.bytes(40));
        streams.push(stream);
    }
    streams
}

fn router_noise(noise: &mut Noise) {
    let raw = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
    sys::bind_to_device(raw.as_fd(), "c0");
    sockopt::set_ipv6_multicast_hops(&raw, 255).unwrap();
    let to = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2), 0, 0, 0);
    // An address of the link takes a moment to be free to use.
    let end = Instant::now() + Duration::from_secs(10);
    let mut sent = 0;
    while sent < 2000 && Instant::now() < end {
        let mut message = vec![133, 0, 0, 0, 0, 0, 0, 0];
        if sent % 2 == 0 {
            message.extend(noise.bytes(60));
        }
        match sendto(&raw, &message, SendFlags::empty(), &to) {
            Ok(_) => sent += 1,
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    assert_eq!(sent, 2000);
}
