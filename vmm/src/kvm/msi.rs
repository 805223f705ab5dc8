//! [`Messages`]: MSI-X vectors as irqfds.
//!
//! ```text
//! masked ──route──▶ routed: eventfd bound to its GSI, KVM injects each write
//!    ▲─────mask────────┘    masked: eventfd unbound, writes collect in it
//! ```
//! Binding an eventfd that was written to before injects at once, which is exactly what unmasking a
//! pending vector must do (PCI 3.0 §6.8.3.5).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use devices::irq::{MsiController, MsiMessage, MsiVector};
use kvm_ioctls::VmFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::routes::Routes;

pub struct Messages {
    fd: Arc<VmFd>,
    routes: Arc<Routes>,
}

impl Messages {
    pub(super) fn new(fd: Arc<VmFd>, routes: Arc<Routes>) -> Self {
        Self { fd, routes }
    }
}

impl MsiController for Messages {
    fn vector(&self) -> io::Result<Arc<dyn MsiVector>> {
        let event = EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        let gsi = self
            .routes
            .allocate()
            .ok_or_else(|| io::Error::other("KVM's interrupt routing table is full"))?;
        Ok(Arc::new(Vector {
            fd: self.fd.clone(),
            routes: self.routes.clone(),
            event,
            gsi,
            bound: Mutex::new(false),
        }))
    }
}

struct Vector {
    fd: Arc<VmFd>,
    routes: Arc<Routes>,
    event: EventFd,
    gsi: u32,
    bound: Mutex<bool>,
}

impl MsiVector for Vector {
    fn event(&self) -> &EventFd {
        &self.event
    }

    fn route(&self, message: MsiMessage) -> io::Result<()> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        // The route first: a pending write is injected the moment the eventfd is bound.
        self.routes.set(self.gsi, message)?;
        if !*bound {
            self.fd.register_irqfd(&self.event, self.gsi)?;
            *bound = true;
        }
        Ok(())
    }

    fn mask(&self) -> io::Result<()> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if *bound {
            self.fd.unregister_irqfd(&self.event, self.gsi)?;
            *bound = false;
        }
        Ok(())
    }

    fn pending(&self) -> bool {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the descriptor stays open while `self` is borrowed.
        let event = unsafe { BorrowedFd::borrow_raw(self.event.as_raw_fd()) };
        let mut polled = [PollFd::new(&event, PollFlags::IN)];
        !*bound && poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for Vector {
    fn drop(&mut self) {
        // A failure leaves a route that nothing signals any more.
        let _ = self.mask();
        self.routes.release(self.gsi);
    }
}
