//! [`Request`]: a client's message as RFC 2131 §2 lays it out, read once into owned values.

use std::net::Ipv4Addr;

use super::MAX_CLIENT_ID;
use super::options::{Options, code};
use crate::{Hex, Mac, names};

/// Bytes before the options: the fixed fields and the magic cookie.
pub(crate) const FIXED: usize = 240;
pub(super) const COOKIE: [u8; 4] = [99, 130, 83, 99];
pub(super) const BOOTREQUEST: u8 = 1;
pub(super) const BOOTREPLY: u8 = 2;
pub(super) const ETHERNET: u8 = 1;
/// Where the fields begin that are longer than a word.
pub(super) const CHADDR: usize = 28;
pub(super) const SNAME: usize = 44;
pub(super) const FILE: usize = 108;
pub(super) const COOKIE_AT: usize = 236;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
    Inform = 8,
}

/// Who asks. The MAC belongs to it even when there is an identifier: copies of one image send the
/// same identifier, and each of them needs an address of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Client {
    pub mac: Mac,
    pub id: Option<Hex>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub kind: Kind,
    pub xid: [u8; 4],
    pub flags: [u8; 2],
    pub ciaddr: Ipv4Addr,
    pub client: Client,
    pub hostname: Option<String>,
    pub options: Options,
}

impl Request {
    /// `None` for what is no request of a client on this link: other hardware, relayed messages,
    /// plain BOOTP, and what is malformed.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (fixed, variable) = bytes.split_first_chunk::<FIXED>()?;
        let [op, hardware, length, _, ..] = *fixed;
        let relay: [u8; 4] = field(fixed, 24)?;
        let cookie: [u8; 4] = field(fixed, COOKIE_AT)?;
        let ours = op == BOOTREQUEST
            && hardware == ETHERNET
            && length == 6
            && relay == [0; 4]
            && cookie == COOKIE;
        if !ours {
            return None;
        }
        let mac = Mac(field(fixed, CHADDR)?);
        // A group has no address of its own.
        if mac.0.first().is_none_or(|first| first & 1 != 0) || mac.0 == [0; 6] {
            return None;
        }
        let options = read_options(fixed, variable)?;
        let kind = match options.array::<1>(code::TYPE)? {
            [1] => Kind::Discover,
            [3] => Kind::Request,
            [4] => Kind::Decline,
            [7] => Kind::Release,
            [8] => Kind::Inform,
            _ => return None,
        };
        let id = options.get(code::CLIENT_ID);
        let id = id.filter(|id| (2..=MAX_CLIENT_ID).contains(&id.len()));
        Some(Self {
            kind,
            xid: field(fixed, 4)?,
            flags: field(fixed, 10)?,
            ciaddr: field::<4>(fixed, 12)?.into(),
            client: Client { mac, id: id.map(|id| Hex(id.to_vec())) },
            hostname: hostname(&options),
            options,
        })
    }

    pub(super) fn wants(&self, number: u8) -> bool {
        self.options.get(code::PARAMETERS).is_none_or(|wanted| wanted.contains(&number))
    }
}

fn field<const N: usize>(fixed: &[u8; FIXED], at: usize) -> Option<[u8; N]> {
    fixed.get(at..)?.first_chunk::<N>().copied()
}

/// The options field, and after it the fields that it says hold options as well (option 52).
fn read_options(fixed: &[u8; FIXED], variable: &[u8]) -> Option<Options> {
    let mut options = Options::default();
    options.read(variable);
    let overload = options.array::<1>(code::OVERLOAD).map_or(0, |[overload]| overload);
    if overload & 1 != 0 {
        options.read(fixed.get(FILE..COOKIE_AT)?);
    }
    if overload & 2 != 0 {
        options.read(fixed.get(SNAME..FILE)?);
    }
    Some(options)
}

/// Option 12, or what Windows sends in its place: flags, two bytes of no use, and the name, as text
/// or as labels (RFC 4702 §2).
fn hostname(options: &Options) -> Option<String> {
    const ENCODED: u8 = 1 << 2;
    let plain = options.get(code::HOSTNAME).and_then(names::sanitised);
    plain.or_else(|| {
        let ([flags, _, _], name) = options.get(code::FQDN)?.split_first_chunk::<3>()?;
        if flags & ENCODED == 0 {
            return names::sanitised(name);
        }
        let (length, labels) = name.split_first()?;
        names::sanitised(labels.get(..usize::from(*length))?)
    })
}
