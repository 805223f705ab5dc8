//! DMA requests: a 16-byte control structure in guest memory, read once, answered in place.
//!
//! ```text
//! 0 u32 control (selector << 16 | bits)   4 u32 length   8 u64 address     all big-endian
//! ```
//! The control field is written at the end: zero, or the error bit.

use super::{FwCfg, State};
use crate::limit::warn_limited;

const ERROR: u32 = 1 << 0;
const READ: u32 = 1 << 1;
const SKIP: u32 = 1 << 2;
const SELECT: u32 = 1 << 3;
const WRITE: u32 = 1 << 4;

/// More than any item is long: a request beyond would only keep its vCPU busy writing zeros.
const MAX_LENGTH: u32 = 64 << 20;
/// Copied at a time.
const PIECE: usize = 64 << 10;

struct Request {
    control: u32,
    length: u32,
    address: u64,
}

impl Request {
    fn parse(bytes: [u8; 16]) -> Self {
        let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| bytes[at + i]));
        let address = u64::from(word(8)) << 32 | u64::from(word(12));
        Self { control: word(0), length: word(4), address }
    }
}

impl FwCfg {
    /// Carry out the request at `at`. One that cannot even be answered is dropped.
    pub(super) fn transfer(&self, state: &mut State, at: u64) {
        let mut bytes = [0; 16];
        if self.ram.read_slice(at, &mut bytes).is_err() {
            warn_limited!(address = at, "a fw_cfg request lies outside guest memory");
            return;
        }
        let done = self.carry_out(state, &Request::parse(bytes));
        let answer = if done { 0 } else { ERROR };
        // It was readable, and guest memory does not shrink; if it did, nobody waits for this.
        let _ = self.ram.write_slice(at, &answer.to_be_bytes());
    }

    /// Read comes before write, and write before skip, as in QEMU, when a guest asks for several.
    fn carry_out(&self, state: &mut State, request: &Request) -> bool {
        if request.control & SELECT != 0 {
            self.select(state, (request.control >> 16) as u16);
        }
        if request.control & READ != 0 {
            return self.copy(state, request);
        }
        if request.control & WRITE != 0 {
            return self.store(state, request);
        }
        if request.control & SKIP != 0 {
            state.skip(request.length as usize);
        }
        true
    }

    fn copy(&self, state: &mut State, request: &Request) -> bool {
        if request.length > MAX_LENGTH || !self.ram.contains(request.address, request.length.into())
        {
            return request.length == 0;
        }
        let mut piece = vec![0; PIECE.min(request.length as usize)];
        let mut at = request.address;
        let mut left = request.length as usize;
        while left > 0 {
            let part = &mut piece[..left.min(PIECE)];
            state.read(part);
            if self.ram.write_slice(at, part).is_err() {
                return false;
            }
            at += part.len() as u64;
            left -= part.len();
        }
        true
    }
    /// All of it or nothing; a file grows by no request.
    fn store(&self, state: &mut State, request: &Request) -> bool {
        let Some(file) = self.items.writable(state.selector) else { return false };
        let len = state.selected.as_deref().map_or(0, <[u8]>::len);
        let room = len.saturating_sub(state.offset);
        let mut data = vec![0; room.min(request.length as usize)];
        if data.len() < request.length as usize
            || self.ram.read_slice(request.address, &mut data).is_err()
        {
            return false;
        }
        file.write(state.offset, &data);
        state.selected = self.items.content(state.selector);
        state.skip(data.len());
        true
    }
}
