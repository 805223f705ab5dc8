//! The guest's console: a prompt at which one can have it end, and that repeats everything else.
//!
//! | line | |
//! |---|---|
//! | `poweroff` | the guest ends |
//! | `reset` | it boots anew |
//! | `crash` | it crashes |

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use vmm_protocol::control::{ControlError, ControlErrorCode as Code};

use super::control::refusal;
use super::machine::Machine;

/// Longer than anybody types.
const LONGEST_LINE: u64 = 4096;

/// Sit down at it; who sat there before is sent away, if by force.
pub(super) fn take(
    machine: &Machine,
    stream: &UnixStream,
    device: &str,
    force: bool,
) -> Result<u64, ControlError> {
    if !machine.config.serial.iter().any(|serial| serial.id == device) {
        return Err(refusal(Code::NotFound, format!("there is no console {device:?}")));
    }
    let mut inner = machine.inner();
    if inner.console.is_some() && !force {
        return Err(refusal(Code::Busy, "another client has the console"));
    }
    let own = stream.try_clone().map_err(|error| refusal(Code::Failed, error.to_string()))?;
    inner.consoles += 1;
    let number = inner.consoles;
    if let Some((_, before)) = inner.console.replace((number, own)) {
        let _ = before.shutdown(std::net::Shutdown::Both);
    }
    Ok(number)
}

pub(super) fn serve(
    machine: &Machine,
    mut stream: UnixStream,
    number: u64,
    replay: bool,
) -> io::Result<()> {
    if replay {
        let said = machine.inner().output.clone();
        stream.write_all(said.as_bytes())?;
    }
    let served = listen(machine, stream);
    let mut inner = machine.inner();
    if inner.console.as_ref().is_some_and(|(has, _)| *has == number) {
        inner.console = None;
    }
    served
}

fn listen(machine: &Machine, stream: UnixStream) -> io::Result<()> {
    use io::Read as _;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        if reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line);
        match line.trim() {
            "poweroff" => machine.power_off(),
            "reset" => machine.reset(),
            "crash" => machine.crash(),
            said => machine.print(&format!("{said}\n")),
        }
    }
}
