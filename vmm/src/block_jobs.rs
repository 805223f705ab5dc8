//! [`BlockJobs`]: the thread that copies for block jobs, a piece of each in turn.
//!
//! ```text
//! copying ─ all is copied ─▶ copied ┐
//!    └───── an image fails ─▶ failed ┴▶ the bell rings: the main thread does what follows
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use image::mirror::Copier;

use crate::sandbox::{Kind, Sandbox};
use crate::vcpu::Inbox;

const THREAD: &str = "block-jobs";
/// Speeds may change while a job waits for its turn.
const LONGEST_NAP: Duration = Duration::from_millis(100);

pub(crate) struct BlockJobs {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// There is more to do, or somebody waits no longer for what was done.
    changed: Condvar,
    inbox: Arc<Inbox>,
}

#[derive(Default)]
struct State {
    copies: BTreeMap<String, Copy>,
    closing: bool,
}

struct Copy {
    /// None: the thread is at it.
    copier: Option<Copier>,
    progress: (u64, u64),
    bandwidth: u64,
    /// When its turn comes.
    next: Instant,
    /// How it ended, until somebody took it.
    end: Option<io::Result<()>>,
    ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread does.
    fn run(&self) {
        let mut state = self.state();
        while !state.closing {
            let now = Instant::now();
            let waiting = state.copies.iter_mut().filter(|(_, copy)| !copy.ended);
            let first = waiting.min_by_key(|(_, copy)| copy.next);
            let Some((id, copy)) = first else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if copy.next > now {
                let nap = (copy.next - now).min(LONGEST_NAP);
                let woken = self.changed.wait_timeout(state, nap);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let (id, Some(mut copier)) = (id.clone(), copy.copier.take()) else { continue };
            drop(state);
            let result = copier.step();
            state = self.state();
            // It stays while its copier is away.
            if let Some(copy) = state.copies.get_mut(&id) {
                copy.took(copier, result);
                if copy.ended {
                    self.inbox.ring();
                }
            }
            self.changed.notify_all();
        }
    }
}

impl Copy {
    fn took(&mut self, copier: Copier, result: io::Result<Option<u64>>) {
        self.progress = copier.progress();
        self.copier = Some(copier);
        match result {
            Ok(Some(moved)) => {
                let pause = match self.bandwidth {
                    0 => Duration::ZERO,
                    bandwidth => Duration::from_secs_f64(moved as f64 / bandwidth as f64),
                };
                self.next = Instant::now() + pause;
            }
            Ok(None) => (self.end, self.ended) = (Some(Ok(())), true),
            Err(error) => (self.end, self.ended) = (Some(Err(error)), true),
        }
    }
}

impl BlockJobs {
    /// # Errors
    /// When the thread cannot be had, or not be confined.
    pub(crate) fn new(sandbox: &Sandbox, inbox: Arc<Inbox>) -> io::Result<Self> {
        let state = Mutex::default();
        let shared = Arc::new(Shared { state, changed: Condvar::new(), inbox });
        let (works, prepare) = (shared.clone(), sandbox.entering(Kind::Io));
        let (ready, prepared) = std::sync::mpsc::channel();
        let work = move || {
            let result = prepare();
            let good = result.is_ok();
            // The maker waits on the other end.
            let _ = ready.send(result);
            if good {
                works.run();
            }
        };
        let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(work)?;
        prepared.recv().map_err(io::Error::other)??;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(crate) fn start(&self, id: &str, copier: Copier, bandwidth: u64) {
        let copy = Copy {
            progress: copier.progress(),
            copier: Some(copier),
            bandwidth,
            next: Instant::now(),
            end: None,
            ended: false,
        };
        self.shared.state().copies.insert(id.to_owned(), copy);
        self.shared.changed.notify_all();
    }

    /// Stop copying for `id`; returns when nothing of it is under way.
    pub(crate) fn stop(&self, id: &str) {
        let mut state = self.shared.state();
        if let Some(copy) = state.copies.get_mut(id) {
            copy.ended = true;
        }
        while state.copies.get(id).is_some_and(|copy| copy.copier.is_none()) {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // Its buffers, and perhaps images, are closed here and not with the lock held.
        let copy = state.copies.remove(id);
        drop(state);
        drop(copy);
    }

    pub(crate) fn limit(&self, id: &str, bandwidth: u64) {
        if let Some(copy) = self.shared.state().copies.get_mut(id) {
            copy.bandwidth = bandwidth;
            copy.next = Instant::now();
        }
        self.shared.changed.notify_all();
    }

    /// Bytes of the disk that were dealt with, and all; and the speed that is wanted.
    pub(crate) fn progress(&self, id: &str) -> Option<((u64, u64), u64)> {
        let state = self.shared.state();
        state.copies.get(id).map(|copy| (copy.progress, copy.bandwidth))
    }

    /// Those that have ended since the last time.
    pub(crate) fn take_ended(&self) -> Vec<(String, io::Result<()>)> {
        let mut state = self.shared.state();
        let copies = state.copies.iter_mut();
        copies.filter_map(|(id, copy)| Some((id.clone(), copy.end.take()?))).collect()
    }
}

impl Drop for BlockJobs {
    fn drop(&mut self) {
        self.shared.state().closing = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}
