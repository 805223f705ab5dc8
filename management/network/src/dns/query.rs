//! [`Query`]: what a client asks, as it stands in the message.
//!
//! Read here and not by a general parser: types that no parser knows are passed on all the same, and
//! counts in a header must not decide how much memory is set aside.

use std::fmt::Write as _;

/// Bytes of a header (RFC 1035 §4.1.1).
pub(super) const HEADER: usize = 12;
/// Octets of a name on the wire, and of a label.
const MAX_WIRE_NAME: usize = 255;
const MAX_LABEL: u8 = 63;
/// Records behind the question: EDNS, and a signature.
const MAX_ADDITIONAL: u16 = 4;

pub(super) const QR: u16 = 1 << 15;
pub(super) const OPCODE: u16 = 0xf << 11;
pub(super) const TC: u16 = 1 << 9;
pub(super) const RD: u16 = 1 << 8;
pub(super) const RCODE: u16 = 0xf;

/// Types and classes of questions (RFC 1035 §3.2, RFC 1995, 2782, 3596, 6891).
pub(super) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
    pub(crate) const IN: u16 = 1;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edns {
    /// Largest answer over UDP, bytes.
    pub size: u16,
    pub version: u8,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query<'a> {
    pub id: u16,
    pub flags: u16,
    /// The question as it stands: name, type and class.
    pub question: &'a [u8],
    pub labels: Vec<&'a [u8]>,
    /// The name in lower case without a dot at its end; octets that no host's name has are escaped,
    /// so that no two names look alike. Empty for the root.
    pub name: String,
    pub kind: u16,
    pub class: u16,
    pub edns: Option<Edns>,
    /// The message without what may come after its last record.
    pub bytes: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadQuery {
    /// Too short to answer, or an answer itself.
    Silent,
    /// To be answered with this code.
    Answer { id: u16, flags: u16, rcode: Rcode },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    /// Upper bits go into the EDNS record (RFC 6891 §6.1.3).
    BadVersion = 16,
}

impl<'a> Query<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, BadQuery> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(BadQuery::Silent)?;
        let word = |at: usize| {
            let word = header.get(at..).and_then(|rest| rest.first_chunk::<2>());
            word.map_or(0, |word| u16::from_be_bytes(*word))
        };
        let (id, flags) = (word(0), word(2));
        if flags & QR != 0 {
            return Err(BadQuery::Silent);
        }
        let bad = |rcode| BadQuery::Answer { id, flags, rcode };
        if flags & OPCODE != 0 {
            return Err(bad(Rcode::NotImp));
        }
        let [questions, answers, authorities, additional] = [4, 6, 8, 10].map(word);
        if (questions, answers, authorities) != (1, 0, 0) || additional > MAX_ADDITIONAL {
            return Err(bad(Rcode::FormErr));
        }
        let malformed = || bad(Rcode::FormErr);
        let (labels, after_name) = read_name(rest).ok_or_else(malformed)?;
        let ([k1, k2, c1, c2], mut after) =
            after_name.split_first_chunk::<4>().ok_or_else(malformed)?;
        let question = rest.get(..rest.len() - after.len()).ok_or_else(malformed)?;
        let mut edns = None;
        for _ in 0..additional {
            let (record, next) = read_record(after).ok_or_else(malformed)?;
            // RFC 6891 §6.1.1: one at most.
            if record.is_some() && edns.is_some() {
                return Err(malformed());
            }
            edns = edns.or(record);
            after = next;
        }
        Ok(Self {
            id,
            flags,
            question,
            name: text_of(&labels),
            labels,
            kind: u16::from_be_bytes([*k1, *k2]),
            class: u16::from_be_bytes([*c1, *c2]),
            edns,
            bytes: bytes.get(..bytes.len() - after.len()).unwrap_or(bytes),
        })
    }

    /// Whether `reply` answers this question; servers may change the case of letters.
    pub(super) fn is_answered_by(&self, id: u16, reply: &[u8]) -> bool {
        let Some((header, rest)) = reply.split_first_chunk::<HEADER>() else { return false };
        let [i1, i2, f1, _, q1, q2, ..] = *header;
        let question = rest.get(..self.question.len());
        u16::from_be_bytes([i1, i2]) == id
            && f1 & 0x80 != 0
            && [q1, q2] == [0, 1]
            && question.is_some_and(|question| question.eq_ignore_ascii_case(self.question))
    }
}

/// The labels of a name and what comes after it. A question has nothing before it that a pointer
/// could mean.
fn read_name(mut rest: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let start = rest.len();
    let mut labels = Vec::new();
    loop {
        let (length, after) = rest.split_first()?;
        if *length > MAX_LABEL || start - after.len() > MAX_WIRE_NAME {
            return None;
        }
        if *length == 0 {
            return Some((labels, after));
        }
        let (label, after) = after.split_at_checked(usize::from(*length))?;
        labels.push(label);
        rest = after;
    }
}

/// The EDNS part of an additional record, if it is one, and what comes after the record.
fn read_record(rest: &[u8]) -> Option<(Option<Edns>, &[u8])> {
    let mut is_root = true;
    let mut rest = rest;
    let after_name = loop {
        let (length, after) = rest.split_first()?;
        match *length {
            0 => break after,
            // A pointer ends a name.
            pointer if pointer & 0xc0 == 0xc0 => break after.get(1..)?,
            length if length > MAX_LABEL => return None,
            length => rest = after.get(usize::from(length)..)?,
        }
        is_root = false;
    };
    let ([k1, k2, s1, s2, _, version, _, _, l1, l2], data) =
        after_name.split_first_chunk::<10>()?;
    let after = data.get(usize::from(u16::from_be_bytes([*l1, *l2]))..)?;
    let is_opt = is_root && u16::from_be_bytes([*k1, *k2]) == kind::OPT;
    let edns = Edns { size: u16::from_be_bytes([*s1, *s2]), version: *version };
    Some((is_opt.then_some(edns), after))
}

fn text_of(labels: &[&[u8]]) -> String {
    let mut text = String::new();
    for (number, label) in labels.iter().enumerate() {
        if number > 0 {
            text.push('.');
        }
        for byte in *label {
            match byte {
                b'-' | b'_' => text.push(char::from(*byte)),
                byte if byte.is_ascii_alphanumeric() => {
                    text.push(char::from(byte.to_ascii_lowercase()));
                }
                byte => {
                    let _ = write!(text, "\\{byte:03}");
                }
            }
        }
    }
    text
}
