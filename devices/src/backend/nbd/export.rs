//! Agreeing with a server on what is used, by the "fixed newstyle" negotiation.
//!
//! ```text
//! server: NBDMAGIC IHAVEOPT flags   client: flags
//!         [client: STARTTLS         server: ACK, then both go on inside TLS]
//! client: GO name                   server: INFO export, INFO block size, ACK      then requests
//! ```
//! Everything a server says is foreign: each length has a bound, and each number is checked.

use std::io::{self, Read, Write};

use super::spec::{
    FIXED_NEWSTYLE, GREETING, NO_ZEROES, OPTION_MAGIC, OPTION_REPLY_MAGIC, flag, info, option,
    reply,
};

/// Of a name of an export, as the protocol has it.
pub const LONGEST_NAME: usize = 4096;
/// Of a reply to an option: an error with its text is the longest there is.
const LONGEST_REPLY: u32 = 16 << 10;
/// Replies before the one that ends an option.
const MOST_REPLIES: usize = 32;
/// What a server takes that says nothing of its own.
const DEFAULT_PAYLOAD: u32 = 32 << 20;
/// A disk larger than this is a server's mistake: ends of requests must be numbers too.
const LARGEST: u64 = 1 << 60;

#[derive(Debug, thiserror::Error)]
pub enum NegotiationError {
    #[error("the connection to the NBD server failed")]
    Io(#[from] io::Error),
    #[error("what answers is no NBD server")]
    NoServer,
    #[error("the NBD server speaks the protocol of before 2011 only")]
    OldStyle,
    #[error("the NBD server breaks the protocol: {0}")]
    Protocol(&'static str),
    #[error("the NBD server has no export {name:?}{}", said(.text))]
    NoExport { name: String, text: String },
    #[error("the NBD server demands TLS: use tls='yes'")]
    TlsRequired,
    #[error("the NBD server has no TLS, which the disk is to use")]
    NoTls,
    #[error("the NBD server refuses the export {name:?} (error {code}){}", said(.text))]
    Refused { name: String, code: u32, text: String },
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// What a server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Export {
    /// Bytes.
    pub(super) size: u64,
    flags: u16,
    /// Requests begin and end at multiples of this.
    pub(super) minimum_block: u32,
    pub(super) preferred_block: u32,
    /// Bytes of data in one request.
    pub(super) most_payload: u32,
}

impl Export {
    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn read_only(&self) -> bool {
        self.has(flag::READ_ONLY)
    }

    pub(super) fn can_flush(&self) -> bool {
        self.has(flag::SEND_FLUSH)
    }

    /// Writes can be durable one by one.
    pub(super) fn can_force(&self) -> bool {
        self.has(flag::SEND_FUA)
    }

    pub(super) fn can_trim(&self) -> bool {
        self.has(flag::SEND_TRIM)
    }

    pub(super) fn can_zero(&self) -> bool {
        self.has(flag::SEND_WRITE_ZEROES)
    }
}

/// The greeting. Options follow: first [`start_tls`] if that is wanted, then [`go`].
pub(super) fn greet(stream: &mut (impl Read + Write)) -> Result<(), NegotiationError> {
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting)?;
    if &greeting != GREETING {
        return Err(NegotiationError::NoServer);
    }
    stream.read_exact(&mut greeting)?;
    if &greeting != OPTION_MAGIC {
        return Err(NegotiationError::OldStyle);
    }
    let flags = read_u16(stream)?;
    if flags & FIXED_NEWSTYLE == 0 {
        return Err(NegotiationError::OldStyle);
    }
    let taken = u32::from(flags & (FIXED_NEWSTYLE | NO_ZEROES));
    stream.write_all(&taken.to_be_bytes())?;
    Ok(())
}

/// From here on the stream is inside TLS.
pub(super) fn start_tls(stream: &mut (impl Read + Write)) -> Result<(), NegotiationError> {
    send_option(stream, option::STARTTLS, &[])?;
    let answer = read_reply(stream, option::STARTTLS)?;
    match answer.kind {
        reply::ACK if answer.data.is_empty() => Ok(()),
        reply::ACK => Err(NegotiationError::Protocol("an acknowledgement with data")),
        _ => Err(NegotiationError::NoTls),
    }
}

/// Use the export `name`.
pub(super) fn go(stream: &mut (impl Read + Write), name: &str) -> Result<Export, NegotiationError> {
    let mut data = Vec::with_capacity(name.len() + 8);
    data.extend((name.len() as u32).to_be_bytes());
    data.extend(name.as_bytes());
    data.extend(1_u16.to_be_bytes()); // one kind of information is asked for
    data.extend(info::BLOCK_SIZE.to_be_bytes());
    send_option(stream, option::GO, &data)?;

    let (mut size, mut blocks) = (None, None);
    for _ in 0..MOST_REPLIES {
        let Answer { kind, data } = read_reply(stream, option::GO)?;
        match kind {
            reply::ACK => {
                let (size, flags) =
                    size.ok_or(NegotiationError::Protocol("an export without a size"))?;
                return export(size, flags, blocks);
            }
            reply::INFO => match information(&data)? {
                (info::EXPORT, rest) => {
                    let (size_bytes, flags) = rest
                        .split_first_chunk::<8>()
                        .and_then(|(size, flags)| Some((*size, flags.first_chunk::<2>()?)))
                        .filter(|_| rest.len() == 10)
                        .ok_or(NegotiationError::Protocol("an export of a wrong length"))?;
                    size = Some((u64::from_be_bytes(size_bytes), u16::from_be_bytes(*flags)));
                }
                (info::BLOCK_SIZE, rest) => {
                    let sizes: Vec<_> = rest.chunks_exact(4).map(be32).collect();
                    match (sizes.as_slice(), rest.len()) {
                        ([minimum, preferred, most], 12) => {
                            blocks = Some((*minimum, *preferred, *most));
                        }
                        _ => {
                            return Err(NegotiationError::Protocol(
                                "block sizes of a wrong length",
                            ));
                        }
                    }
                }
                // Its name, and what else was not asked for.
                _ => {}
            },
            kind if reply::is_error(kind) => return Err(refusal(stream, kind, name, &data)),
            _ => return Err(NegotiationError::Protocol("a reply of an unknown kind")),
        }
    }
    Err(NegotiationError::Protocol("no end of replies"))
}

fn refusal(stream: &mut impl Write, kind: u32, name: &str, data: &[u8]) -> NegotiationError {
    // In order, so that the server says nothing of a lost client.
    let _ = send_option(stream, option::ABORT, &[]);
    let text = String::from_utf8_lossy(data);
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.chars().take(200).map(clean).collect();
    let name = name.to_owned();
    match kind {
        reply::TLS_REQUIRED => NegotiationError::TlsRequired,
        reply::UNKNOWN => NegotiationError::NoExport { name, text },
        reply::UNSUPPORTED => {
            NegotiationError::Protocol("it lacks NBD_OPT_GO, which servers have since 2016")
        }
        _ => NegotiationError::Refused { name, code: kind & !reply::ERROR, text },
    }
}

fn export(
    size: u64,
    flags: u16,
    blocks: Option<(u32, u32, u32)>,
) -> Result<Export, NegotiationError> {
    if size > LARGEST {
        return Err(NegotiationError::Protocol("a size beyond all disks"));
    }
    if flags & flag::HAS_FLAGS == 0 {
        return Err(NegotiationError::Protocol("an export without flags"));
    }
    let (minimum_block, preferred_block, most_payload) =
        blocks.unwrap_or((512, 4096, DEFAULT_PAYLOAD));
    let good = minimum_block.is_power_of_two()
        && minimum_block <= 1 << 16
        && preferred_block.is_power_of_two()
        && preferred_block >= minimum_block
        && most_payload >= preferred_block.min(1 << 20);
    if !good {
        return Err(NegotiationError::Protocol("block sizes that make no sense"));
    }
    Ok(Export { size, flags, minimum_block, preferred_block, most_payload })
}

fn information(data: &[u8]) -> Result<(u16, &[u8]), NegotiationError> {
    let (kind, rest) = data
        .split_first_chunk::<2>()
        .ok_or(NegotiationError::Protocol("information of no kind"))?;
    Ok((u16::from_be_bytes(*kind), rest))
}

fn send_option(stream: &mut impl Write, option: u32, data: &[u8]) -> io::Result<()> {
    let mut bytes = OPTION_MAGIC.to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    stream.write_all(&bytes)
}

struct Answer {
    kind: u32,
    data: Vec<u8>,
}

fn read_reply(stream: &mut impl Read, option: u32) -> Result<Answer, NegotiationError> {
    let mut header = [0; 20];
    stream.read_exact(&mut header)?;
    let (magic, rest) = header.split_first_chunk::<8>().expect("20 bytes");
    let [to, kind, len] = [be32(&rest[0..4]), be32(&rest[4..8]), be32(&rest[8..12])];
    if u64::from_be_bytes(*magic) != OPTION_REPLY_MAGIC {
        return Err(NegotiationError::Protocol("a reply without its magic number"));
    }
    if to != option {
        return Err(NegotiationError::Protocol("a reply to another option"));
    }
    if len > LONGEST_REPLY {
        return Err(NegotiationError::Protocol("a reply longer than any"));
    }
    let mut data = vec![0; len as usize];
    stream.read_exact(&mut data)?;
    Ok(Answer { kind, data })
}

fn read_u16(stream: &mut impl Read) -> io::Result<u16> {
    let mut bytes = [0; 2];
    stream.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

/// Of four bytes.
fn be32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}
