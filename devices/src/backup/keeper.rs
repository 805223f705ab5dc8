//! [`Keeper`]: the thread that serves or copies moments. It is there from the start, because threads
//! cannot be had any more once a guest runs, and sleeps until there is a backup.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;

use rustix::event::{EventfdFlags, eventfd};

use super::copy::{Target, copy};
use super::nbd::{Export, Server, ServerEnd};
use crate::sync::Lock;

pub enum Work {
    /// Serve until it is stopped.
    Serve { listener: OwnedFd, exports: Vec<Export> },
    /// Copy all of them, one after the other.
    Copy(Vec<Target>),
}

/// How a backup that nobody stopped ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed(String),
}

/// Told by the thread.
type Told = Box<dyn Fn(Outcome) + Send>;

pub struct Keeper {
    shared: Arc<Shared>,
}

struct Shared {
    bell: OwnedFd,
    state: Mutex<State>,
    more: Condvar,
    done: AtomicU64,
    total: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: Option<Work>,
    busy: bool,
    stop: bool,
    quit: bool,
}

impl Keeper {
    /// A thread called `name`, which runs `prepare` first; `told` hears how works end.
    ///
    /// # Errors
    /// When the thread cannot be made, or not be prepared.
    pub fn new(
        name: &str,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
        told: Told,
    ) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            bell,
            state: Mutex::default(),
            more: Condvar::new(),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
        });
        let (ready, prepared) = mpsc::channel();
        let keeper = shared.clone();
        let run = move || {
            let result = prepare();
            let good = result.is_ok();
            // Whoever waits for it is there.
            let _ = ready.send(result);
            while good && let Some(work) = keeper.next() {
                let outcome = keeper.carry_out(work);
                keeper.state.hold().busy = false;
                if let Some(outcome) = outcome {
                    told(outcome);
                }
            }
        };
        thread::Builder::new().name(name.to_owned()).spawn(run)?;
        prepared.recv().map_err(io::Error::other)??;
        Ok(Self { shared })
    }

    /// Begin a work. False: an earlier one has not come to its end.
    #[must_use]
    pub fn begin(&self, work: Work) -> bool {
        let mut state = self.shared.state.hold();
        if state.busy {
            return false;
        }
        let total = match &work {
            Work::Serve { .. } => 0,
            Work::Copy(targets) => targets.iter().map(Target::total).sum(),
        };
        self.shared.done.store(0, Ordering::Relaxed);
        self.shared.total.store(total, Ordering::Relaxed);
        state.busy = true;
        state.stop = false;
        state.waiting = Some(work);
        self.shared.more.notify_one();
        true
    }

    /// Stop it. It ends soon, and nobody waits for it.
    pub fn stop(&self) {
        self.shared.state.hold().stop = true;
        self.shared.ring();
    }

    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.shared.state.hold().busy
    }

    /// Bytes that were copied, and all.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        let shared = &self.shared;
        (shared.done.load(Ordering::Relaxed), shared.total.load(Ordering::Relaxed))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Not waited for: it may be in a write that takes for ever.
        let mut state = self.shared.state.hold();
        (state.stop, state.quit) = (true, true);
        self.shared.more.notify_one();
        self.shared.ring();
    }
}

impl Shared {
    fn ring(&self) {
        // Fails only when it rings already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    fn next(&self) -> Option<Work> {
        let mut state = self.state.hold();
        loop {
            if state.quit {
                return None;
            }
            if let Some(work) = state.waiting.take() {
                return Some(work);
            }
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn is_stopped(&self) -> bool {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        self.state.hold().stop
    }

    /// None: it was stopped.
    fn carry_out(&self, work: Work) -> Option<Outcome> {
        match work {
            Work::Serve { listener, exports } => {
                let mut server = match Server::new(listener, exports) {
                    Ok(server) => server,
                    Err(error) => return Some(Outcome::Failed(error.to_string())),
                };
                match server.run(self.bell.as_fd(), &|| self.is_stopped()) {
                    ServerEnd::Stopped => None,
                    ServerEnd::Failed(error) => Some(Outcome::Failed(error.to_string())),
                }
            }
            Work::Copy(targets) => {
                let mut go_on = |bytes| {
                    self.done.fetch_add(bytes, Ordering::Relaxed);
                    match self.is_stopped() {
                        true => Err(io::ErrorKind::Interrupted.into()),
                        false => Ok(()),
                    }
                };
                for target in &targets {
                    if let Err(error) = copy(target, &mut go_on) {
                        let stopped = self.state.hold().stop;
                        return (!stopped).then(|| Outcome::Failed(error.to_string()));
                    }
                }
                Some(Outcome::Done)
            }
        }
    }
}
