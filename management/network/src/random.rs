//! Numbers that nobody can guess.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // Up to 256 bytes come in one call (getrandom(2)).
    match getrandom(&mut bytes, GetRandomFlags::empty())? {
        filled if filled == N => Ok(bytes),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// At least 0 and less than `end`, near enough evenly for the spread of timers. Zero when the kernel
/// has no number to give: a timer without spread is better than none.
pub(crate) fn below(end: u64) -> u64 {
    bytes().map_or(0, |bytes| u64::from_le_bytes(bytes).checked_rem(end).unwrap_or(0))
}
