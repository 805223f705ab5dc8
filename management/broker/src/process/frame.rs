//! A message and the files beside it (SCM_RIGHTS), on a stream: lengths, files, bytes.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of one message: a pool of a hundred thousand volumes.
const MOST: u32 = 64 << 20;
/// Files beside one message: the chains of all of a guest's disks.
const MOST_FILES: u32 = 4096;
/// Files that the kernel lets go together (SCM_MAX_FD is 253).
const TOGETHER: usize = 250;
const HEADER: usize = 8;

pub(super) fn send<T: Serialize>(
    stream: &mut &UnixStream,
    message: &T,
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= MOST);
    let length = length.ok_or_else(|| too_large("message"))?;
    let count = u32::try_from(files.len()).ok().filter(|count| *count <= MOST_FILES);
    let count = count.ok_or_else(|| too_large("number of files"))?;
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..].copy_from_slice(&count.to_le_bytes());
    stream.write_all(&header)?;
    for part in files.chunks(TOGETHER) {
        pass(stream, part)?;
    }
    stream.write_all(&body)
}

/// None: the other side is gone, between two messages.
pub(super) fn receive<T: DeserializeOwned>(
    stream: &mut &UnixStream,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut header = [0; HEADER];
    match stream.read(&mut header)? {
        0 => return Ok(None),
        begun => stream.read_exact(header.get_mut(begun..).unwrap_or_default())?,
    }
    let [a, b, c, d, e, f, g, h] = header;
    let (length, count) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    if length > MOST || count > MOST_FILES {
        return Err(too_large("message"));
    }
    let mut files = Vec::with_capacity(count as usize);
    while files.len() < count as usize {
        files.append(&mut take(stream)?);
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body)?;
    let message = postcard::from_bytes(&body).map_err(io::Error::other)?;
    Ok(Some((message, files)))
}

/// One byte, and these files beside it.
pub(super) fn pass(stream: &UnixStream, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(TOGETHER))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(too_large("number of files"));
    }
    loop {
        match sendmsg(stream, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL) {
            Ok(1) => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// One byte, and the files beside it; none of either: the other side is gone.
pub(super) fn take_or_end(stream: &UnixStream) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(TOGETHER))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let received = loop {
        match recvmsg(stream.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    Ok(Some(files.flatten().collect()))
}

fn take(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    match take_or_end(stream)? {
        // Files that do not come are closed at the other end, or there was no room here for them.
        Some(files) if files.is_empty() => {
            Err(io::Error::other("files got lost: is the limit of open files reached?"))
        }
        Some(files) => Ok(files),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn too_large(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("a {what} that is too large"))
}
