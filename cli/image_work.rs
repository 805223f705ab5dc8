//! `manor work-on-images`: copies and changes images that anybody may have made. Started by the broker,
//! never by a person: the images are open from 3 on, stdin says what is to be done, stdout how far it is.
//!
//! Before it looks at any of them it gives up everything but reading and writing what is open.

use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{confined, sys};

/// The first of the images.
const FIRST: i32 = 3;
/// Bytes of address space: tables of a long chain are in it.
const SPACE: u64 = 4 << 30;
/// Writing, and making it durable.
const CALLS: [i64; 5] = [
    libc::SYS_pwritev2,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
];

pub(crate) fn main() -> ExitCode {
    let files = sys::inherited_files(FIRST);
    if confine().is_err() {
        return ExitCode::FAILURE;
    }
    // Who asked sees the end of it in any case.
    match image::work::serve(std::io::stdin().lock(), std::io::stdout().lock(), files) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn confine() -> Result<(), Box<dyn std::error::Error>> {
    for (resource, most) in
        [(Resource::As, SPACE), (Resource::Core, 0), (Resource::Nofile, 0), (Resource::Nproc, 0)]
    {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    confined::enter(&CALLS)
}
