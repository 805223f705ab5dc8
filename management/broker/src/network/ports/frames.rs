//! Frames as guests send them, with what is in them.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
pub(super) const OTHER: [u8; 6] = [0x52, 0x54, 0, 9, 9, 9];
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 10);
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
const ALL: [u8; 6] = [0xff; 6];
pub(super) const ADDRESS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 0x10);
pub(super) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 1);

/// To everyone.
pub(super) fn frame(from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    frame_to(ALL, from, kind, payload)
}

pub(super) fn frame_to(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// A reply that says where `address` is.
pub(super) fn arp(sender: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    let packet = [&head[..], &sender, &address.octets(), &OTHER, &[192, 168, 77, 20]].concat();
    frame(MAC, 0x0806, &packet)
}

pub(super) fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let head = [0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    [&head[..], &from.octets(), &to.octets(), payload].concat()
}

pub(super) fn udp(from: u16, to: u16) -> Vec<u8> {
    let payload = [7; 20];
    let fields = [from, to, 8 + 20, 0].map(u16::to_be_bytes).concat();
    [&fields[..], &payload].concat()
}

pub(super) fn ipv6(from: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [0x60, 0, 0, 0, length[0], length[1], next, 255];
    let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    frame(MAC, 0x86dd, &[&head[..], &from.octets(), &to.octets(), payload].concat())
}

pub(super) fn udp4(from: Ipv4Addr, to: Ipv4Addr, ports: (u16, u16)) -> Vec<u8> {
    frame(MAC, 0x0800, &ipv4(from, to, 17, &udp(ports.0, ports.1)))
}

/// A message about a neighbour (RFC 4861 §4.3 to 4.5): a type, flags and an address.
pub(super) fn neighbour(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets()].concat()
}
