//! Looking into an image: its header is a stranger's work, and is read by a process of its own that
//! has the image, a pipe for the answer, and nothing else.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::BrokerError;

/// A header is read in milliseconds; a dead network file system is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST: usize = 1 << 20;

/// What the inspecting process says of an image of `format`.
pub(crate) fn inspect(
    program: &Path,
    arguments: &[String],
    format: &str,
    image: BorrowedFd<'_>,
) -> Result<Vec<u8>, BrokerError> {
    let failed = |source| BrokerError::Host { act: "look into an image".to_owned(), source };
    let image = image.try_clone_to_owned().map_err(failed)?;
    let mut child = Command::new(program)
        .args(arguments)
        .arg(format)
        .env_clear()
        .stdin(image)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let answer = child.stdout.take().ok_or_else(|| io::Error::other("no pipe")).and_then(read);
    if answer.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    let answer = answer.map_err(failed)?;
    if !status.success() {
        let text = format!("the process that was to read its header ended with {status}");
        return Err(failed(io::Error::other(text)));
    }
    Ok(answer)
}

/// All of it, if it comes soon and is not too long.
fn read(mut pipe: ChildStdout) -> io::Result<Vec<u8>> {
    let end = Instant::now() + PATIENCE;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut ready = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
        match poll(&mut ready, Some(&left)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        match pipe.read(&mut piece) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.len() > LONGEST {
            return Err(io::Error::other("it says too much"));
        }
    }
}
