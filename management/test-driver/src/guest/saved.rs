//! What a guest without memory is saved as, and its core.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vmm_protocol::control::{ControlError, ControlErrorCode as Code, RunState};
use vmm_protocol::saved::Body;

use super::control::refusal;
use super::machine::Machine;

const STATE: &[u8] = b"a guest of the test driver";
/// How soon a save that is given up ends.
const STEP: Duration = Duration::from_millis(5);

/// ELF64, little-endian, a core of x86-64 without any segment.
const CORE: [u8; 64] = {
    let mut header = [0; 64];
    let magic = *b"\x7fELF\x02\x01\x01";
    let mut at = 0;
    while at < magic.len() {
        header[at] = magic[at];
        at += 1;
    }
    header[16] = 4; // ET_CORE
    header[18] = 62; // EM_X86_64
    header[20] = 1; // EV_CURRENT
    header[52] = 64; // e_ehsize
    header
};

pub(super) fn save(machine: &Machine, file: &File) -> Result<(), ControlError> {
    if machine.inner().state.0 != RunState::Paused {
        return Err(refusal(Code::State, "the guest runs"));
    }
    take_time(machine)?;
    let body = Body::new(STATE, 0);
    let written = body.begin(file, STATE).and_then(|()| body.finish(file, &[]));
    written
        .map_err(|error| refusal(Code::Failed, format!("the state cannot be written: {error}")))?;
    machine.inner().saved = true;
    Ok(())
}

pub(super) fn dump(machine: &Machine, mut file: &File) -> Result<(), ControlError> {
    take_time(machine)?;
    let written = file.write_all(&CORE).and_then(|()| file.sync_all());
    written.map_err(|error| refusal(Code::Failed, format!("the core cannot be written: {error}")))
}

fn take_time(machine: &Machine) -> Result<(), ControlError> {
    let begun = Instant::now();
    machine.save_cancelled.store(false, Ordering::SeqCst);
    while begun.elapsed() < machine.behaviour().save_takes() {
        std::thread::sleep(STEP);
        if machine.save_cancelled.swap(false, Ordering::SeqCst) {
            return Err(refusal(Code::Failed, "the save was cancelled"));
        }
    }
    Ok(())
}

/// Whether a guest of the test driver was saved in it.
pub(super) fn is_ours(file: &File) -> bool {
    // One that is no file at all has no first byte either.
    file.read_at(&mut [0], 0).is_ok()
        && Body::read(file).and_then(|body| body.sections(file)).is_ok_and(|state| state == STATE)
}
