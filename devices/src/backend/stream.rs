//! [`Stream`]: frames over a connected stream socket, each behind its length as 32 bits, big-endian. So
//! speak QEMU's `-netdev stream` and passt(1), which is what is mostly at the other end.
//!
//! The other end is not trusted: a length that no frame has ends the connection, and with it the link.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use memory::IoBuffers;

use crate::backend::packet::{Offloads, PacketBackend};
use crate::limit::warn_limited;
use crate::sync::Lock;

mod sys;
#[cfg(test)]
mod tests;

/// Of the virtio-net header before each packet, all zero here: the other end knows none, so nothing is
/// left for the guest to do.
const HEADER: usize = 12;
const LENGTH: usize = 4;
/// The longest frame: an Ethernet header and an MTU of 65520 are less.
const LONGEST: usize = 1 << 16;
/// Room before the oldest frame, so that a header can stand where its length was and what came before.
const HEADROOM: usize = HEADER - LENGTH;
/// Received at once, of many frames.
const ROOM: usize = HEADROOM + 2 * (LENGTH + LONGEST);

pub struct Stream {
    socket: OwnedFd,
    incoming: Mutex<Incoming>,
    /// The rest of a frame that the socket took a part of.
    unsent: Mutex<Vec<u8>>,
}

/// Bytes of the other end, from `start` on not yet looked at.
struct Incoming {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Stream {
    /// Take over a socket that is connected.
    ///
    /// # Errors
    /// When it cannot be made not to block.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let bytes = vec![0; ROOM].into_boxed_slice();
        let incoming = Incoming { bytes, start: HEADROOM, end: HEADROOM };
        Ok(Self { socket, incoming: Mutex::new(incoming), unsent: Mutex::default() })
    }

    /// Hand the next frame, behind its header, to `take`, unless it is longer than `most`.
    fn next(&self, most: u64, take: impl FnOnce(&[u8])) -> io::Result<usize> {
        let mut incoming = self.incoming.hold();
        loop {
            let Some(len) = incoming.frame()? else {
                incoming.fill(&self.socket)?;
                continue;
            };
            let frame = incoming.start - HEADROOM..incoming.start + LENGTH + len;
            incoming.start = frame.end;
            if frame.len() as u64 > most {
                warn_limited!("a frame of {len} bytes is longer than the guest's buffers");
                continue;
            }
            let packet = &mut incoming.bytes[frame];
            packet[..HEADER].fill(0);
            take(packet);
            return Ok(packet.len());
        }
    }
}

impl Incoming {
    /// The length of the oldest frame, if all of it is there.
    fn frame(&self) -> io::Result<Option<usize>> {
        let there = &self.bytes[self.start..self.end];
        let Some((length, rest)) = there.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let len = u32::from_be_bytes(*length) as usize;
        if !(1..=LONGEST).contains(&len) {
            let text = format!("the other end announces a frame of {len} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok((rest.len() >= len).then_some(len))
    }

    /// Receive more, behind what is there.
    fn fill(&mut self, socket: &OwnedFd) -> io::Result<()> {
        // Mostly nothing is left over, or a part of one frame.
        self.bytes.copy_within(self.start..self.end, HEADROOM);
        self.end -= self.start - HEADROOM;
        self.start = HEADROOM;
        let count = rustix::io::read(socket, &mut self.bytes[self.end..])?;
        if count == 0 {
            let text = "the other end has closed the connection";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.end += count;
        Ok(())
    }
}

impl PacketBackend for Stream {
    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn receive(&self, buffers: &IoBuffers) -> io::Result<usize> {
        self.next(buffers.len(), |packet| {
            buffers.poke(packet);
        })
    }

    fn receive_copy(&self, packet: &mut [u8]) -> io::Result<usize> {
        self.next(packet.len() as u64, |from| packet[..from.len()].copy_from_slice(from))
    }

    fn send(&self, packet: &IoBuffers) -> io::Result<()> {
        self.flush()?;
        let len = usize::try_from(packet.len()).unwrap_or(usize::MAX);
        let frame = len.checked_sub(HEADER).filter(|frame| (1..=LONGEST).contains(frame));
        let frame = frame.ok_or(io::ErrorKind::InvalidInput)?;
        let length = (frame as u32).to_be_bytes();
        let sent = sys::write_behind(self.socket.as_fd(), &length, packet, HEADER)?;
        if sent < LENGTH + frame {
            // Copied: the guest has its buffers back before the other end has taken the rest.
            let mut rest = vec![0; len];
            packet.peek(&mut rest);
            rest[HEADROOM..HEADER].copy_from_slice(&length);
            rest.drain(..HEADROOM + sent);
            *self.unsent.hold() = rest;
        }
        Ok(())
    }

    fn has_unsent(&self) -> bool {
        !self.unsent.hold().is_empty()
    }

    fn flush(&self) -> io::Result<()> {
        let mut unsent = self.unsent.hold();
        while !unsent.is_empty() {
            let count = rustix::io::write(&self.socket, &unsent)?;
            unsent.drain(..count);
        }
        Ok(())
    }

    fn has_received(&self) -> bool {
        // An error is one for the next call to find.
        !matches!(self.incoming.hold().frame(), Ok(None))
    }

    fn longest(&self) -> usize {
        LONGEST
    }

    fn set_offloads(&self, _: Offloads) -> io::Result<()> {
        // None is offered to the driver.
        Ok(())
    }

    fn set_enabled(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}
