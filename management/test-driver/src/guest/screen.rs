//! What a guest without a screen shows: a grey picture, 16 by 16.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;

const PICTURE: &[u8] = include_bytes!("screen.png");

pub(super) fn picture(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(PICTURE)
}
