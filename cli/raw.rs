//! The terminal as a plain line: every key as it is typed.

use std::io::Read as _;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

/// Raw mode of the terminal on stdin, until dropped.
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    pub(crate) fn enter() -> rustix::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal is gone if this fails.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// What is typed, in pieces; ends with stdin. The thread behind it waits in `read` and ends with
/// the process.
pub(crate) fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = std::io::stdin().read(&mut buffer) {
            if sender.blocking_send(buffer[..len].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}
