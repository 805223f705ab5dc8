//! [`Transmission`]: requests about one export, answered one after the other. The answer to a large
//! read is made as it is sent.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::Export;
use super::connection::{Agreed, take};
use super::extents;
use super::options::MOST_PAYLOAD;
use crate::backend::nbd::spec::{REPLY_MAGIC, REQUEST_MAGIC, chunk, command, error};

/// Bytes that are read at a time.
const PIECE: u64 = 256 << 10;
/// Extents in one answer: who wants more asks again.
const MOST_EXTENTS: usize = 1024;

pub(super) enum Step {
    More,
    /// For the client.
    Wait,
    End,
}

/// A read whose answer is not complete.
struct Reading {
    cookie: u64,
    at: u64,
    end: u64,
    /// Its one header is out: only data follows.
    bare: bool,
}

pub(super) struct Transmission {
    exports: Arc<[Export]>,
    export: usize,
    structured: bool,
    contexts: Vec<u32>,
    reading: Option<Reading>,
    /// Data of a write, which nobody takes.
    skip: u64,
}

impl Transmission {
    pub(super) fn new(exports: Arc<[Export]>, export: usize, agreed: &Agreed) -> Self {
        let contexts = agreed.contexts.as_ref().map(|(_, ids)| ids.clone()).unwrap_or_default();
        let structured = agreed.structured;
        Self { exports, export, structured, contexts, reading: None, skip: 0 }
    }

    fn export(&self) -> &Export {
        &self.exports[self.export]
    }

    pub(super) fn step(&mut self, input: &mut VecDeque<u8>, output: &mut VecDeque<u8>) -> Step {
        if let Some(reading) = self.reading.take() {
            return self.read_on(reading, output);
        }
        if self.skip > 0 {
            let now = self.skip.min(input.len() as u64);
            input.drain(..now as usize);
            self.skip -= now;
            return if self.skip == 0 { Step::More } else { Step::Wait };
        }
        let Some(header) = take::<28>(input) else { return Step::Wait };
        let number = |at: usize, len: usize| {
            header.iter().skip(at).take(len).fold(0_u64, |all, byte| all << 8 | u64::from(*byte))
        };
        if number(0, 4) != u64::from(REQUEST_MAGIC) {
            return Step::End;
        }
        let request = Request {
            flags: number(4, 2) as u16,
            command: number(6, 2) as u16,
            cookie: number(8, 8),
            offset: number(16, 8),
            len: number(24, 4),
        };
        self.serve(&request, output)
    }

    fn serve(&mut self, request: &Request, output: &mut VecDeque<u8>) -> Step {
        let &Request { flags, command, cookie, offset, len } = request;
        let size = self.export().moment.size();
        let inside = offset.checked_add(len).is_some_and(|end| end <= size);
        match command {
            command::READ if !inside => self.fail(cookie, error::INVALID, output),
            command::READ if len > MOST_PAYLOAD.into() => {
                self.fail(cookie, error::OVERFLOW, output);
            }
            command::READ if flags & !command::DF != 0 => self.fail(cookie, error::INVALID, output),
            command::READ if len == 0 => self.done(cookie, output),
            command::READ => {
                let reading = Reading { cookie, at: offset, end: offset + len, bare: false };
                if self.structured && flags & command::DF == 0 {
                    return self.read_on(reading, output);
                }
                return self.read_whole(reading, output);
            }
            command::BLOCK_STATUS if self.contexts.is_empty() || !inside || len == 0 => {
                self.fail(cookie, error::INVALID, output);
            }
            command::BLOCK_STATUS => {
                let one = flags & command::REQ_ONE != 0;
                self.block_status(cookie, offset, len, one, output);
            }
            command::WRITE => {
                if len > MOST_PAYLOAD.into() {
                    return Step::End;
                }
                self.skip = len;
                self.fail(cookie, error::NOT_PERMITTED, output);
            }
            command::TRIM | command::WRITE_ZEROES => {
                self.fail(cookie, error::NOT_PERMITTED, output);
            }
            // Nothing that could be lost is here.
            command::FLUSH => self.done(cookie, output),
            command::DISCONNECT => return Step::End,
            command::CACHE => self.fail(cookie, error::NOT_SUPPORTED, output),
            _ => self.fail(cookie, error::INVALID, output),
        }
        Step::More
    }

    /// The next piece of a read that is answered in pieces, or whose header is out.
    fn read_on(&mut self, reading: Reading, output: &mut VecDeque<u8>) -> Step {
        let Reading { cookie, at, end, bare } = reading;
        let len = (end - at).min(PIECE);
        let piece = match self.piece(at, len, !bare) {
            Ok(piece) => piece,
            // It was said how much comes, and there is nothing to send.
            Err(_) if bare => return Step::End,
            Err(_) => {
                self.fail(cookie, error::IO, output);
                return Step::More;
            }
        };
        let next = at + piece.len();
        let last = if next == end { chunk::DONE } else { 0 };
        match piece {
            Piece::Hole(len) => {
                let data = [&at.to_be_bytes()[..], &(len as u32).to_be_bytes()].concat();
                put_chunk(output, last, chunk::OFFSET_HOLE, cookie, data.len(), &data);
            }
            Piece::Data(data) if bare => output.extend(data),
            Piece::Data(data) => {
                let offset = at.to_be_bytes();
                put_chunk(output, last, chunk::OFFSET_DATA, cookie, 8 + data.len(), &offset);
                output.extend(data);
            }
        }
        if next < end {
            self.reading = Some(Reading { cookie, at: next, end, bare });
        }
        Step::More
    }

    /// A read that is answered in one: its first piece decides whether it can be.
    fn read_whole(&mut self, reading: Reading, output: &mut VecDeque<u8>) -> Step {
        let Reading { cookie, at, end, .. } = reading;
        let len = (end - at).min(PIECE);
        let Ok(Piece::Data(data)) = self.piece(at, len, false) else {
            self.fail(cookie, error::IO, output);
            return Step::More;
        };
        if self.structured {
            let all = 8 + (end - at) as usize;
            let offset = at.to_be_bytes();
            put_chunk(output, chunk::DONE, chunk::OFFSET_DATA, cookie, all, &offset);
        } else {
            simple(output, cookie, 0);
        }
        output.extend(data);
        if at + len < end {
            self.reading = Some(Reading { cookie, at: at + len, end, bare: true });
        }
        Step::More
    }

    fn piece(&self, at: u64, len: u64, holes: bool) -> io::Result<Piece> {
        let moment = &self.export().moment;
        let mut len = len;
        if holes {
            let extent = moment.map(at, len)?;
            if extent.is_zero() {
                return Ok(Piece::Hole(extent.len));
            }
            len = extent.len;
        }
        let mut data = vec![0; len as usize];
        moment.read(&mut data, at)?;
        Ok(Piece::Data(data))
    }

    fn block_status(
        &self,
        cookie: u64,
        offset: u64,
        len: u64,
        one: bool,
        output: &mut VecDeque<u8>,
    ) {
        let most = if one { 1 } else { MOST_EXTENTS };
        let mut answers = Vec::new();
        for id in &self.contexts {
            match self.extents(*id, offset, len, most) {
                Ok(extents) => answers.push((*id, extents)),
                Err(_) => return self.fail(cookie, error::IO, output),
            }
        }
        let count = answers.len();
        for (index, (id, extents)) in answers.into_iter().enumerate() {
            let mut data = id.to_be_bytes().to_vec();
            for (len, flags) in extents {
                data.extend(len.to_be_bytes());
                data.extend(flags.to_be_bytes());
            }
            let last = if index + 1 == count { chunk::DONE } else { 0 };
            put_chunk(output, last, chunk::BLOCK_STATUS, cookie, data.len(), &data);
        }
    }

    /// Lengths and flags, neighbours that are alike in one.
    fn extents(&self, id: u32, offset: u64, len: u64, most: usize) -> io::Result<Vec<(u32, u32)>> {
        let mut found: Vec<(u32, u32)> = Vec::new();
        let (mut at, end) = (offset, offset + len);
        // Pieces that are joined cost work, too.
        let mut left = 4 * MOST_EXTENTS;
        while at < end && left > 0 {
            let (flags, run) = extents::status(self.export(), id, at, end - at)?;
            let full = found.len() == most;
            match found.last_mut() {
                Some((len, last)) if *last == flags => *len += run as u32,
                _ if full => break,
                _ => found.push((run as u32, flags)),
            }
            at += run;
            left -= 1;
        }
        Ok(found)
    }

    fn done(&self, cookie: u64, output: &mut VecDeque<u8>) {
        if self.structured {
            put_chunk(output, chunk::DONE, chunk::NONE, cookie, 0, &[]);
        } else {
            simple(output, cookie, 0);
        }
    }

    fn fail(&self, cookie: u64, number: u32, output: &mut VecDeque<u8>) {
        if self.structured {
            // No text: two bytes for its length.
            let data = [&number.to_be_bytes()[..], &[0; 2]].concat();
            put_chunk(output, chunk::DONE, chunk::ERROR, cookie, data.len(), &data);
        } else {
            simple(output, cookie, number);
        }
    }
}

struct Request {
    flags: u16,
    command: u16,
    cookie: u64,
    offset: u64,
    len: u64,
}

enum Piece {
    Hole(u64),
    Data(Vec<u8>),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Hole(len) => *len,
            Self::Data(data) => data.len() as u64,
        }
    }
}

fn simple(output: &mut VecDeque<u8>, cookie: u64, number: u32) {
    output.extend(REPLY_MAGIC.to_be_bytes());
    output.extend(number.to_be_bytes());
    output.extend(cookie.to_be_bytes());
}

/// The header of a chunk of `len` bytes, and the first of them.
fn put_chunk(
    output: &mut VecDeque<u8>,
    flags: u16,
    kind: u16,
    cookie: u64,
    len: usize,
    data: &[u8],
) {
    output.extend(chunk::MAGIC.to_be_bytes());
    output.extend(flags.to_be_bytes());
    output.extend(kind.to_be_bytes());
    output.extend(cookie.to_be_bytes());
    output.extend((len as u32).to_be_bytes());
    output.extend(data);
}
