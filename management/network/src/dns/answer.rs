//! Messages to clients.

use std::net::IpAddr;

use simple_dns::rdata::{A, AAAA, OPT, PTR, RData, SRV, TXT};
use simple_dns::{
    CLASS, CharacterString, Label, Name, Packet, PacketFlag, QCLASS, QTYPE, Question,
    ResourceRecord, SimpleDnsError,
};

use super::query::{BadQuery, Edns, HEADER, OPCODE, QR, Query, RD, Rcode, TC};
use super::resolve::{Data, Record};

const RA: u16 = 1 << 7;
const AA: u16 = 1 << 10;
/// Largest message over UDP without EDNS, and the largest that gets through without being cut up
/// anywhere (DNS flag day 2020), bytes.
const PLAIN_UDP: u16 = 512;
const LARGEST_UDP: u16 = 1232;

/// How a message reaches its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    /// Bytes that an answer to `query` may have.
    fn room(self, query: &Query<'_>) -> usize {
        match (self, query.edns) {
            (Self::Tcp, _) => usize::from(u16::MAX),
            (Self::Udp, None) => PLAIN_UDP.into(),
            (Self::Udp, Some(edns)) => edns.size.clamp(PLAIN_UDP, LARGEST_UDP).into(),
        }
    }
}

/// An answer without records.
pub(super) fn empty(query: &Query<'_>, rcode: Rcode) -> Vec<u8> {
    let flags = match rcode {
        Rcode::NoError | Rcode::NxDomain => AA,
        _ => 0,
    };
    with_question(query, flags, rcode)
}

/// The answer to what could not be read: nothing of it is sent back but its number.
pub(super) fn bad(query: BadQuery) -> Option<Vec<u8>> {
    match query {
        BadQuery::Silent => None,
        BadQuery::Answer { id, flags, rcode } => {
            Some(message(id, flags & (OPCODE | RD) | QR | RA, rcode, &[], None))
        }
    }
}

/// The answer that holds `records`, or says that it takes TCP to get them.
pub(super) fn full(query: &Query<'_>, records: &[Record], transport: Transport) -> Vec<u8> {
    if records.is_empty() {
        return empty(query, Rcode::NoError);
    }
    match encode(query, records) {
        Ok(bytes) if bytes.len() <= transport.room(query) => bytes,
        Ok(_) if transport == Transport::Udp => with_question(query, AA | TC, Rcode::NoError),
        // More than the longest message holds, or a name that the configuration's checks let through.
        Ok(_) | Err(_) => empty(query, Rcode::ServFail),
    }
}

/// An upstream's answer for the client, with the number that the client gave its query.
pub(super) fn relayed(query: &Query<'_>, mut reply: Vec<u8>, transport: Transport) -> Vec<u8> {
    if reply.len() > transport.room(query) {
        return with_question(query, TC, Rcode::NoError);
    }
    if let Some(id) = reply.first_chunk_mut::<2>() {
        *id = query.id.to_be_bytes();
    }
    reply
}

fn with_question(query: &Query<'_>, flags: u16, rcode: Rcode) -> Vec<u8> {
    let flags = query.flags & RD | QR | RA | flags;
    message(query.id, flags, rcode, query.question, query.edns)
}

/// Written by hand: the question is sent back as it came, be its type known or not.
fn message(id: u16, flags: u16, rcode: Rcode, question: &[u8], edns: Option<Edns>) -> Vec<u8> {
    let rcode = rcode as u16;
    let mut bytes = Vec::with_capacity(HEADER + question.len() + 11);
    bytes.extend(id.to_be_bytes());
    bytes.extend((flags | rcode & 0xf).to_be_bytes());
    for count in [u16::from(!question.is_empty()), 0, 0, u16::from(edns.is_some())] {
        bytes.extend(count.to_be_bytes());
    }
    bytes.extend(question);
    if edns.is_some() {
        // Root, OPT, our size, upper bits of the code, version 0, no flags, no options.
        bytes.extend([0, 0, 41]);
        bytes.extend(LARGEST_UDP.to_be_bytes());
        bytes.extend((u32::from(rcode >> 4) << 24).to_be_bytes());
        bytes.extend([0, 0]);
    }
    bytes
}

fn encode(query: &Query<'_>, records: &[Record]) -> Result<Vec<u8>, SimpleDnsError> {
    let labels: Vec<_> = query.labels.iter().map(|label| Label::new_unchecked(*label)).collect();
    let name = Name::new_with_labels(&labels);
    let mut packet = Packet::new_reply(query.id);
    packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    if query.flags & RD != 0 {
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    let (kind, class) = (QTYPE::try_from(query.kind)?, QCLASS::try_from(query.class)?);
    packet.questions.push(Question::new(name.clone(), kind, class, false));
    for record in records {
        let data = encode_data(&record.data)?;
        packet.answers.push(ResourceRecord::new(name.clone(), CLASS::IN, record.ttl, data));
    }
    if query.edns.is_some() {
        *packet.opt_mut() =
            Some(OPT { opt_codes: Vec::new(), udp_packet_size: LARGEST_UDP, version: 0 });
    }
    packet.build_bytes_vec_compressed()
}

fn encode_data(data: &Data) -> Result<RData<'_>, SimpleDnsError> {
    Ok(match data {
        Data::Address(IpAddr::V4(address)) => RData::A(A { address: address.to_bits() }),
        Data::Address(IpAddr::V6(address)) => RData::AAAA(AAAA { address: address.to_bits() }),
        Data::Pointer(name) => RData::PTR(PTR(Name::new(name)?)),
        Data::Srv(srv) => RData::SRV(SRV {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: match &srv.target {
                Some(target) => Name::new(target)?,
                None => Name::new_with_labels(&[]),
            },
        }),
        Data::Txt(text) => {
            let mut strings = TXT::new();
            for part in text.as_bytes().chunks(255) {
                strings.add_char_string(CharacterString::new(part)?);
            }
            RData::TXT(strings)
        }
    })
}
