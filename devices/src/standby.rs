//! [`Standby`]: threads that were started, and confined, in advance, for devices that come when none can
//! be started any more. [`Errand`] is what one does, or a thread of its own.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use crate::sync::Lock;

pub type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    work: VecDeque<(Work, mpsc::Sender<()>)>,
    /// Threads that wait, and that nobody has asked for.
    free: usize,
    closing: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
}

impl Shared {
    /// None: it is over.
    fn next(&self) -> Option<(Work, mpsc::Sender<()>)> {
        let mut queue = self.queue.hold();
        loop {
            if let Some(next) = queue.work.pop_front() {
                return Some(next);
            }
            if queue.closing {
                return None;
            }
            queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn serve(&self) {
        while let Some((work, done)) = self.next() {
            work();
            // Free before whoever waits for the end asks for the next.
            self.queue.hold().free += 1;
            drop(done);
        }
    }
}

/// Threads that wait for errands. They end with it, those that are on one when that is done: nobody waits
/// for them here, or a device that somebody still holds would keep a process from ending.
#[derive(Default)]
pub struct Standby {
    shared: Arc<Shared>,
}

impl Standby {
    /// `count` threads called `name`, each of which runs `prepare` before anything else: the place for a
    /// seccomp filter.
    ///
    /// # Errors
    /// When the host has no threads, or one cannot be prepared.
    pub fn new(
        name: &str,
        count: usize,
        prepare: impl Fn() -> io::Result<()> + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let standby = Self::default();
        let (ready, prepared) = mpsc::channel();
        for _ in 0..count {
            let (shared, prepare, ready) = (standby.shared.clone(), prepare.clone(), ready.clone());
            let work = move || {
                let result = prepare();
                let good = result.is_ok();
                // The maker waits on the other end.
                let _ = ready.send(result);
                if good {
                    shared.serve();
                }
            };
            drop(thread::Builder::new().name(name.to_owned()).spawn(work)?);
        }
        for _ in 0..count {
            prepared.recv().map_err(io::Error::other)??;
        }
        standby.shared.queue.hold().free = count;
        Ok(standby)
    }

    /// Have one of the threads do `work`; none is free: nothing comes back.
    pub fn send(&self, work: Work) -> Option<Errand> {
        let (done, end) = mpsc::channel();
        let mut queue = self.shared.queue.hold();
        queue.free = queue.free.checked_sub(1)?;
        queue.work.push_back((work, done));
        drop(queue);
        self.shared.more.notify_one();
        Some(Errand(Hands::Standby(Mutex::new(end))))
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.shared.queue.hold().closing = true;
        self.shared.more.notify_all();
    }
}

/// Work that a thread does.
#[must_use]
pub struct Errand(Hands);

enum Hands {
    Own(JoinHandle<()>),
    /// Nothing is ever sent: the other end goes when the work is done. Nobody shares it, as the lock says
    /// to the compiler.
    Standby(Mutex<mpsc::Receiver<()>>),
}

impl Errand {
    /// On a thread of its own called `name`, which runs `prepare` before, and not the work if that fails.
    ///
    /// # Errors
    /// When the host has no thread.
    pub fn start(
        name: &str,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
        work: Work,
    ) -> io::Result<Self> {
        let (ready, prepared) = mpsc::channel();
        let work = move || {
            let result = prepare();
            let good = result.is_ok();
            // The maker waits on the other end.
            let _ = ready.send(result);
            if good {
                work();
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        prepared.recv().map_err(io::Error::other)??;
        Ok(Self(Hands::Own(thread)))
    }

    /// Wait until the work is done.
    pub fn wait(self) {
        match self.0 {
            // One that panicked has said so.
            Hands::Own(thread) => _ = thread.join(),
            Hands::Standby(end) => _ = end.hold().recv(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_errands_run_at_once_as_there_are_threads_and_each_thread_serves_again() {
        let standby = Standby::new("standby", 2, || Ok(())).unwrap();
        for _ in 0..3 {
            let (go, wait) = mpsc::channel::<()>();
            let (names, called) = mpsc::channel();
            let wait = Arc::new(Mutex::new(wait));
            let errand = || {
                let (wait, names) = (wait.clone(), names.clone());
                standby.send(Box::new(move || {
                    names.send(thread::current().name().map(str::to_owned)).unwrap();
                    let _ = wait.lock().unwrap().recv();
                }))
            };
            let (one, two) = (errand().unwrap(), errand().unwrap());
            assert!(errand().is_none(), "there are two");
            for _ in 0..2 {
                assert_eq!(called.recv().unwrap().as_deref(), Some("standby"));
            }
            drop(go);
            one.wait();
            two.wait();
        }
    }

    #[test]
    fn threads_that_cannot_be_confined_are_an_error() {
        let refuse = || Err(io::ErrorKind::PermissionDenied.into());
        assert!(Standby::new("standby", 2, refuse).is_err());
        let errand = Errand::start("own", refuse, Box::new(|| panic!("it ran")));
        assert!(errand.is_err());
    }

    #[test]
    fn an_errand_outlives_who_gave_it_and_holds_nobody_up() {
        let standby = Standby::new("standby", 2, || Ok(())).unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let errand = standby.send(Box::new(move || _ = wait.recv())).unwrap();
        drop(standby);
        drop(go);
        errand.wait();
    }

    #[test]
    fn who_has_none_sends_none() {
        assert!(Standby::default().send(Box::new(|| panic!("it ran"))).is_none());
    }
}
