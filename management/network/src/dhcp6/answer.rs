//! Messages to clients (RFC 8415 §18.3).

use std::net::Ipv6Addr;

use super::message::{Request, code};
use super::server::Server;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Advertise = 2,
    Reply = 7,
}

/// RFC 8415 §21.13.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Success = 0,
    NoAddress = 2,
    NoBinding = 3,
    NotOnLink = 4,
}

impl Status {
    fn text(self) -> &'static str {
        match self {
            Self::Success => "done",
            Self::NoAddress => "no address is left",
            Self::NoBinding => "no such lease",
            Self::NotOnLink => "not an address of this network",
        }
    }
}

/// What becomes of one association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Seconds; `None` without end.
    Lease(Ipv6Addr, Option<u32>),
    /// The client is to use these no more.
    Withdrawn(Vec<Ipv6Addr>),
    Refused(Status),
}

/// After so many seconds, who has only asked for the rest asks again.
const REFRESH: u32 = 3600;
/// The client need not wait for other servers.
const PREFERENCE: u8 = 255;

pub(super) struct Answer(Vec<u8>);

impl Answer {
    pub(super) fn new(server: &Server, request: &Request, kind: Kind) -> Self {
        let mut bytes = vec![kind as u8];
        bytes.extend(request.xid);
        let mut answer = Self(bytes);
        if let Some(client) = &request.client {
            answer.option(code::CLIENT, &client.0);
        }
        answer.option(code::SERVER, &server.link.server_id);
        if kind == Kind::Advertise {
            answer.option(code::PREFERENCE, &[PREFERENCE]);
        }
        answer
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        append(&mut self.0, code, value);
    }

    pub(super) fn rapid(mut self) -> Self {
        self.option(code::RAPID_COMMIT, &[]);
        self
    }

    pub(super) fn status(mut self, status: Status) -> Self {
        self.option(code::STATUS, &status_of(status));
        self
    }

    pub(super) fn association(&mut self, id: u32, outcome: &Outcome) {
        let mut value = id.to_be_bytes().to_vec();
        let (renew, rebind) = match outcome {
            Outcome::Lease(_, seconds) => times(*seconds),
            Outcome::Withdrawn(_) | Outcome::Refused(_) => (0, 0),
        };
        value.extend(renew.to_be_bytes());
        value.extend(rebind.to_be_bytes());
        match outcome {
            Outcome::Lease(given, seconds) => address(&mut value, *given, *seconds),
            Outcome::Withdrawn(gone) => {
                gone.iter().for_each(|gone| address(&mut value, *gone, Some(0)));
            }
            Outcome::Refused(status) => append(&mut value, code::STATUS, &status_of(*status)),
        }
        self.option(code::IA_NA, &value);
    }

    /// What else the client wants to know.
    pub(super) fn finish(mut self, server: &Server, request: &Request) -> Vec<u8> {
        if server.dns && request.wants(code::DNS) {
            self.option(code::DNS, &server.link.gateway.addr().octets());
        }
        if let Some(domain) = server.domain.as_deref().filter(|_| request.wants(code::DOMAINS)) {
            let mut name = Vec::new();
            for label in domain.split('.') {
                name.push(u8::try_from(label.len()).unwrap_or(0));
                name.extend(label.as_bytes());
            }
            name.push(0);
            self.option(code::DOMAINS, &name);
        }
        if request.kind == super::message::Kind::Information && request.wants(code::REFRESH) {
            self.option(code::REFRESH, &REFRESH.to_be_bytes());
        }
        self.0
    }
}

fn append(bytes: &mut Vec<u8>, code: u16, value: &[u8]) {
    // Each value here is far below 64 KiB: addresses, names and identifiers are all bounded.
    let Ok(length) = u16::try_from(value.len()) else { return };
    bytes.extend(code.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(value);
}

fn status_of(status: Status) -> Vec<u8> {
    let mut value = (status as u16).to_be_bytes().to_vec();
    value.extend(status.text().as_bytes());
    value
}

fn address(bytes: &mut Vec<u8>, given: Ipv6Addr, seconds: Option<u32>) {
    let seconds = seconds.unwrap_or(u32::MAX).to_be_bytes();
    let mut value = given.octets().to_vec();
    // Preferred for as long as it is valid.
    value.extend(seconds);
    value.extend(seconds);
    append(bytes, code::ADDRESS, &value);
}

/// When to ask for more time: this server, and then any (RFC 8415 §21.4).
fn times(seconds: Option<u32>) -> (u32, u32) {
    seconds.map_or((u32::MAX, u32::MAX), |seconds| (seconds / 2, seconds / 5 * 4))
}
