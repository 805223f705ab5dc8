//! [`Inbox`]: what vCPUs ask of the machine, and the bell that wakes it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use devices::bus::Effect;
use rustix::event::{EventfdFlags, eventfd};
use vmm_protocol::exit::CrashReport;

/// Why a vCPU parked itself. Ordered by gravity: of several at once, the last counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    Reset,
    PowerOff,
    Crashed(CrashReport),
}

impl Stop {
    pub(super) fn of(effect: Effect, vcpu: u16) -> Option<Self> {
        match effect {
            Effect::None => None,
            Effect::Reset => Some(Self::Reset),
            Effect::PowerOff => Some(Self::PowerOff),
            Effect::Panicked => Some(Self::Crashed(CrashReport {
                cause: "guest panicked".to_owned(),
                vcpu: Some(vcpu),
                registers: None,
            })),
        }
    }

    fn gravity(&self) -> u8 {
        match self {
            Self::Reset => 0,
            Self::PowerOff => 1,
            Self::Crashed(_) => 2,
        }
    }
}

/// At most one stop per vCPU is in it, since each parks after posting.
pub struct Inbox {
    stops: Mutex<Vec<Stop>>,
    /// An eventfd.
    bell: OwnedFd,
}

impl Inbox {
    pub fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { stops: Mutex::default(), bell })
    }

    /// Readable while something may be in the inbox.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    pub(super) fn post(&self, stop: Stop) {
        self.lock().push(stop);
        self.ring();
    }

    /// Wake the machine.
    pub fn ring(&self) {
        // Fails only when the counter is at its end: then it rings already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Stop ringing; what was posted stays.
    pub fn quiet(&self) {
        // Fails when it does not ring.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }

    /// Everything that was posted, as the one stop that decides.
    pub fn take(&self) -> Option<Stop> {
        let stops = std::mem::take(&mut *self.lock());
        stops.into_iter().max_by_key(Stop::gravity)
    }

    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stop>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
