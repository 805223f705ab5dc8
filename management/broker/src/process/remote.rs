//! The daemon's side: [`Remote`] starts the process, and asks it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::answer::Answer;
use super::frame::{pass, receive, send};
use super::serve::{Hello, Ready};
use crate::{Broker, BrokerError, Granted, Request};

/// What is run as a broker. Its standard input will be the door.
#[derive(Debug, Clone)]
pub struct Start {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
}

/// A broker in another process, which ends with this value.
#[derive(Debug)]
pub struct Remote {
    door: UnixStream,
    is_root: bool,
    /// Channels on which nothing is asked at the moment.
    idle: Mutex<Vec<UnixStream>>,
}

impl Remote {
    /// Start it, and wait until it is the only one. The child is for the caller to watch: what is asked
    /// after its end fails.
    pub fn start(start: &Start) -> Result<(Self, Child), BrokerError> {
        let host = |source| BrokerError::Host { act: "start the broker".to_owned(), source };
        let (door, theirs) = UnixStream::pair().map_err(host)?;
        let child = Command::new(&start.program)
            .arg0("manor broker")
            .args(&start.arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // It goes when the daemon goes, and not when a terminal interrupts both.
            .process_group(0)
            .spawn()
            .map_err(host)?;
        Ok((Self::at(door)?, child))
    }

    /// Once the other side is ready.
    pub(super) fn at(door: UnixStream) -> Result<Self, BrokerError> {
        let ready = receive::<Ready>(&mut &door).and_then(|ready| {
            ready.ok_or_else(|| io::Error::other("it ended at once: see the log"))
        });
        let (ready, _) =
            ready.map_err(|source| BrokerError::Host { act: "start the broker".into(), source })?;
        ready.map(|Hello { is_root }| Self { door, is_root, idle: Mutex::default() })
    }

    fn channel(&self) -> io::Result<UnixStream> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(channel) = idle {
            return Ok(channel);
        }
        let (ours, theirs) = UnixStream::pair()?;
        pass(&self.door, &[theirs.as_fd()])?;
        Ok(ours)
    }
}

impl Broker for Remote {
    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
        let gone = |what: &str| {
            let what = what.to_owned();
            move |source| BrokerError::Broker { what, source }
        };
        let channel = self.channel().map_err(gone("cannot be reached"))?;
        send(&mut &channel, &request, files).map_err(gone("takes no request"))?;
        let (answer, files) = receive::<Answer>(&mut &channel)
            .and_then(|answer| answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
            .map_err(gone("does not answer"))?;
        // A channel on which something went wrong is not used again.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
        answer.put_together(files).map_err(gone("answers with other files than it should"))?
    }

    fn is_root(&self) -> bool {
        self.is_root
    }
}
