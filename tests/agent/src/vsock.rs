//! `/init vsock`: one connection over AF_VSOCK, for tests of the device, which busybox knows nothing
//! of. `listen PORT` sends back what it gets, line by line; `call CID PORT` sends its standard input
//! and prints what comes back. `listen SOCKET PORT` and `call SOCKET PORT` do the same through the
//! unix socket that Manor has where the host's kernel has no vsock.

mod sys;

use std::fs::File;
use std::io::{BufRead as _, BufReader, IoSliceMut, Read as _, Write as _, copy, stdin, stdout};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, Shutdown, SocketType,
    accept, bind, connect, listen, recvmsg, shutdown, socket,
};

use sys::Address;

/// VMADDR_CID_ANY
const ANYONE: u32 = u32::MAX;

pub(crate) fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(2).collect();
    let number = |text: &str| text.parse::<u32>().with_context(|| format!("{text:?} is no number"));
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["listen", port] => echo(File::from(called(number(port)?)?)),
        ["listen", path, port] => echo(called_through(path, number(port)?)?),
        ["call", path, port] if path.starts_with('/') => {
            talk(greet(path, &format!("CONNECT {port}"))?.0)
        }
        ["call", cid, port] => call(number(cid)?, number(port)?),
        _ => bail!("vsock listen [SOCKET] PORT | vsock call CID|SOCKET PORT"),
    }
}

fn open() -> Result<OwnedFd> {
    socket(AddressFamily::VSOCK, SocketType::STREAM, None).context("no AF_VSOCK here")
}

/// The first who calls.
fn called(port: u32) -> Result<OwnedFd> {
    let listener = open()?;
    bind(&listener, &Address::new(ANYONE, port)).context("cannot bind")?;
    listen(&listener, 1)?;
    writeln!(stdout(), "VSOCK-LISTENS")?;
    Ok(accept(&listener)?)
}

/// Say what we want; the answer must begin with OK.
fn greet(path: &str, wish: &str) -> Result<(File, String)> {
    let mut stream = UnixStream::connect(path).with_context(|| format!("cannot reach {path}"))?;
    writeln!(stream, "{wish}")?;
    let mut answer = String::new();
    let mut byte = [0];
    while !answer.ends_with('\n') && stream.read(&mut byte)? == 1 {
        answer.push(byte[0].into());
    }
    if !answer.starts_with("OK ") {
        bail!("{wish}: {answer:?}");
    }
    Ok((File::from(OwnedFd::from(stream)), answer))
}

/// The first whom the guest calls at this port.
fn called_through(path: &str, port: u32) -> Result<File> {
    let (listener, _) = greet(path, &format!("LISTEN {port}"))?;
    writeln!(stdout(), "VSOCK-LISTENS")?;
    let mut text = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(&listener, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::empty())?;
    let socket = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    socket.map(File::from).context("a call without a socket")
}

fn echo(connection: File) -> Result<()> {
    let mut answers = connection.try_clone()?;
    for line in BufReader::new(connection).lines() {
        writeln!(answers, "echo {}", line?)?;
    }
    Ok(())
}

fn call(cid: u32, port: u32) -> Result<()> {
    let connection = open()?;
    connect(&connection, &Address::new(cid, port)).context("cannot connect")?;
    talk(File::from(connection))
}

fn talk(mut file: File) -> Result<()> {
    copy(&mut stdin(), &mut file)?;
    shutdown(&file, Shutdown::Write)?;
    copy(&mut file, &mut stdout())?;
    Ok(())
}
