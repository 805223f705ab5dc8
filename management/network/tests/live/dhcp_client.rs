//! A DHCP client of a page: what it sends is written out by hand, so that a mistake of the server's
//! own codec is none of its.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::lab::{GATEWAY, alone};
use crate::sys;

pub(crate) const DISCOVER: u8 = 1;
pub(crate) const OFFER: u8 = 2;
pub(crate) const REQUEST: u8 = 3;
pub(crate) const ACK: u8 = 5;
pub(crate) const NAK: u8 = 6;
pub(crate) const RELEASE: u8 = 7;

const XID: [u8; 4] = [0xca, 0xfe, 0, 1];

pub(crate) struct Client {
    /// Until it is dropped.
    socket: Option<UdpSocket>,
    mac: [u8; 6],
    address: Ipv4Addr,
}

impl Drop for Client {
    /// A process that another test starts has our files until it is the program it is to be: the port
    /// would not be free for the next client.
    fn drop(&mut self) {
        let _alone = alone();
        self.socket = None;
    }
}

pub(crate) struct Answer {
    pub kind: u8,
    pub address: Ipv4Addr,
    options: Vec<(u8, Vec<u8>)>,
}

impl Answer {
    pub(crate) fn option(&self, number: u8) -> Option<&[u8]> {
        let mut options = self.options.iter();
        options.find(|(other, _)| *other == number).map(|(_, value)| value.as_slice())
    }
}

impl Client {
    /// On `c0` of the namespace that this thread is in.
    pub(crate) fn new(mac: [u8; 6]) -> Self {
        let socket = UdpSocket::bind("0.0.0.0:68").unwrap();
        sys::bind_to_device(socket.as_fd(), "c0");
        socket.set_broadcast(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Self { socket: Some(socket), mac, address: Ipv4Addr::UNSPECIFIED }
    }

    pub(crate) fn using(mut self, address: Ipv4Addr) -> Self {
        self.address = address;
        self
    }

    fn socket(&self) -> &UdpSocket {
        self.socket.as_ref().expect("it is there until the client is dropped")
    }

    /// With an address, to the server; without one, to all.
    pub(crate) fn send(&self, kind: u8, options: &[(u8, &[u8])]) {
        let mut message = vec![0; 240];
        message[..4].copy_from_slice(&[1, 1, 6, 0]);
        message[4..8].copy_from_slice(&XID);
        message[12..16].copy_from_slice(&self.address.octets());
        message[28..34].copy_from_slice(&self.mac);
        message[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        message.extend([53, 1, kind]);
        for (number, value) in options {
            message.extend([*number, value.len() as u8]);
            message.extend(*value);
        }
        message.push(255);
        let to = if self.address.is_unspecified() { Ipv4Addr::BROADCAST } else { GATEWAY };
        self.socket().send_to(&message, (to, 67)).unwrap();
    }

    /// Send until there is an answer, for five seconds.
    pub(crate) fn ask(&self, kind: u8, options: &[(u8, &[u8])]) -> Option<Answer> {
        let end = Instant::now() + Duration::from_secs(5);
        let mut buffer = [0; 1500];
        while Instant::now() < end {
            self.send(kind, options);
            if let Ok((length, _)) = self.socket().recv_from(&mut buffer) {
                return Some(self.read(&buffer[..length]));
            }
        }
        None
    }

    fn read(&self, message: &[u8]) -> Answer {
        assert_eq!(message[..3], [2, 1, 6]);
        assert_eq!(message[4..8], XID);
        assert_eq!(message[28..34], self.mac);
        let mut options = Vec::new();
        let mut rest = &message[240..];
        while let [number, length, after @ ..] = rest
            && *number != 255
        {
            let (value, after) = after.split_at((*length).into());
            options.push((*number, value.to_vec()));
            rest = after;
        }
        let kind = options.iter().find(|(number, _)| *number == 53).expect("a type").1[0];
        let [a, b, c, d] = [message[16], message[17], message[18], message[19]];
        Answer { kind, address: Ipv4Addr::new(a, b, c, d), options }
    }

    pub(crate) fn join(&self, options: &[(u8, &[u8])]) -> Option<Ipv4Addr> {
        let offer = self.ask(DISCOVER, options)?.address;
        let (wanted, server) = (offer.octets(), GATEWAY.octets());
        let options = [options, &[(50, &wanted), (54, &server)]].concat();
        let answer = self.ask(REQUEST, &options)?;
        (answer.kind == ACK).then_some(answer.address)
    }
}
