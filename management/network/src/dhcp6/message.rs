//! [`Request`]: a client's message as RFC 8415 §8 and §21 lay it out, read once into owned values.

use std::net::Ipv6Addr;

use super::DUID;
use crate::{Hex, Mac, names};

/// Options of a message, and addresses of an association: a client has no use for as many.
const MAX_OPTIONS: usize = 64;
const MAX_ADDRESSES: usize = 8;
/// Associations of one message that are answered; a client has one for each interface.
pub(super) const MAX_ASSOCIATIONS: usize = 4;

/// Of options (RFC 8415 §21, RFC 3646, RFC 4704).
pub(super) mod code {
    pub(in super::super) const CLIENT: u16 = 1;
    pub(in super::super) const SERVER: u16 = 2;
    pub(in super::super) const IA_NA: u16 = 3;
    pub(in super::super) const ADDRESS: u16 = 5;
    pub(in super::super) const WANTED: u16 = 6;
    pub(in super::super) const PREFERENCE: u16 = 7;
    pub(in super::super) const STATUS: u16 = 13;
    pub(in super::super) const RAPID_COMMIT: u16 = 14;
    pub(in super::super) const DNS: u16 = 23;
    pub(in super::super) const DOMAINS: u16 = 24;
    pub(in super::super) const REFRESH: u16 = 32;
    pub(in super::super) const NAME: u16 = 39;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Solicit = 1,
    Request = 3,
    Confirm = 4,
    Renew = 5,
    Rebind = 6,
    Release = 8,
    Decline = 9,
    Information = 11,
}

/// An identity association: what one interface of a client wants addresses for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Association {
    pub id: u32,
    pub addresses: Vec<Ipv6Addr>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub kind: Kind,
    pub xid: [u8; 3],
    /// The address of the link that it came from.
    pub source: Ipv6Addr,
    pub client: Option<Hex>,
    pub server: Option<Vec<u8>>,
    pub associations: Vec<Association>,
    pub rapid_commit: bool,
    pub hostname: Option<String>,
    wanted: Option<Vec<u8>>,
}

impl Request {
    /// `None` for what is no message of a client on this link, and what is malformed.
    pub(super) fn parse(bytes: &[u8], source: Ipv6Addr) -> Option<Self> {
        // A client speaks from its address of the link (RFC 8415 §13.1).
        if !source.is_unicast_link_local() {
            return None;
        }
        let ([kind, xid @ ..], rest) = bytes.split_first_chunk::<4>()?;
        let kind = match kind {
            1 => Kind::Solicit,
            3 => Kind::Request,
            4 => Kind::Confirm,
            5 => Kind::Renew,
            6 => Kind::Rebind,
            8 => Kind::Release,
            9 => Kind::Decline,
            11 => Kind::Information,
            _ => return None,
        };
        let options = options(rest)?;
        let get = |code| options.iter().find(|(other, _)| *other == code).map(|(_, value)| *value);
        let client = match get(code::CLIENT) {
            Some(id) if DUID.contains(&id.len()) => Some(Hex(id.to_vec())),
            Some(_) => return None,
            None => None,
        };
        let associations = options.iter().filter(|(code, _)| *code == code::IA_NA);
        let associations = associations.take(MAX_ASSOCIATIONS).map(|(_, value)| association(value));
        Some(Self {
            kind,
            xid: *xid,
            source,
            client,
            server: get(code::SERVER).map(<[u8]>::to_vec),
            associations: associations.collect::<Option<_>>()?,
            rapid_commit: get(code::RAPID_COMMIT).is_some(),
            hostname: get(code::NAME).and_then(hostname),
            wanted: get(code::WANTED).map(<[u8]>::to_vec),
        })
    }

    /// Who names nothing wants everything.
    pub(super) fn wants(&self, code: u16) -> bool {
        let is = |pair: &[u8]| pair == code.to_be_bytes();
        self.wanted.as_ref().is_none_or(|wanted| wanted.chunks(2).any(is))
    }

    /// The client's hardware address, where it says which: in its identifier (RFC 8415 §11.2, §11.4),
    /// or in the address of its link (RFC 4291, appendix A).
    pub(super) fn mac(&self) -> Option<Mac> {
        let of_client = self.client.as_ref().and_then(|Hex(id)| match id.as_slice() {
            [0, 1, 0, 1, _, _, _, _, mac @ ..] | [0, 3, 0, 1, mac @ ..] => {
                mac.try_into().ok().map(Mac)
            }
            _ => None,
        });
        of_client.or_else(|| match self.source.octets() {
            [_, _, _, _, _, _, _, _, a, b, c, 0xff, 0xfe, d, e, f] => {
                Some(Mac([a ^ 2, b, c, d, e, f]))
            }
            _ => None,
        })
    }
}

/// All of them, or nothing where one does not end within the message.
fn options(mut rest: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let ([c0, c1, l0, l1], after) = rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let (value, after) = after.split_at_checked(length)?;
        if found.len() == MAX_OPTIONS {
            return None;
        }
        found.push((u16::from_be_bytes([*c0, *c1]), value));
        rest = after;
    }
    Some(found)
}

fn association(value: &[u8]) -> Option<Association> {
    // Behind the number, two times that clients leave to the server.
    let ([i0, i1, i2, i3, ..], rest) = value.split_first_chunk::<12>()?;
    let addresses = options(rest)?.into_iter().filter(|(code, _)| *code == code::ADDRESS);
    let address = |(_, value): (u16, &[u8])| {
        let (address, _) = value.split_first_chunk::<24>()?.0.split_first_chunk::<16>()?;
        Some(Ipv6Addr::from(*address))
    };
    Some(Association {
        id: u32::from_be_bytes([*i0, *i1, *i2, *i3]),
        addresses: addresses.take(MAX_ADDRESSES).map(address).collect::<Option<_>>()?,
    })
}

/// Flags, and a name as labels, the first of which is the client's (RFC 4704 §4.1).
fn hostname(value: &[u8]) -> Option<String> {
    let (_, labels) = value.split_first()?;
    let (length, labels) = labels.split_first()?;
    names::sanitised(labels.get(..usize::from(*length))?)
}
