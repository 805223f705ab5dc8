//! A packet: a length that counts itself, a header of six words, a payload.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::xdr::{Decode as _, Decoder, Encode};

pub(crate) const REMOTE: u32 = 0x2000_8086;
/// What is about QEMU alone.
pub(crate) const QEMU: u32 = 0x2000_8087;
pub(crate) const KEEPALIVE: u32 = 0x6b65_6570;
/// Of all these programs.
pub(crate) const VERSION: u32 = 1;

const LENGTH: usize = 4;
const HEADER: usize = 24;
/// Bytes of a stream that go in one packet.
pub(crate) const MAX_CHUNK: usize = 262_120;
/// libvirt's bound on descriptors that come with one packet.
const MAX_FILES: u32 = 32;
/// Memory is taken for so much before it has come.
const PIECE: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Call,
    Reply,
    /// An event, or a keepalive.
    Message,
    Stream,
    /// Descriptors come after it, their number stands before its payload.
    CallWithFiles,
    ReplyWithFiles,
    StreamHole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    Error,
    /// More of a stream.
    Continue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) program: u32,
    pub(crate) version: u32,
    pub(crate) procedure: i32,
    pub(crate) kind: Kind,
    pub(crate) serial: u32,
    pub(crate) status: Status,
}

impl Header {
    /// Something that comes without a call.
    pub(crate) fn message(program: u32, procedure: i32) -> Self {
        let (kind, status) = (Kind::Message, Status::Ok);
        Self { program, version: VERSION, procedure, kind, serial: 0, status }
    }

    /// What belongs to the call of this header.
    pub(crate) fn answered(self, kind: Kind, status: Status) -> Self {
        Self { kind, status, ..self }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Decoder::new(bytes);
        let (program, version, procedure, kind, serial, status) =
            <(u32, u32, i32, i32, u32, i32)>::decode(&mut from).ok()?;
        let kind = match kind {
            0 => Kind::Call,
            1 => Kind::Reply,
            2 => Kind::Message,
            3 => Kind::Stream,
            4 => Kind::CallWithFiles,
            5 => Kind::ReplyWithFiles,
            6 => Kind::StreamHole,
            _ => return None,
        };
        let status = match status {
            0 => Status::Ok,
            1 => Status::Error,
            2 => Status::Continue,
            _ => return None,
        };
        Some(Self { program, version, procedure, kind, serial, status })
    }

    fn encode(self, to: &mut Vec<u8>) {
        let kind: i32 = match self.kind {
            Kind::Call => 0,
            Kind::Reply => 1,
            Kind::Message => 2,
            Kind::Stream => 3,
            Kind::CallWithFiles => 4,
            Kind::ReplyWithFiles => 5,
            Kind::StreamHole => 6,
        };
        let status: i32 = match self.status {
            Status::Ok => 0,
            Status::Error => 1,
            Status::Continue => 2,
        };
        (self.program, self.version, self.procedure, kind, self.serial, status).encode(to);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) header: Header,
    pub(crate) payload: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PacketError {
    #[error("a packet of {0} bytes is too short for its header")]
    Short(usize),
    #[error("a packet of {length} bytes exceeds the limit of {limit}")]
    Long { length: usize, limit: usize },
    #[error("a header that cannot be")]
    Header,
    #[error("{0} descriptors are announced, where {MAX_FILES} may come with a call")]
    Files(u32),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The length that stands before a packet, checked; what follows it has so many bytes.
fn body(length: u32, limit: usize) -> Result<usize, PacketError> {
    let length = length as usize;
    if length < LENGTH + HEADER {
        return Err(PacketError::Short(length));
    }
    if length > limit {
        return Err(PacketError::Long { length, limit });
    }
    Ok(length - LENGTH)
}

/// The next packet of at most `limit` bytes; none if the other side closed instead.
pub(crate) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<Packet>, PacketError> {
    let mut length = [0; LENGTH];
    match from.read(&mut length).await? {
        0 => return Ok(None),
        count => from.read_exact(&mut length[count..]).await?,
    };
    let length = body(u32::from_be_bytes(length), limit)?;
    let mut header = [0; HEADER];
    from.read_exact(&mut header).await?;
    let header = Header::decode(&header).ok_or(PacketError::Header)?;
    let mut payload = Vec::new();
    while payload.len() < length - HEADER {
        let start = payload.len();
        payload.resize(start + PIECE.min(length - HEADER - start), 0);
        from.read_exact(&mut payload[start..]).await?;
    }
    Ok(Some(Packet { header, payload: payload.into() }))
}

impl Packet {
    /// Take off the number of descriptors that come after it.
    pub(crate) fn take_file_count(&mut self) -> Result<u32, PacketError> {
        if self.header.kind != Kind::CallWithFiles {
            return Ok(0);
        }
        let mut from = Decoder::new(&self.payload);
        match u32::decode(&mut from) {
            Ok(count) if count > MAX_FILES => Err(PacketError::Files(count)),
            Ok(count) => {
                self.payload = self.payload.slice(size_of::<u32>()..);
                Ok(count)
            }
            Err(_) => Err(PacketError::Header),
        }
    }
}

/// A packet's bytes on the wire.
pub(crate) fn encode(header: Header, payload: &impl Encode) -> Vec<u8> {
    framed(header, |to| payload.encode(to))
}

/// A packet whose payload is bytes as they are.
pub(crate) fn encode_raw(header: Header, payload: &[u8]) -> Vec<u8> {
    framed(header, |to| to.extend_from_slice(payload))
}

/// One that so many descriptors come after: their number stands before the payload.
pub(crate) fn encode_with_files(header: Header, files: usize, payload: &[u8]) -> Vec<u8> {
    framed(header, |to| {
        u32::try_from(files).unwrap_or(u32::MAX).encode(to);
        to.extend_from_slice(payload);
    })
}

fn framed(header: Header, payload: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    header.encode(&mut bytes);
    payload(&mut bytes);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[..LENGTH].copy_from_slice(&length.to_be_bytes());
    bytes
}

#[cfg(test)]
mod properties {
    use scope::every;

    use super::*;

    #[cfg_attr(kani, kani::proof)]
    #[cfg_attr(not(kani), test)]
    fn memory_is_taken_for_no_packet_that_is_shorter_than_its_header_or_longer_than_allowed() {
        every(|any| {
            let (length, limit) = (any.edge(33) as u32, any.of(&[64 << 10, 2 << 20]));
            match body(length, limit) {
                Ok(left) => {
                    assert!((24..=limit - 4).contains(&left) && left + 4 == length as usize);
                }
                Err(PacketError::Short(_)) => assert!(length < 28),
                Err(_) => assert!(length as usize > limit),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn header() -> Header {
        Header {
            program: REMOTE,
            version: VERSION,
            procedure: 14,
            kind: Kind::Call,
            serial: 3,
            status: Status::Ok,
        }
    }

    #[tokio::test]
    async fn packets_come_back_as_they_went_also_in_pieces() {
        let text = "x".repeat(3 * PIECE + 5);
        let first = encode(header(), &text);
        let second = encode(Header::message(KEEPALIVE, 1), &());
        assert_eq!(second.len(), 28);
        let stream = [first, second].concat();
        let mut from = stream.as_slice();
        let packet = read(&mut from, LIMIT).await.unwrap().unwrap();
        assert_eq!(packet.header, header());
        assert_eq!(String::decode(&mut Decoder::new(&packet.payload)).unwrap(), text);
        let packet = read(&mut from, LIMIT).await.unwrap().unwrap();
        assert_eq!((packet.header.program, packet.payload.len()), (KEEPALIVE, 0));
        assert_eq!(read(&mut from, LIMIT).await.unwrap(), None);
    }

    #[test]
    fn descriptors_are_announced_before_the_payload_and_no_more_than_may_come() {
        let with_files = Header { kind: Kind::CallWithFiles, ..header() };
        let packet = |words: &[u32]| {
            let payload: Vec<_> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            Packet { header: with_files, payload: payload.into() }
        };
        let mut whole = packet(&[2, 7]);
        assert_eq!(whole.take_file_count().unwrap(), 2);
        assert_eq!(&*whole.payload, [0, 0, 0, 7]);
        assert!(matches!(packet(&[33]).take_file_count(), Err(PacketError::Files(33))));
        assert!(matches!(packet(&[]).take_file_count(), Err(PacketError::Header)));
        let mut call = Packet { header: header(), ..packet(&[2]) };
        assert_eq!((call.take_file_count().unwrap(), call.payload.len()), (0, 4));
    }

    #[tokio::test]
    async fn frames_that_cannot_be_are_refused() {
        let refused = async |bytes: &[u8]| {
            let mut from = bytes;
            read(&mut from, LIMIT).await.unwrap_err()
        };
        assert!(matches!(refused(&27u32.to_be_bytes()).await, PacketError::Short(27)));
        assert!(matches!(refused(&[0xff; 4]).await, PacketError::Long { .. }));
        let over = u32::try_from(LIMIT + 1).unwrap().to_be_bytes();
        assert!(matches!(refused(&over).await, PacketError::Long { .. }));
        let mut wrong = encode(header(), &());
        wrong[19] = 9;
        assert!(matches!(refused(&wrong).await, PacketError::Header));
        let cut = encode(header(), &"text");
        assert!(matches!(refused(&cut[..cut.len() - 1]).await, PacketError::Io(_)));
    }
}
