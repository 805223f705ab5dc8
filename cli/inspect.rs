//! `manor inspect FORMAT`: says what the image on stdin is. Started by the broker, never by a person.
//!
//! It reads the header of an image that anybody may have made, so before that it gives up everything
//! but reading and answering.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use crate::confined;
use image::{FileStorage, Format, Inspected, describe};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Seconds of processor time.
const TIME: u64 = 2;
/// Bytes of address space.
const SPACE: u64 = 512 << 20;

pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let format = arguments.into_iter().next().and_then(|word| word.into_string().ok());
    let Some(format) = format.and_then(|name| name.parse::<Format>().ok()) else {
        return ExitCode::FAILURE;
    };
    let Ok(file) = std::io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    if confine().is_err() {
        return ExitCode::FAILURE;
    }
    let answer = match FileStorage::new(File::from(file)) {
        Ok(file) => match describe(&file, format) {
            Ok(description) => Inspected::Image(Box::new(description.without_snapshots())),
            Err(error) => Inspected::Refused(error.in_full()),
        },
        Err(error) => Inspected::Refused(format!("cannot be looked at: {error}")),
    };
    let Ok(text) = serde_json::to_vec(&answer) else { return ExitCode::FAILURE };
    match std::io::stdout().write_all(&text).and_then(|()| std::io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn confine() -> Result<(), Box<dyn std::error::Error>> {
    for (resource, most) in [
        (Resource::Cpu, TIME),
        (Resource::As, SPACE),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Nofile, 0),
        (Resource::Nproc, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    confined::enter(&[])
}
