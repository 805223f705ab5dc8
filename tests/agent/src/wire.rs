//! Frames between a test and the agent: one kind byte, a little-endian length, the payload.
//! Requests are postcard; command output and file contents travel raw, because decoding
//! megabytes byte by byte is slow on an emulated processor.
//!
//! ```text
//! Exec → Exec, then Stdin* StdinEnd      ← (Stdout | Stderr)*, Exited
//! Put  → Put,  on WantContents: Contents*  ← Done | WantContents … Done
//! Get  → Get                              ← FileFollows, Contents*, Done
//! ```
//! Any request may be answered by `Failed` with a text.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest payload of one frame; a longer one is a broken peer.
pub const MAX_PAYLOAD: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Request = 1,
    Stdin = 2,
    StdinEnd = 3,
    Contents = 4,
    Stdout = 10,
    Stderr = 11,
    Exited = 12,
    WantContents = 13,
    FileFollows = 14,
    Done = 15,
    Failed = 16,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::*;
        [
            Request,
            Stdin,
            StdinEnd,
            Contents,
            Stdout,
            Stderr,
            Exited,
            WantContents,
            FileFollows,
            Done,
            Failed,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// The first frame on every connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub token: String,
    pub act: Act,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    Ping,
    Exec(Exec),
    Put(Put),
    Get { path: String },
    PowerOff,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    /// Kill the command's process group after this long.
    pub timeout_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    pub path: String,
    pub mode: u32,
    pub size: u64,
    /// Names the contents; a file put before under the same name, size and hash is not sent again.
    pub hash: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Code(i32),
    Signal(i32),
    TimedOut,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFollows {
    pub size: u64,
    pub mode: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn decode<T: DeserializeOwned>(&self) -> io::Result<T> {
        postcard::from_bytes(&self.payload)
            .map_err(|error| invalid(format!("malformed {:?} frame: {error}", self.kind)))
    }
}

pub fn send(to: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len())
        .ok()
        .filter(|_| payload.len() <= MAX_PAYLOAD)
        .ok_or_else(|| invalid(format!("a frame of {} bytes is too long", payload.len())))?;
    let mut head = [kind as u8, 0, 0, 0, 0];
    head[1..].copy_from_slice(&length.to_le_bytes());
    to.write_all(&head)?;
    to.write_all(payload)
}

pub fn send_value<T: Serialize>(to: &mut impl Write, kind: Kind, value: &T) -> io::Result<()> {
    let payload = postcard::to_stdvec(value).map_err(|error| invalid(error.to_string()))?;
    send(to, kind, &payload)
}

/// The next frame, or `None` when the peer closed between two frames.
pub fn receive(from: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut kind = [0];
    if from.read(&mut kind)? == 0 {
        return Ok(None);
    }
    let kind =
        Kind::from_byte(kind[0]).ok_or_else(|| invalid(format!("frame kind {}", kind[0])))?;
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(|e| invalid(e.to_string()))?;
    if length > MAX_PAYLOAD {
        return Err(invalid(format!("a frame of {length} bytes is too long")));
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    Ok(Some(Frame { kind, payload }))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_as_it_was_sent() {
        let mut wire = Vec::new();
        send(&mut wire, Kind::Stdout, b"hello").unwrap();
        send_value(&mut wire, Kind::Exited, &Outcome::Code(7)).unwrap();

        let mut reader = wire.as_slice();
        let first = receive(&mut reader).unwrap().unwrap();
        assert_eq!((first.kind, first.payload.as_slice()), (Kind::Stdout, b"hello".as_slice()));
        let second = receive(&mut reader).unwrap().unwrap();
        assert_eq!(second.decode::<Outcome>().unwrap(), Outcome::Code(7));
        assert_eq!(receive(&mut reader).unwrap(), None);
    }

    #[test]
    fn a_peer_cannot_announce_an_unbounded_frame() {
        let wire = [Kind::Stdin as u8, 0xff, 0xff, 0xff, 0xff];
        assert!(receive(&mut wire.as_slice()).is_err());
    }

    #[test]
    fn a_frame_cut_short_is_an_error_and_not_an_end() {
        let mut wire = Vec::new();
        send(&mut wire, Kind::Stdout, b"hello").unwrap();
        assert!(receive(&mut &wire[..7]).is_err());
    }
}
