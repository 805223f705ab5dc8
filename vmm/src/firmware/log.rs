//! [`FirmwareLog`]: lines that firmware writes to its debug port, in the process's log.

use std::sync::{Mutex, PoisonError, Weak};

use devices::backend::chardev::{ConsoleBackend, InputListener};

/// Longer lines are cut into pieces.
const LINE_MAX: usize = 256;

#[derive(Default)]
pub(crate) struct FirmwareLog {
    line: Mutex<Vec<u8>>,
}

impl FirmwareLog {
    /// Whether anybody would read it. Otherwise the port had better not be there: firmware then
    /// saves the time for it, one exit a character.
    pub(crate) fn is_wanted() -> bool {
        tracing::enabled!(target: "firmware", tracing::Level::DEBUG)
    }
}

impl ConsoleBackend for FirmwareLog {
    fn output(&self, data: &[u8]) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for &byte in data {
            if byte != b'\n' {
                line.push(byte);
            }
            if byte == b'\n' || line.len() >= LINE_MAX {
                let text = String::from_utf8_lossy(&line);
                tracing::debug!(target: "firmware", "{}", text.trim_end());
                line.clear();
            }
        }
    }

    fn input(&self, _data: &mut [u8]) -> usize {
        0
    }

    fn listen(&self, _listener: Weak<dyn InputListener>) {}
}
