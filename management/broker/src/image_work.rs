//! Copying and changing images: their formats are a stranger's work, and are read by a process of its own
//! that has the images, a socket for what it is to do and what it says, and nothing else.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::spawn::{c_string, null};
use crate::sys::Pids;
use crate::{BrokerError, sys};

/// Where the images begin, in their order.
const FIRST: i32 = 3;
/// A chain, and a target.
const MOST: usize = 201;

pub(crate) fn start(
    program: &Path,
    arguments: &[String],
    images: &[BorrowedFd<'_>],
) -> Result<OwnedFd, BrokerError> {
    let failed = |source| BrokerError::Host { act: "start work on images".to_owned(), source };
    if images.len() > MOST {
        return Err(failed(io::Error::other("more images than any chain has")));
    }
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|errno| failed(errno.into()))?;
    let exec = prepare(program, arguments, &theirs, images).map_err(failed)?;
    let child = sys::spawn(&exec, |_| Ok(())).map_err(failed)?;
    let reap = move || {
        while matches!(
            waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED),
            Err(rustix::io::Errno::INTR)
        ) {}
    };
    std::thread::Builder::new().name("reaper".to_owned()).spawn(reap).map_err(failed)?;
    Ok(ours)
}

fn prepare(
    program: &Path,
    arguments: &[String],
    socket: &OwnedFd,
    images: &[BorrowedFd<'_>],
) -> io::Result<sys::Exec> {
    let count = i32::try_from(images.len()).map_err(io::Error::other)?;
    let above = FIRST + count;
    let raise = |file: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(file, above);
    let mut table = vec![
        (raise(socket.as_fd())?, 0),
        (raise(socket.as_fd())?, 1),
        (raise(null()?.as_fd())?, 2),
    ];
    for (image, number) in images.iter().zip(FIRST..) {
        table.push((raise(*image)?, number));
    }
    let name = c_string(program.as_os_str().as_bytes())?;
    let words = arguments.iter().map(|argument| c_string(argument.as_bytes()));
    let arguments: io::Result<Vec<CString>> =
        std::iter::once(Ok(name.clone())).chain(words).collect();
    Ok(sys::Exec {
        program: name,
        arguments: arguments?,
        environment: Vec::new(),
        table,
        pids: Pids::Ours,
        first_closed: above,
        cgroup: None,
        end_with_parent: false,
    })
}
