//! [`Engine`]: what serves the commands of a controller on an io thread, and the [`Seat`] that it
//! has there: started, kicked by register writes, and taken off again for a pause or a reset.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex};

use event_manager::{EventOps, Events, MutEventSubscriber};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::component::StateError;
use crate::io_thread::{IoThread, Job, Running, Stop};
use crate::sync::Lock;

/// All methods run on the engine's thread.
pub(crate) trait Engine: Send + 'static {
    /// It takes its seat, perhaps not for the first time: disks may be others by now.
    fn renew(&mut self);

    /// Descriptors that are readable when [`ready`](Self::ready) has something to do.
    fn sources(&self) -> Vec<RawFd>;

    /// Registers were written: look what there is to do.
    fn kicked(&mut self);

    /// Requests to the host may have ended.
    fn ready(&mut self);

    /// Finish what is in flight.
    fn drain(&mut self, how: Stop);

    /// Requests that the host failed wait to be retried.
    fn keeps(&self) -> bool;

    /// Retry them.
    fn retry(&mut self);

    /// Descriptors to be watched no more, and those that take their place.
    fn changed_sources(&mut self) -> Option<(Vec<RawFd>, Vec<RawFd>)> {
        None
    }

    /// What [`changed_sources`](Self::changed_sources) said was done: old descriptors may be closed.
    fn sources_changed(&mut self) {}
}

const KICK: u32 = 0;
const SOURCE: u32 = 1;

struct Runner<E> {
    engine: E,
    kick: Arc<EventFd>,
    error: Option<io::Error>,
}

impl<E: Engine> Runner<E> {
    fn watch(&mut self, ops: &mut EventOps, fd: RawFd, token: u32, events: EventSet) {
        if let Err(error) = ops.add(Events::with_data(&fd, token, events)) {
            tracing::warn!(%error, "cannot watch an event source of a controller");
            self.error.get_or_insert(io::Error::other(error));
        }
    }

    fn follow_sources(&mut self, ops: &mut EventOps) {
        let Some((gone, come)) = self.engine.changed_sources() else { return };
        for fd in gone {
            let _ = ops.remove(Events::empty(&fd));
        }
        for fd in come {
            self.watch(ops, fd, SOURCE, EventSet::IN);
        }
        self.engine.sources_changed();
    }
}

impl<E: Engine> MutEventSubscriber for Runner<E> {
    fn init(&mut self, ops: &mut EventOps) {
        let kick = self.kick.as_raw_fd();
        self.watch(ops, kick, KICK, EventSet::IN | EventSet::EDGE_TRIGGERED);
        self.engine.renew();
        for fd in self.engine.sources() {
            self.watch(ops, fd, SOURCE, EventSet::IN);
        }
        if self.engine.keeps() {
            self.engine.retry();
            self.engine.ready();
            self.follow_sources(ops);
        }
        // For what was asked for before.
        let _ = self.kick.write(1);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.data() == KICK {
            self.engine.kicked();
        } else {
            self.engine.ready();
        }
        self.follow_sources(ops);
    }
}

impl<E: Engine> Job for Runner<E> {
    /// An engine that keeps requests, with them.
    type Output = Option<E>;

    fn init_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn finish(mut self, how: Stop) -> Option<E> {
        self.engine.drain(how);
        (how == Stop::Deliver && self.engine.keeps()).then_some(self.engine)
    }
}

/// Where an engine runs.
pub(crate) struct Seat<E: Engine> {
    thread: Arc<IoThread>,
    kick: Arc<EventFd>,
    running: Mutex<Option<Running<Runner<E>>>>,
    /// One that stopped with requests that the host had failed, until it starts again.
    kept: Mutex<Option<E>>,
}

impl<E: Engine> Seat<E> {
    pub(crate) fn new(thread: Arc<IoThread>) -> io::Result<Self> {
        let kick = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        Ok(Self { thread, kick, running: Mutex::default(), kept: Mutex::default() })
    }

    /// What [`kick`](Self::kick) writes to.
    pub(crate) fn kick_event(&self) -> Arc<EventFd> {
        self.kick.clone()
    }

    /// The engine shall look at the registers.
    pub(crate) fn kick(&self) {
        let _ = self.kick.write(1);
    }

    /// Take a seat, if nobody sits there.
    ///
    /// # Errors
    /// What kept the engine from being made or from running.
    pub(crate) fn start(&self, engine: impl FnOnce() -> io::Result<E>) -> io::Result<()> {
        let mut running = self.running.hold();
        if running.is_none() {
            let engine = match self.kept.hold().take() {
                Some(kept) => kept,
                None => engine()?,
            };
            let runner = Runner { engine, kick: self.kick.clone(), error: None };
            *running = Some(self.thread.add(runner)?);
        }
        Ok(())
    }

    /// Wait until what is in flight is done, and end. No lock that the engine takes may be held.
    pub(crate) fn stop(&self, how: Stop) {
        if how == Stop::Discard {
            self.kept.hold().take();
        }
        if let Some(running) = self.running.hold().take() {
            match running.stop(how) {
                Ok(None) => {}
                Ok(kept) => *self.kept.hold() = kept,
                Err(error) => tracing::error!(%error, "the engine of a controller is lost"),
            }
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.hold().is_some()
    }

    /// Why the controller `kind` cannot be saved now, if so.
    pub(crate) fn check_still(&self, kind: &'static str) -> Result<(), StateError> {
        if self.is_running() {
            return Err(StateError::Busy { kind, reason: "it is not paused".to_owned() });
        }
        Ok(())
    }

    /// What an engine knows that stopped with requests that the host had failed.
    pub(crate) fn with_kept(&self, ask: impl FnOnce(&mut E)) {
        if let Some(engine) = &mut *self.kept.hold() {
            ask(engine);
        }
    }
}

impl<E: Engine> Drop for Seat<E> {
    fn drop(&mut self) {
        self.stop(Stop::Discard);
    }
}
