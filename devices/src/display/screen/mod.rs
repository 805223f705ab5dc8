//! [`Screen`]: one monitor of a machine and everyone who looks at it: VNC viewers, and those who
//! want a picture.
//!
//! All of them are served by one [`ScreenWorker`] on one thread. It draws only while somebody has
//! asked for what changes, at most 30 times a second, and less often while nothing does.

mod connection;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
mod worker;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::display::Scanout;
use crate::display::vnc::Terms;
use crate::input::InputSink;
use crate::sync::Lock;

pub use worker::ScreenWorker;

/// What becomes of others when a viewer says that it wants to be alone, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// It is: the others have to go, and nobody gets in while it stays.
    AllowExclusive,
    /// It has to share, or to go.
    ForceShared,
    /// What it says does not matter.
    Ignore,
}

/// A socket where viewers come in, and the terms on which they do.
pub struct Listener {
    pub socket: OwnedFd,
    pub terms: Arc<Terms>,
    pub sharing: Sharing,
}

pub struct Screen {
    name: String,
    scanout: Arc<dyn Scanout>,
    input: Arc<dyn InputSink>,
    /// The terms of those who were let in elsewhere.
    trusted: Arc<Terms>,
    wake: EventFd,
    orders: Mutex<Vec<Order>>,
}

/// What others ask the worker for.
enum Order {
    Picture(OwnedFd),
    Viewer(OwnedFd),
    Listen(Listener),
}

impl Screen {
    /// `name` is what viewers show in their title.
    pub fn new(
        name: &str,
        scanout: Arc<dyn Scanout>,
        input: Arc<dyn InputSink>,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            name: name.to_owned(),
            scanout,
            input,
            trusted: Arc::new(Terms::new(name, None)),
            wake: EventFd::new(EFD_NONBLOCK)?,
            orders: Mutex::default(),
        }))
    }

    /// Send a PNG of what is shown now through `stream`, and close it.
    pub fn send_picture(&self, stream: OwnedFd) {
        self.order(Order::Picture(stream));
    }

    /// Serve a viewer that was let in already.
    pub fn add_viewer(&self, stream: OwnedFd) {
        self.order(Order::Viewer(stream));
    }

    /// Let viewers in at a socket.
    pub fn listen(&self, listener: Listener) {
        self.order(Order::Listen(listener));
    }

    /// What serves them, to run on an io thread.
    pub fn worker(self: &Arc<Self>) -> io::Result<ScreenWorker> {
        ScreenWorker::new(self.clone())
    }

    fn order(&self, order: Order) {
        self.orders.hold().push(order);
        // Fails only when the counter is full, and then the worker wakes up anyway.
        let _ = self.wake.write(1);
    }
}
