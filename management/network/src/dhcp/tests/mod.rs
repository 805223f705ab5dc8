//! The server against clients that keep to the standard, that don't, and that send noise.

mod claims;
mod exchange;
mod properties;

use std::net::Ipv4Addr;

use serde_json::json;

use super::options::{Options, Writer, code};
use super::packet::{COOKIE, FIXED, Kind};
use super::{Link, Reply, Server};
use crate::Mac;
use crate::config::Settings;

const NOW: u64 = 1_000_000;
const GATEWAY: [u8; 4] = [192, 168, 7, 1];

fn settings(value: serde_json::Value) -> Settings {
    serde_json::from_value(value).expect("well formed settings")
}

fn range(start: u8, end: u8) -> serde_json::Value {
    json!({ "start": format!("192.168.7.{start}"), "end": format!("192.168.7.{end}") })
}

fn link() -> Link {
    let gateway = "192.168.7.1/24".parse().unwrap();
    Link { network: "lab".into(), gateway, mtu: Some(1400), isolated: false }
}

fn server_of(dhcp: serde_json::Value) -> Server {
    Server::new(link(), &settings(json!({ "dhcp": dhcp })), None, Vec::new())
}

fn server(start: u8, end: u8) -> Server {
    server_of(json!({ "ranges": [range(start, end)] }))
}

/// A client as its messages show it.
#[derive(Clone)]
struct Guest {
    mac: Mac,
    ciaddr: [u8; 4],
    options: Vec<(u8, Vec<u8>)>,
}

fn guest(last: u8) -> Guest {
    Guest { mac: Mac([0x52, 0x54, 0, 0, 0, last]), ciaddr: [0; 4], options: Vec::new() }
}

impl Guest {
    fn with(mut self, number: u8, value: impl AsRef<[u8]>) -> Self {
        self.options.retain(|(other, _)| *other != number);
        self.options.push((number, value.as_ref().to_vec()));
        self
    }

    fn using(mut self, address: Ipv4Addr) -> Self {
        self.ciaddr = address.octets();
        self
    }

    fn packet(&self, kind: Kind) -> Vec<u8> {
        let mut bytes = vec![0; FIXED];
        bytes[..3].copy_from_slice(&[1, 1, 6]);
        bytes[4..8].copy_from_slice(&[9, 8, 7, 6]);
        bytes[12..16].copy_from_slice(&self.ciaddr);
        bytes[28..34].copy_from_slice(&self.mac.0);
        bytes[236..240].copy_from_slice(&COOKIE);
        let mut writer = Writer::new(1000);
        writer.put(code::TYPE, &[kind as u8]);
        self.options.iter().for_each(|(number, value)| {
            writer.put(*number, value);
        });
        bytes.extend(writer.finish());
        bytes
    }

    fn send(&self, server: &mut Server, kind: Kind, now: u64) -> Option<Answer> {
        server.handle(&self.packet(kind), now).map(Answer::read)
    }

    /// Discover, then take what is offered.
    fn join(&self, server: &mut Server, now: u64) -> Option<Ipv4Addr> {
        let offer = self.send(server, Kind::Discover, now)?;
        assert_eq!(offer.kind, Kind::Offer as u8);
        let ack = self.clone().take(offer.address).send(server, Kind::Request, now)?;
        assert_eq!((ack.kind, ack.address), (Kind::Ack as u8, offer.address));
        Some(ack.address)
    }

    fn take(self, address: Ipv4Addr) -> Self {
        self.with(code::REQUESTED, address.octets()).with(code::SERVER, GATEWAY)
    }
}

struct Answer {
    reply: Reply,
    kind: u8,
    address: Ipv4Addr,
    options: Options,
}

impl Answer {
    fn read(reply: Reply) -> Self {
        let bytes = &reply.bytes;
        assert!((300..=1472).contains(&bytes.len()));
        assert_eq!((bytes[0], &bytes[4..8]), (2, [9, 8, 7, 6].as_slice()));
        let address = Ipv4Addr::new(bytes[16], bytes[17], bytes[18], bytes[19]);
        let mut options = Options::default();
        options.read(&bytes[FIXED..]);
        let kind = options.get(code::TYPE).unwrap()[0];
        assert_eq!(options.get(code::SERVER).unwrap(), GATEWAY);
        Self { kind, address, options, reply }
    }

    fn seconds(&self) -> u32 {
        u32::from_be_bytes(self.options.array(code::LEASE_TIME).unwrap())
    }
}

fn at(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 7, last)
}
