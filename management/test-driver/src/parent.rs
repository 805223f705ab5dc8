//! Processes of the test driver end with their daemon: nothing of it is to stay on the host.

use std::ffi::OsString;
use std::io;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};

/// End this process when that of the daemon ends, whose number is `arguments`.
pub(crate) fn follow(arguments: impl IntoIterator<Item = OsString>) -> io::Result<()> {
    let number = arguments.into_iter().next().and_then(|word| word.to_str()?.parse().ok());
    let daemon = number.and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let held = pidfd_open(daemon, PidfdFlags::empty())?;
    // Looked at after opening: were it another's number by now, we would have another parent.
    if getppid() != Some(daemon) {
        return Err(io::Error::other("the daemon has ended"));
    }
    let wait = move || {
        loop {
            match poll(&mut [PollFd::new(&held, PollFlags::IN)], None) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => std::process::exit(0),
            }
        }
    };
    std::thread::Builder::new().name("daemon".to_owned()).spawn(wait).map(drop)
}
