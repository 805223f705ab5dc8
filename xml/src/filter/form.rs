//! What attributes of rules are: the text of a value, and the value that frames are held against.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::value::Expected;

/// How the text of an attribute, or of a variable's value in its place, is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Mac,
    Ipv4,
    /// A length, or a mask.
    Ipv4Mask,
    Ipv6,
    Ipv6Mask,
    /// Up to this, decimal or with 0x.
    Number(u32),
    /// A protocol in Ethernet: a name or a number.
    EtherType,
    /// What an ARP message is.
    ArpOpcode,
    /// A protocol in IP.
    IpProtocol,
    /// Which flags of TCP are looked at, and which of them are set.
    TcpFlags,
    /// Of connections.
    States,
    Text,
}

/// What a text stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datum {
    Mac([u8; 6]),
    Ipv4(Ipv4Addr),
    Ipv6(Ipv6Addr),
    Number(u32),
    TcpFlags {
        looked_at: u8,
        set: u8,
    },
    /// As the kernel's packet filter has them, one bit each; none: in any.
    States(u8),
    Text,
}

/// Bits of [`Datum::States`].
const STATE_INVALID: u8 = 1;
pub const STATE_ESTABLISHED: u8 = 2;
const STATE_RELATED: u8 = 4;
pub const STATE_NEW: u8 = 8;

type Names = &'static [(&'static str, u32)];

const ETHER_TYPES: Names =
    &[("arp", 0x806), ("rarp", 0x8035), ("ipv4", 0x800), ("ipv6", 0x86dd), ("vlan", 0x8100)];
const ARP_OPCODES: Names = &[
    ("Request", 1),
    ("Reply", 2),
    ("Request_Reverse", 3),
    ("Reply_Reverse", 4),
    ("DRARP_Request", 5),
    ("DRARP_Reply", 6),
    ("DRARP_Error", 7),
    ("InARP_Request", 8),
    ("ARP_NAK", 9),
];
const IP_PROTOCOLS: Names = &[
    ("tcp", 6),
    ("udp", 17),
    ("udplite", 136),
    ("esp", 50),
    ("ah", 51),
    ("icmp", 1),
    ("igmp", 2),
    ("sctp", 132),
    ("icmpv6", 58),
];
const TCP_FLAGS: Names =
    &[("FIN", 1), ("SYN", 2), ("RST", 4), ("PSH", 8), ("ACK", 16), ("URG", 32)];
const ALL_FLAGS: u32 = 63;
const STATES: Names = &[
    ("NEW", STATE_NEW as u32),
    ("ESTABLISHED", STATE_ESTABLISHED as u32),
    ("RELATED", STATE_RELATED as u32),
    ("INVALID", STATE_INVALID as u32),
];

impl Form {
    /// What the text stands for.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn read(self, text: &str) -> Result<Datum, String> {
        self.parse(text).map_err(|expected| match expected {
            Expected::Names(names) => names.join(", "),
            Expected::Form(form) => form.to_owned(),
            Expected::Range(range) => range,
        })
    }

    pub(crate) fn parse(self, text: &str) -> Result<Datum, Expected> {
        match self {
            Self::Mac => mac(text).map(Datum::Mac),
            Self::Ipv4 => {
                let form = Expected::Form("an IPv4 address such as 192.168.122.1");
                text.parse().map(Datum::Ipv4).map_err(|_| form)
            }
            Self::Ipv6 => {
                let form = Expected::Form("an IPv6 address such as fd00::1");
                text.parse().map(Datum::Ipv6).map_err(|_| form)
            }
            Self::Ipv4Mask => {
                let form =
                    || Expected::Form("a length from 0 to 32, or a mask such as 255.255.255.0");
                let mask = match prefix(text, 32) {
                    Some(length) => u32::MAX.checked_shl(32 - length).unwrap_or(0).into(),
                    None => text.parse::<Ipv4Addr>().map_err(|_| form())?,
                };
                Ok(Datum::Ipv4(mask))
            }
            Self::Ipv6Mask => {
                let form = || Expected::Form("a length from 0 to 128, or a mask such as ffff::");
                let mask = match prefix(text, 128) {
                    Some(length) => u128::MAX.checked_shl(128 - length).unwrap_or(0).into(),
                    None => text.parse::<Ipv6Addr>().map_err(|_| form())?,
                };
                Ok(Datum::Ipv6(mask))
            }
            Self::Number(most) => number(text, 0, most).map(Datum::Number),
            Self::EtherType => {
                const FIRST: u32 = 0x600;
                let names =
                    Expected::Form("arp, rarp, ipv4, ipv6, vlan, or a number from 0x600 up");
                named(ETHER_TYPES, text)
                    .map_or_else(|| number(text, FIRST, 0xffff).map_err(|_| names), Ok)
                    .map(Datum::Number)
            }
            Self::ArpOpcode => {
                let names = Expected::Form(
                    "Request, Reply, Request_Reverse, Reply_Reverse, DRARP_Request, \
                                            DRARP_Reply, DRARP_Error, InARP_Request, ARP_NAK, or a number",
                );
                named(ARP_OPCODES, text)
                    .map_or_else(|| number(text, 0, 0xffff).map_err(|_| names), Ok)
                    .map(Datum::Number)
            }
            Self::IpProtocol => {
                let names = Expected::Form(
                    "tcp, udp, udplite, esp, ah, icmp, igmp, sctp, icmpv6, or a number up \
                                            to 255",
                );
                named(IP_PROTOCOLS, text)
                    .map_or_else(|| number(text, 0, 255).map_err(|_| names), Ok)
                    .map(Datum::Number)
            }
            Self::TcpFlags => tcp_flags(text),
            Self::States => {
                let form = || Expected::Form("NONE, or some of NEW,ESTABLISHED,RELATED,INVALID");
                let bits = list(STATES, text, 0).ok_or_else(form)?;
                Ok(Datum::States(u8::try_from(bits).unwrap_or(0)))
            }
            Self::Text => Ok(Datum::Text),
        }
    }
}

/// Names are libvirt's in any case.
fn named(names: Names, text: &str) -> Option<u32> {
    names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, number)| *number)
}

fn prefix(text: &str, most: u32) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok().filter(|length| *length <= most) } else { None }
}

fn number(text: &str, least: u32, most: u32) -> Result<u32, Expected> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(Expected::Form("a number, decimal or with 0x"));
    }
    let number = u32::from_str_radix(digits, radix).ok();
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| Expected::Range(format!("{least} to {most}")))
}

/// Of any kind: groups, and masks too.
fn mac(text: &str) -> Result<[u8; 6], Expected> {
    let form = || Expected::Form("a MAC address such as 52:54:00:12:34:56");
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| matches!(part.len(), 1 | 2)).ok_or_else(form)?;
        if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(form());
        }
        *byte = u8::from_str_radix(part, 16).map_err(|_| form())?;
    }
    if parts.next().is_some() { Err(form()) } else { Ok(bytes) }
}

/// Names with commas between them, or `NONE`, or `ALL` where there is such a thing.
fn list(names: Names, text: &str, all: u32) -> Option<u32> {
    match text {
        "NONE" => Some(0),
        "ALL" if all != 0 => Some(all),
        _ => text.split(',').try_fold(0, |bits, name| Some(bits | named(names, name)?)),
    }
}

fn tcp_flags(text: &str) -> Result<Datum, Expected> {
    let form = || Expected::Form("flags to look at and those to be set, such as SYN,ACK/SYN");
    let (looked_at, set) = text.split_once('/').ok_or_else(form)?;
    let flags = |text| list(TCP_FLAGS, text, ALL_FLAGS).and_then(|bits| u8::try_from(bits).ok());
    let (looked_at, set) = flags(looked_at).zip(flags(set)).ok_or_else(form)?;
    Ok(Datum::TcpFlags { looked_at, set })
}
