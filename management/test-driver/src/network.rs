//! The process of a network that reaches nobody: it is there, and does what the daemon asks of it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;

use ::network::config::{FIRST_FD, NetworkConfig};
use ::network::control::{Answer, MAX_LINE, Reply, Request, Status};
use vmm_protocol::config::Fd;

use crate::{parent, sys};

/// Be a network's process to its end. Called first thing in a process of its own, which was started by
/// the daemon whose number is `arguments`.
pub fn run_network(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("manor: the network cannot be played: {error}\n");
            let _ = io::stderr().write_all(text.as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> io::Result<()> {
    let file = File::open(format!("/proc/self/fd/{FIRST_FD}"))?;
    let config: NetworkConfig = serde_json::from_reader(BufReader::new(file))?;
    let listener = UnixListener::from(sys::adopt(Fd(config.files.control.0))?);
    parent::follow(arguments)?;
    for stream in listener.incoming() {
        // One after the other: there is one daemon, which asks one thing at a time.
        if serve(&config.name, stream?).unwrap_or(false) {
            return Ok(());
        }
    }
    Ok(())
}

/// True if it is to end.
fn serve(name: &str, stream: UnixStream) -> io::Result<bool> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        let (reply, ends) = match serde_json::from_slice(&line) {
            Ok(Request::Status {}) => {
                let (network, version) = (name.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
                let status =
                    Status { network, version, pid: std::process::id(), ..Status::default() };
                (Reply::Ok(Answer::Status(Box::new(status))), false)
            }
            Ok(Request::Configure(_)) => (Reply::Ok(Answer::Done {}), false),
            Ok(Request::Stop {}) => (Reply::Ok(Answer::Done {}), true),
            Err(error) => (Reply::Error(format!("the request is not valid: {error}")), false),
        };
        let mut answer = serde_json::to_vec(&reply)?;
        answer.push(b'\n');
        writer.write_all(&answer)?;
        if ends {
            return Ok(true);
        }
    }
}
