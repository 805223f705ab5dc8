//! The broker's side: whoever holds the door is served, by as many threads as it asks at a time.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::children::Children;
use super::frame::{receive, send, take_or_end};
use crate::{Broker as _, BrokerError, Local, Request, sys};

/// How long the broker of an earlier daemon may take to notice that it is alone.
const PATIENCE: Duration = Duration::from_secs(5);
const TURN: Duration = Duration::from_millis(2);

/// Perform what is asked through `door` until its other end is closed. `lock` is a file of the daemon's run
/// directory that is ours alone meanwhile, made if it is not there; only then are the acts made ready. What keeps it from
/// beginning is the daemon's to tell.
pub fn serve(
    door: OwnedFd,
    lock: &Path,
    local: impl FnOnce() -> Result<Local, BrokerError>,
) -> Result<(), BrokerError> {
    let host = |act: &str| BrokerError::host(act.to_owned());
    let door = UnixStream::from(door);
    let say = |ready: &Ready| send(&mut &door, ready, &[]).map_err(host("answer the daemon"));
    let (_held, local, children) = match begin(lock, local) {
        Ok(begun) => begun,
        Err(error) => return say(&Err(error)),
    };
    say(&Ok(Hello { is_root: local.is_root() }))?;
    let (children, local) = (Arc::new(children), Arc::new(local));
    while let Some(files) = take_or_end(&door).map_err(host("listen to the daemon"))? {
        for channel in files {
            let (local, children) = (local.clone(), children.clone());
            let work = move || attend(&UnixStream::from(channel), &local, &children);
            let thread = std::thread::Builder::new().name("act".to_owned());
            if let Err(error) = thread.spawn(work) {
                // The channel closes, which the daemon is told as an error of that one act.
                tracing::error!(%error, "no thread for an act");
            }
        }
    }
    Ok(())
}

/// What the daemon waits for before it asks for anything.
pub(super) type Ready = Result<Hello, BrokerError>;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub is_root: bool,
}

fn begin(
    lock: &Path,
    local: impl FnOnce() -> Result<Local, BrokerError>,
) -> Result<(OwnedFd, Local, Children), BrokerError> {
    let held = alone(lock)?;
    let local = local()?;
    local.take_up(lock.parent().unwrap_or(lock))?;
    let children = Children::new().map_err(BrokerError::host("wait for processes"))?;
    Ok((held, local, children))
}

/// One act after the other, until the daemon closes the channel.
fn attend(channel: &UnixStream, local: &Local, children: &Children) {
    loop {
        let (request, files) = match receive::<Request>(&mut &*channel) {
            Ok(Some(received)) => received,
            Ok(None) => return,
            Err(error) => return tracing::error!(%error, "a request is not understood"),
        };
        let files: Vec<_> = files.iter().map(OwnedFd::as_fd).collect();
        let (answer, files) = Answer::take_apart(local.perform(request, &files), children);
        let files: Vec<_> = files.iter().map(OwnedFd::as_fd).collect();
        if let Err(error) = send(&mut &*channel, &answer, &files) {
            return tracing::debug!(%error, "nobody hears the answer");
        }
    }
}

/// No broker of an earlier daemon is at work any more.
fn alone(lock: &Path) -> Result<OwnedFd, BrokerError> {
    let act = format!("lock {}", lock.display());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = open(lock, flags, Mode::from_raw_mode(0o600))
        .map_err(|errno| BrokerError::open("open", "lock", lock, errno.into()))?;
    let until = Instant::now() + PATIENCE;
    while !sys::ofd_try_write_lock(file.as_fd()).map_err(BrokerError::host(&act))? {
        if Instant::now() > until {
            return Err(BrokerError::AnotherBroker { lock: lock.to_owned() });
        }
        std::thread::sleep(TURN);
    }
    Ok(file)
}
