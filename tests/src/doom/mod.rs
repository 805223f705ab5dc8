//! [`Doomed`]: a process that is killed at a system call by which it changes the world.
//!
//! It is traced, so that the binary is the one that ships: nothing is compiled into it for this.
//! Processes that it starts are not.

mod acts;
mod sys;

use std::collections::BTreeSet;
use std::io;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sys::Stop;

/// When it dies: before its last act is done, or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

/// A process that somebody else decides the end of. It ends with this.
pub struct Doomed {
    pid: i32,
    fate: Arc<Fate>,
}

#[derive(Default)]
struct Fate {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    /// Acts so far.
    acts: u64,
    /// The act that is its last, by number.
    last: Option<(u64, Moment)>,
    /// What killed it, if an act did.
    struck: Option<String>,
    over: bool,
}

impl Doomed {
    /// # Errors
    /// Where the program cannot be started, or may not be traced.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        // It is waited for by its number.
        Self::begin(move || {
            command.spawn().and_then(|child| i32::try_from(child.id()).map_err(io::Error::other))
        })
    }

    /// One that somebody else has started.
    ///
    /// # Errors
    /// Where it may not be traced, or is gone.
    pub fn attach(pid: i32) -> io::Result<Self> {
        Self::begin(move || Ok(pid))
    }

    fn begin(start: impl FnOnce() -> io::Result<i32> + Send + 'static) -> io::Result<Self> {
        let fate = Arc::new(Fate::default());
        let (tell, told) = std::sync::mpsc::channel();
        let shared = fate.clone();
        // Only the thread that traces a process may ask for its stops.
        thread::Builder::new().name("tracer".to_owned()).spawn(move || {
            match start().and_then(|pid| Tracer::attach(pid, shared.clone())) {
                Ok(mut tracer) => {
                    let _ = tell.send(Ok(tracer.pid));
                    tracer.run();
                }
                Err(error) => drop(tell.send(Err(error))),
            }
            shared.lock().over = true;
            shared.changed.notify_all();
        })?;
        let pid = told.recv().map_err(io::Error::other)??;
        Ok(Self { pid, fate })
    }

    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How many acts it has made.
    #[must_use]
    pub fn acts(&self) -> u64 {
        self.fate.lock().acts
    }

    /// It makes so many more acts, and dies at the next.
    pub fn die_after(&self, acts: u64, moment: Moment) {
        let mut inner = self.fate.lock();
        inner.last = Some((inner.acts + acts, moment));
    }

    /// It lives on; how many acts it has made.
    pub fn spare(&self) -> u64 {
        let mut inner = self.fate.lock();
        inner.last = None;
        inner.acts
    }

    #[must_use]
    pub fn is_over(&self) -> bool {
        self.fate.lock().over
    }

    /// The act that it died of.
    #[must_use]
    pub fn struck(&self) -> Option<String> {
        self.fate.lock().struck.clone()
    }

    /// Whether it is over within this time.
    #[must_use]
    pub fn is_over_within(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut inner = self.fate.lock();
        while !inner.over {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.fate.changed.wait_timeout(inner, left);
            inner = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// At once.
    pub fn kill(&self) {
        if !self.is_over() {
            sys::kill(self.pid);
            let _ = self.is_over_within(Duration::from_secs(60));
        }
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Fate {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Tracer {
    pid: i32,
    fate: Arc<Fate>,
    /// The thread that is making the last act, after which it dies.
    dying: Option<i32>,
}

impl Tracer {
    fn attach(pid: i32, fate: Arc<Fate>) -> io::Result<Self> {
        let mut known = BTreeSet::new();
        loop {
            // Until there is none that is not known: each may have made another meanwhile.
            let threads = threads(pid);
            let fresh: Vec<_> = threads.into_iter().filter(|id| !known.contains(id)).collect();
            for &id in &fresh {
                known.insert(id);
                match sys::seize(id) {
                    Ok(()) => sys::interrupt(id)?,
                    // A thread that is traced since its start, or has ended.
                    Err(error) if id != pid => drop(error),
                    Err(error) => {
                        sys::kill(pid);
                        return Err(error);
                    }
                }
            }
            if fresh.is_empty() {
                return Ok(Self { pid, fate, dying: None });
            }
        }
    }

    fn run(&mut self) {
        while let Some((id, stop)) = sys::wait() {
            match stop {
                Stop::Ended if id == self.pid => return,
                Stop::Ended => {}
                Stop::Entry(call) => {
                    self.entered(id, &call);
                    sys::go_on(id, 0);
                }
                Stop::Exit => {
                    if self.dying == Some(id) {
                        sys::kill(self.pid);
                    }
                    sys::go_on(id, 0);
                }
                Stop::Signal(signal) => sys::go_on(id, signal),
                Stop::Group => sys::listen(id),
                Stop::Other => sys::go_on(id, 0),
            }
        }
    }

    fn entered(&mut self, id: i32, call: &sys::Call) {
        let Some(act) = acts::name(self.pid, call) else { return };
        let mut inner = self.fate.lock();
        let number = inner.acts;
        inner.acts += 1;
        match inner.last {
            Some((last, moment)) if number == last && self.dying.is_none() => {
                let when = if moment == Moment::Before { "before" } else { "after" };
                inner.struck = Some(format!("{when} {act}"));
                if moment == Moment::Before {
                    // A call that a killed thread is about to make is not made any more.
                    sys::kill(self.pid);
                } else {
                    self.dying = Some(id);
                }
            }
            _ => {}
        }
    }
}

fn threads(pid: i32) -> Vec<i32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell that makes files, each by an act of its own: how many there are when it has died.
    fn files(acts: u64, moment: Moment) -> (usize, Option<String>) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = Command::new("sh");
        command.args(["-c", "read go; for i in 1 2 3 4 5; do : >$i; done"]).current_dir(&dir);
        command.stdin(std::process::Stdio::piped());
        let (input, mut go) = io::pipe().expect("a pipe");
        command.stdin(input);
        let doomed = Doomed::spawn(command).expect("a shell that is traced");
        doomed.die_after(acts, moment);
        io::Write::write_all(&mut go, b"go\n").expect("the shell reads");
        assert!(doomed.is_over_within(Duration::from_secs(60)));
        let made = std::fs::read_dir(&dir).expect("it is there").count();
        (made, doomed.struck())
    }

    #[test]
    fn it_dies_at_the_act_that_is_its_last() {
        assert_eq!(files(2, Moment::Before), (2, Some("before openat".to_owned())));
        assert_eq!(files(2, Moment::After), (3, Some("after openat".to_owned())));
        assert_eq!(files(99, Moment::After), (5, None));
    }
}
