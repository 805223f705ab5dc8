//! Work on images whose headers are a stranger's: a confined process does it ([`image::work`]), and the
//! daemon only hears how far it is.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use broker::Broker;
use image::Format;
use image::work::{Cause, Failure, LONGEST_LINE, Said, Work};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Code, Error};
use crate::jobs::Progress;

/// One piece of a disk that is slow to take it.
const ENDS: Duration = Duration::from_secs(60);

/// Whose volumes they are, for messages.
pub(super) struct Names<'a> {
    pub(super) source: &'a str,
    pub(super) target: &'a str,
}

/// Have `work` done with `files`, and wait for it. Nothing writes to them any more when this returns.
pub(super) fn perform(
    broker: &dyn Broker,
    work: &Work,
    files: &[OwnedFd],
    names: &Names<'_>,
    progress: &Progress,
) -> Result<(), Error> {
    let broken = |source: io::Error| {
        let text = format!("volume {:?}: the process that was at work on it failed", names.target);
        Error::new(Code::HostFailure, text).with_source(source)
    };
    let mut from = begin(broker, work, files)?.map_err(broken)?;
    let mut stopped = None;
    let end = loop {
        match hear(&mut from) {
            Ok(Said::At { done, total }) => {
                progress.set_total(total);
                if let Err(error) = progress.at(done) {
                    stopped = Some(error);
                    break Err(io::ErrorKind::Interrupted.into());
                }
            }
            Ok(Said::Bytes(_)) => break Err(io::Error::other("it says what nobody asked for")),
            Ok(Said::Done) => break Ok(Ok(())),
            Ok(Said::Failed(failure)) => break Ok(Err(failure)),
            Err(error) => break Err(error),
        }
    };
    let socket = from.into_inner();
    // It stops at its next word, which nobody hears.
    let _ = socket.shutdown(Shutdown::Read);
    wait_end(&socket);
    match (end, stopped) {
        (_, Some(error)) => Err(super::create::io_error(names.target, error)),
        (Ok(Ok(())), None) => Ok(()),
        (Ok(Err(failure)), None) => Err(failed(failure, names)),
        (Err(error), None) => Err(broken(error)),
    }
}

/// What a chain shows there, of which `files` are the images. `disk` is its name in messages.
pub(crate) fn read(
    broker: &dyn Broker,
    (chain, files): (Vec<Format>, Vec<OwnedFd>),
    (offset, len): (u64, u32),
    disk: &str,
) -> Result<Vec<u8>, Error> {
    let broken = |source: io::Error| {
        let text = format!("disk {disk}: the process that was to read it failed");
        Error::new(Code::HostFailure, text).with_source(source)
    };
    let mut from = begin(broker, &Work::Read { chain, offset, len }, &files)?.map_err(broken)?;
    let mut found = Vec::new();
    loop {
        match hear(&mut from).map_err(broken)? {
            Said::Bytes(piece) if found.len() + piece.len() <= len as usize => found.extend(piece),
            Said::Done if found.len() == len as usize => return Ok(found),
            Said::Failed(Failure { cause, text, .. }) => {
                let code = match cause {
                    Cause::Image => Code::InvalidArgument,
                    Cause::Host | Cause::NoSpace => Code::HostFailure,
                };
                return Err(Error::new(code, format!("disk {disk}: {text}")));
            }
            _ => return Err(broken(io::Error::other("it says what nobody asked for"))),
        }
    }
}

/// A process that is at work, to be listened to.
fn begin(
    broker: &dyn Broker,
    work: &Work,
    files: &[OwnedFd],
) -> Result<io::Result<BufReader<UnixStream>>, Error> {
    let images: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    let socket = UnixStream::from(broker.work_on_images(&images)?);
    let say = || {
        let mut line = serde_json::to_vec(work)?;
        line.push(b'\n');
        (&socket).write_all(&line)
    };
    Ok(say().map(|()| BufReader::new(socket)))
}

/// Its next word.
fn hear(from: &mut BufReader<UnixStream>) -> io::Result<Said> {
    let mut line = String::new();
    match from.by_ref().take(LONGEST_LINE).read_line(&mut line)? {
        0 => Err(io::Error::other("it ended without a word")),
        _ => Ok(serde_json::from_str(&line)?),
    }
}

/// Until the other end is closed.
fn wait_end(socket: &UnixStream) {
    let patience = Timespec { tv_sec: ENDS.as_secs() as i64, tv_nsec: 0 };
    let mut end = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::empty())];
    if !matches!(poll(&mut end, Some(&patience)), Ok(count) if count > 0) {
        tracing::error!("a process that works on images does not end");
    }
}

fn failed(failure: Failure, names: &Names<'_>) -> Error {
    let volume = if failure.of_target { names.target } else { names.source };
    match failure.cause {
        Cause::NoSpace => Error::new(Code::NoSpace, format!("volume {volume:?}: the pool is full")),
        Cause::Host => {
            Error::new(Code::HostFailure, format!("volume {volume:?}: {}", failure.text))
        }
        Cause::Image => {
            Error::new(Code::InvalidArgument, format!("volume {volume:?}: {}", failure.text))
        }
    }
}
