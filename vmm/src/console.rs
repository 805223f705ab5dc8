//! [`Console`]: a character device as clients of the control socket see it: one at a time.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use devices::backend::chardev::{Chardev, ClientId};

pub struct Console {
    chardev: Arc<Chardev>,
    kind: Kind,
    client: Mutex<Option<ClientId>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Terminal,
    /// It carries questions and answers: two who talk there at once hear each other's.
    Channel,
    /// A channel whose other end understands [`POWER_OFF`].
    Agent,
}

/// In the words of QEMU's guest agent; the first byte ends what somebody left half said.
const POWER_OFF: &[u8] =
    b"\xFF{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"powerdown\"}}\n";

impl Console {
    pub fn new(chardev: Arc<Chardev>, kind: Kind) -> Arc<Self> {
        Arc::new(Self { chardev, kind, client: Mutex::new(None) })
    }

    /// Whether a client has it.
    pub fn is_taken(&self) -> bool {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.is_some_and(|client| self.chardev.is_attached(client))
            || (self.is_channel() && self.chardev.has_caller())
    }

    /// A channel that the guest has open.
    pub fn is_open_channel(&self) -> bool {
        self.is_channel() && self.chardev.is_guest_open()
    }

    fn is_channel(&self) -> bool {
        self.kind != Kind::Terminal
    }

    /// Ask an agent that listens here to power the guest off. Whether it was told; it may not do it.
    pub fn ask_to_power_off(&self) -> bool {
        self.kind == Kind::Agent
            && self.is_open_channel()
            && self.chardev.inject(POWER_OFF) == POWER_OFF.len()
    }

    /// Give it to a client; one that has it loses it.
    pub fn attach(&self, stream: UnixStream, replay: bool) -> io::Result<()> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has hung up goes by itself, once what it sent last is read.
        if let Some(old) = client.take().filter(|old| self.chardev.is_attached(*old)) {
            self.chardev.detach(old);
        }
        *client = Some(if self.is_channel() {
            self.chardev.attach_alone(stream.into(), replay)?
        } else {
            self.chardev.attach(stream.into(), replay)?
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use devices::backend::chardev::ConsoleBackend as _;

    use super::*;

    fn console(kind: Kind) -> (Arc<Console>, Arc<Chardev>) {
        let chardev = Chardev::lossless("channel0").unwrap();
        (Console::new(chardev.clone(), kind), chardev)
    }

    fn heard(chardev: &Chardev) -> Vec<u8> {
        let mut heard = vec![0; 256];
        let count = chardev.input(&mut heard);
        heard.truncate(count);
        heard
    }

    #[test]
    fn an_agent_that_listens_is_asked_to_power_off_and_nobody_else() {
        for (kind, open, told) in [
            (Kind::Agent, true, true),
            (Kind::Agent, false, false),
            (Kind::Channel, true, false),
            (Kind::Terminal, true, false),
        ] {
            let (console, chardev) = console(kind);
            chardev.guest_opened(open);
            assert_eq!(console.ask_to_power_off(), told, "{kind:?} {open}");
            assert_eq!(heard(&chardev) == POWER_OFF, told, "{kind:?} {open}");
        }
    }

    #[test]
    fn an_agent_that_reads_nothing_is_not_taken_for_one_that_was_told() {
        let (console, chardev) = console(Kind::Agent);
        chardev.guest_opened(true);
        chardev.inject(&[b'x'; 8192]);
        assert!(!console.ask_to_power_off());
    }
}
