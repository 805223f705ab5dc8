//! The line by which a program of the host says what it wants.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// More than any line has.
const LONGEST: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// The guest's port.
    Connect(u32),
    /// The host's port.
    Listen(u32),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// The line is not complete yet.
    Incomplete,
    Wish(Wish),
    /// The program is gone.
    Gone,
    Misunderstood,
}

/// Read the line, and nothing of what follows it: that is the guest's.
pub(super) fn read(socket: &OwnedFd) -> Greeting {
    let mut start = [0; LONGEST];
    let seen = match recv(socket, &mut start[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((0, _)) => return Greeting::Gone,
        Ok((count, _)) => &start[..count],
        Err(Errno::AGAIN | Errno::INTR) => return Greeting::Incomplete,
        Err(_) => return Greeting::Gone,
    };
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return if seen.len() < LONGEST { Greeting::Incomplete } else { Greeting::Misunderstood };
    };
    let wish = parse(&seen[..end]);
    let taken = recv(socket, &mut start[..=end], RecvFlags::DONTWAIT);
    if taken.map(|(count, _)| count) != Ok(end + 1) {
        return Greeting::Gone;
    }
    wish.map_or(Greeting::Misunderstood, Greeting::Wish)
}

fn parse(line: &[u8]) -> Option<Wish> {
    let line = std::str::from_utf8(line).ok()?;
    let (verb, port) = line.trim_end_matches('\r').split_once(' ')?;
    let port = port.parse().ok()?;
    if verb.eq_ignore_ascii_case("connect") {
        Some(Wish::Connect(port))
    } else if verb.eq_ignore_ascii_case("listen") {
        Some(Wish::Listen(port))
    } else {
        None
    }
}

/// Answer with a line. A program that does not read one line learns nothing.
pub(super) fn answer(socket: &OwnedFd, line: &str) {
    let _ = send(socket, line.as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}
