//! [`Console`]: a character device as clients of the control socket see it: one at a time.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use devices::backend::chardev::{Chardev, ClientId};

pub struct Console {
    chardev: Arc<Chardev>,
    /// A channel carries questions and answers: two who talk there at once hear each other's.
    channel: bool,
    client: Mutex<Option<ClientId>>,
}

impl Console {
    pub fn new(chardev: Arc<Chardev>) -> Arc<Self> {
        Arc::new(Self { chardev, channel: false, client: Mutex::new(None) })
    }

    /// One that has one client at a time, whichever way that came.
    pub fn channel(chardev: Arc<Chardev>) -> Arc<Self> {
        Arc::new(Self { chardev, channel: true, client: Mutex::new(None) })
    }

    /// Whether a client has it.
    pub fn is_taken(&self) -> bool {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.is_some_and(|client| self.chardev.is_attached(client))
            || (self.channel && self.chardev.has_caller())
    }

    /// A channel that the guest has open.
    pub fn is_open_channel(&self) -> bool {
        self.channel && self.chardev.is_guest_open()
    }

    /// Give it to a client; one that has it loses it.
    pub fn attach(&self, stream: UnixStream, replay: bool) -> io::Result<()> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has hung up goes by itself, once what it sent last is read.
        if let Some(old) = client.take().filter(|old| self.chardev.is_attached(*old)) {
            self.chardev.detach(old);
        }
        *client = Some(if self.channel {
            self.chardev.attach_alone(stream.into(), replay)?
        } else {
            self.chardev.attach(stream.into(), replay)?
        });
        Ok(())
    }
}
