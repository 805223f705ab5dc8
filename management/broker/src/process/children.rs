//! The broker is the parent of what it starts, so only it learns how that ended: it writes that into a
//! pipe, of which the daemon has the other end.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::spawn::Process;

struct Child {
    process: Process,
    fate: std::fs::File,
}

/// One thread waits for all of them.
pub(super) struct Children {
    new: Sender<Child>,
    wake: OwnedFd,
}

impl Children {
    pub(super) fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (new, come) = channel();
        let woken = wake.try_clone()?;
        let wait = move || wait(&woken, &come);
        std::thread::Builder::new().name("children".to_owned()).spawn(wait)?;
        Ok(Self { new, wake })
    }

    /// Its pidfd, and where it will stand how it ended.
    pub(super) fn watch(&self, process: Process) -> io::Result<[OwnedFd; 2]> {
        let pidfd = process.as_fd().try_clone_to_owned()?;
        let (told, fate) = pipe_with(PipeFlags::CLOEXEC)?;
        let gone = |_| io::Error::other("the thread that waits for processes is gone");
        self.new.send(Child { process, fate: fate.into() }).map_err(gone)?;
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes())?;
        Ok([pidfd, told])
    }
}

fn wait(wake: &OwnedFd, come: &Receiver<Child>) {
    let mut children: Vec<Child> = Vec::new();
    loop {
        let mut watched = vec![PollFd::new(wake, PollFlags::IN)];
        watched.extend(children.iter().map(|child| PollFd::new(&child.process, PollFlags::IN)));
        // Interrupted, or for want of memory: looking at all of them is right then too.
        let _ = poll(&mut watched, None);
        let _ = rustix::io::read(wake, &mut [0; 8]);
        children.retain_mut(|child| match child.process.reap() {
            // A daemon that does not care any more has closed its end.
            Some(how) => {
                let _ = child.fate.write_all(how.as_bytes());
                false
            }
            None => true,
        });
        children.extend(come.try_iter());
    }
}
