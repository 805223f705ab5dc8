//! Framing: a little-endian `u32` length, then that many bytes of JSON.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest message, bytes. A definition of 1 MiB in a live record still fits.
pub const MAX_MESSAGE: u32 = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("message of {len} bytes is larger than {MAX_MESSAGE}")]
    TooLarge { len: u64 },
    #[error("message is not valid")]
    Malformed(#[from] serde_json::Error),
    #[error("connection failed")]
    Io(#[from] io::Error),
}

/// One message with its length in front.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let len = frame.len() as u64 - 4;
    let short = u32::try_from(len).ok().filter(|len| *len <= MAX_MESSAGE);
    let short = short.ok_or(WireError::TooLarge { len })?;
    frame[..4].copy_from_slice(&short.to_le_bytes());
    Ok(frame)
}

/// The body length a frame header announces.
pub fn body_len(header: [u8; 4]) -> Result<usize, WireError> {
    let len = u32::from_le_bytes(header);
    if len > MAX_MESSAGE {
        return Err(WireError::TooLarge { len: len.into() });
    }
    Ok(len as usize)
}

pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    Ok(serde_json::from_slice(body)?)
}

/// Send one message on a blocking stream.
pub fn send<T: Serialize>(stream: &mut impl Write, message: &T) -> Result<(), WireError> {
    stream.write_all(&encode(message)?)?;
    Ok(())
}

/// Receive one message from a blocking stream; `None` when the peer closed between messages.
pub fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>, WireError> {
    let mut header = [0; 4];
    match stream.read(&mut header)? {
        0 => return Ok(None),
        count => stream.read_exact(&mut header[count..])?,
    }
    let mut body = vec![0; body_len(header)?];
    stream.read_exact(&mut body)?;
    decode(&body).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Call, Request};

    #[test]
    fn a_call_survives_the_wire() {
        let call = Call { id: 7, request: Request::Events { after: 3 } };
        let mut stream = Vec::new();
        send(&mut stream, &call).unwrap();
        let mut reader = stream.as_slice();
        assert_eq!(receive::<Call>(&mut reader).unwrap(), Some(call));
        assert_eq!(receive::<Call>(&mut reader).unwrap(), None);
    }

    #[test]
    fn an_announced_length_above_the_limit_is_refused_before_it_is_allocated() {
        let header = (MAX_MESSAGE + 1).to_le_bytes();
        let error = receive::<Call>(&mut header.as_slice()).unwrap_err();
        assert!(matches!(error, WireError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_truncated_message_is_an_error_not_an_end() {
        let frame = encode(&Call { id: 1, request: Request::Status }).unwrap();
        for cut in 1..frame.len() {
            assert!(receive::<Call>(&mut &frame[..cut]).is_err(), "cut at {cut}");
        }
    }
}
