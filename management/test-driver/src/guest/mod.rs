//! A guest without a machine: a process with the control socket of a VMM.
//!
//! ```text
//! configuration ─▶ Machine (what state it is in) ◀── behaviour (what its definition says it does)
//! control socket ─▶ connection ─▶ control (requests) ─▶ Machine ─▶ events
//!                       └────────▶ console, agent, screen (raw bytes)
//! ```

mod agent;
mod behaviour;
mod connection;
mod console;
mod control;
mod disks;
mod machine;
mod saved;
mod screen;
mod statistics;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;

use rustix::fs::OFlags;
use vmm_protocol::config::{FIRST_FD, Fd, MachineConfig};
use vmm_protocol::control::EventKind;
use vmm_protocol::exit::ExitReason;

use crate::{parent, sys};
use machine::Machine;

/// Be a guest to its end. Called first thing in a process of its own, which was started by the daemon
/// whose number is `arguments`.
pub fn run_guest(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = io::Write::write_all(
                &mut io::stderr(),
                format!("manor: the guest cannot be played: {error}\n").as_bytes(),
            );
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> io::Result<()> {
    let config: MachineConfig = serde_json::from_reader(io::BufReader::new(reopen(Fd(FIRST_FD))?))?;
    let listener = UnixListener::from(sys::adopt(config.process.control)?);
    parent::follow(arguments)?;
    let restore = config.restore.clone();
    let machine = Arc::new(Machine::new(config));
    machine.behaviour().wait_to_start();
    if let Some(reason) = machine.behaviour().start_fails() {
        machine.end(ExitReason::Failed { message: reason.to_owned() });
    }
    match restore {
        Some(restore) if !saved::is_ours(&reopen(restore.image)?) => {
            let message = "no guest of the test driver was saved in this file".to_owned();
            machine.end(ExitReason::Failed { message });
        }
        Some(_) => machine.print("restored\n"),
        None => machine.boot(),
    }
    machine.event(EventKind::Started);
    machine.clone().open_agent();
    machine.clone().do_of_itself();
    for stream in listener.incoming() {
        let (machine, stream) = (machine.clone(), stream?);
        std::thread::spawn(move || connection::serve(&machine, stream));
    }
    Ok(())
}

/// A file of the configuration, from its beginning.
fn reopen(fd: Fd) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", fd.0))
}

/// The same, to be written.
fn reopen_to_write(fd: Fd) -> io::Result<File> {
    let file = rustix::fs::open(
        format!("/proc/self/fd/{}", fd.0),
        OFlags::WRONLY | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    Ok(file.into())
}
