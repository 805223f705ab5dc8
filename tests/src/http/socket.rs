//! A guest's console through the API: a WebSocket (RFC 6455), as little of it as a console needs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Api;

const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

pub struct Console {
    stream: TcpStream,
    /// Received, and not yet a whole frame.
    pending: Vec<u8>,
    /// All that the guest wrote.
    text: String,
    closed: bool,
}

impl Console {
    pub(super) fn attach(api: Api, path: &str) -> anyhow::Result<Console> {
        // The key guards against caches, which are not between us.
        let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let mut answer = api.send("GET", path, headers, "")?;
        if answer.status != 101 {
            let body = answer.body().unwrap_or_default();
            bail!("console: HTTP {}: {body}", answer.status);
        }
        let pending = answer.stream.buffer().to_vec();
        let stream = answer.stream.into_inner();
        Ok(Console { stream, pending, text: String::new(), closed: false })
    }

    /// What the guest writes next; nothing if it is silent for `limit` or the console has closed.
    pub fn read(&mut self, limit: Duration) -> anyhow::Result<String> {
        let until = Instant::now() + limit;
        let mut new = String::new();
        while new.is_empty() && !self.closed {
            if let Some((kind, payload)) = self.take_frame() {
                match kind {
                    PING => self.write_frame(PONG, &payload)?,
                    CLOSE => self.closed = true,
                    _ => new.push_str(&String::from_utf8_lossy(&payload)),
                }
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.receive(left)? {
                break;
            }
        }
        self.text.push_str(&new);
        Ok(new)
    }

    /// Waits until the guest has written `text`; returns all so far.
    pub fn expect(&mut self, text: &str, limit: Duration) -> anyhow::Result<&str> {
        let until = Instant::now() + limit;
        while !self.text.contains(text) {
            let left = until.saturating_duration_since(Instant::now());
            if self.read(left)?.is_empty() {
                let how = if self.closed { "closed" } else { "silent" };
                bail!("the console is {how}, and no {text:?} in:\n{}", self.text);
            }
        }
        Ok(&self.text)
    }

    /// Forgets what was written so far, so that [`Console::expect`] looks at new text only.
    pub fn forget(&mut self) {
        self.text.clear();
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        bytes.chunks(125).try_for_each(|part| self.write_frame(BINARY, part))
    }

    /// Payloads stay below 126 bytes, so their length fits the second byte. Masked by zero, which
    /// leaves them as they are: masks are for the sake of proxies.
    fn write_frame(&mut self, kind: u8, payload: &[u8]) -> anyhow::Result<()> {
        let mut frame = vec![FINAL | kind, MASKED | u8::try_from(payload.len())?, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).context("cannot write to the console")
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let short = usize::from(*self.pending.get(1)? & 0x7f);
        let (start, length) = match short {
            126 => {
                let bytes = self.pending.get(2..4)?;
                (4, usize::from(u16::from_be_bytes(bytes.try_into().ok()?)))
            }
            127 => {
                let bytes = self.pending.get(2..10)?;
                (10, usize::try_from(u64::from_be_bytes(bytes.try_into().ok()?)).ok()?)
            }
            length => (2, length),
        };
        let payload = self.pending.get(start..start + length)?.to_vec();
        let kind = self.pending[0] & 0x0f;
        self.pending.drain(..start + length);
        Some((kind, payload))
    }

    /// Whether something came in time.
    fn receive(&mut self, limit: Duration) -> anyhow::Result<bool> {
        self.stream.set_read_timeout(Some(limit))?;
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.closed = true,
            Ok(count) => self.pending.extend_from_slice(&bytes[..count]),
            Err(error) if is_timeout(&error) => return Ok(false),
            Err(error) => return Err(error).context("the console broke off"),
        }
        Ok(true)
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
