//! [`Console`]: a character device as clients of the control socket see it: one at a time.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use devices::backend::chardev::{Chardev, ClientId};

pub struct Console {
    chardev: Arc<Chardev>,
    client: Mutex<Option<ClientId>>,
}

impl Console {
    pub fn new(chardev: Arc<Chardev>) -> Arc<Self> {
        Arc::new(Self { chardev, client: Mutex::new(None) })
    }

    /// Whether a client has it.
    pub fn is_taken(&self) -> bool {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.is_some_and(|client| self.chardev.is_attached(client))
    }

    /// Give it to a client; one that has it loses it.
    pub fn attach(&self, stream: UnixStream, replay: bool) -> io::Result<()> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has hung up goes by itself, once what it sent last is read.
        if let Some(old) = client.take().filter(|old| self.chardev.is_attached(*old)) {
            self.chardev.detach(old);
        }
        *client = Some(self.chardev.attach(stream.into(), replay)?);
        Ok(())
    }
}
