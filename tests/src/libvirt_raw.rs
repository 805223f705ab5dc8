//! A client of libvirt's protocol that makes nothing of what it is told: it sends calls that were encoded before and
//! reads answers to their last byte, so that what it times is the daemon at the other end.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

const REMOTE: u32 = 0x2000_8086;
const VERSION: u32 = 1;
/// The length of the packet, program, version, procedure, kind, serial, status.
const HEADER: usize = 28;
/// No answer of a bench is longer.
const MOST: usize = 64 << 20;
/// A daemon that is silent for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(120);

mod procedure {
    pub(super) const OPEN: i32 = 1;
    pub(super) const DEFINE_XML: i32 = 11;
    pub(super) const DUMP_XML: i32 = 14;
    pub(super) const GET_INFO: i32 = 16;
    pub(super) const LOOKUP_BY_NAME: i32 = 23;
    pub(super) const UNDEFINE: i32 = 35;
    pub(super) const AUTH_LIST: i32 = 66;
    pub(super) const LIST_ALL_DOMAINS: i32 = 273;
    pub(super) const GET_ALL_DOMAIN_STATS: i32 = 344;
}

/// A call as it goes over the socket, again and again.
#[derive(Debug, Clone)]
pub struct Call(Vec<u8>);

/// A domain as daemons name it on the wire.
#[derive(Debug, Clone)]
pub struct Domain(Vec<u8>);

/// libvirt XML of a domain with what most have.
#[must_use]
pub fn definition(name: &str) -> String {
    include_str!("libvirt_raw.xml").replace("NAME", name)
}

#[derive(Debug)]
pub struct RawClient {
    socket: UnixStream,
    answer: Vec<u8>,
}

impl Call {
    fn new(procedure: i32, arguments: &[u8]) -> Self {
        let length = u32::try_from(HEADER + arguments.len()).expect("an argument of a test");
        let mut packet = Vec::with_capacity(HEADER + arguments.len());
        for word in [length, REMOTE, VERSION] {
            packet.extend(word.to_be_bytes());
        }
        packet.extend(procedure.to_be_bytes());
        // A call, with a serial that need not differ: there is one at a time.
        for word in [0_u32, 1, 0] {
            packet.extend(word.to_be_bytes());
        }
        packet.extend(arguments);
        Self(packet)
    }

    /// virConnectListAllDomains, of all.
    #[must_use]
    pub fn list() -> Self {
        Self::new(procedure::LIST_ALL_DOMAINS, &words([1, 0]))
    }

    /// virConnectGetAllDomainStats, of all and everything.
    #[must_use]
    pub fn stats() -> Self {
        Self::new(procedure::GET_ALL_DOMAIN_STATS, &words([0, 0, 0]))
    }

    #[must_use]
    pub fn info(domain: &Domain) -> Self {
        Self::new(procedure::GET_INFO, &domain.0)
    }

    #[must_use]
    pub fn xml(domain: &Domain) -> Self {
        Self::new(procedure::DUMP_XML, &[domain.0.as_slice(), &words([0])].concat())
    }

    #[must_use]
    pub fn lookup(name: &str) -> Self {
        Self::new(procedure::LOOKUP_BY_NAME, &string(name))
    }

    #[must_use]
    pub fn define(xml: &str) -> Self {
        Self::new(procedure::DEFINE_XML, &string(xml))
    }
}

fn words<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_be_bytes).collect()
}

/// XDR: the length, the bytes, and zeros to the next word.
fn string(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a text of a test");
    let mut encoded = length.to_be_bytes().to_vec();
    encoded.extend(text.as_bytes());
    encoded.resize(encoded.len().next_multiple_of(4), 0);
    encoded
}

impl RawClient {
    pub fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self { socket: stream, answer: Vec::new() };
        client.ask(&Call::new(procedure::AUTH_LIST, &[]))?;
        let open = [words([1]), string("qemu:///system"), words([0])].concat();
        client.ask(&Call::new(procedure::OPEN, &open))?;
        Ok(client)
    }

    /// What it is answered with, without the header; an error if that is one.
    pub fn ask(&mut self, call: &Call) -> anyhow::Result<&[u8]> {
        self.socket.write_all(&call.0)?;
        let mut length = [0; 4];
        self.socket.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length))?;
        if !(HEADER..MOST).contains(&length) {
            bail!("an answer of {length} bytes");
        }
        self.answer.resize(length - 4, 0);
        self.socket.read_exact(&mut self.answer)?;
        let (header, payload) = self.answer.split_at(HEADER - 4);
        if header.last_chunk() != Some(&[0; 4]) {
            bail!("refused: {}", String::from_utf8_lossy(payload));
        }
        Ok(payload)
    }

    pub fn find(&mut self, name: &str) -> anyhow::Result<Domain> {
        Ok(Domain(self.ask(&Call::lookup(name))?.to_vec()))
    }

    pub fn define(&mut self, definition: &Call) -> anyhow::Result<Domain> {
        Ok(Domain(self.ask(definition)?.to_vec()))
    }

    pub fn undefine(&mut self, domain: &Domain) -> anyhow::Result<()> {
        self.ask(&Call::new(procedure::UNDEFINE, &domain.0)).map(drop)
    }

    /// How many domains there are.
    pub fn count(&mut self) -> anyhow::Result<usize> {
        let answer = self.ask(&Call::list())?;
        let count = answer.first_chunk().context("a list without a length")?;
        Ok(usize::try_from(u32::from_be_bytes(*count))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_says_how_long_it_is_and_fills_words() {
        let Call(packet) = Call::lookup("echo1");
        assert_eq!(packet.len(), HEADER + 12);
        assert_eq!(packet[..4], u32::try_from(packet.len()).unwrap().to_be_bytes());
        assert_eq!(packet[HEADER..], *b"\0\0\0\x05echo1\0\0\0");
    }
}
