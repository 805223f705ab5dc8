//! `/init vsock`: one connection over AF_VSOCK, for tests of the device, which busybox knows nothing
//! of. `listen PORT` sends back what it gets, line by line; `call CID PORT` sends its standard input
//! and prints what comes back.

mod sys;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _, copy, stdin, stdout};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use rustix::net::{
    AddressFamily, Shutdown, SocketType, accept, bind, connect, listen, shutdown, socket,
};

use sys::Address;

/// VMADDR_CID_ANY
const ANYONE: u32 = u32::MAX;

pub(crate) fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(2).collect();
    let number = |text: &str| text.parse::<u32>().with_context(|| format!("{text:?} is no number"));
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["listen", port] => echo(number(port)?),
        ["call", cid, port] => call(number(cid)?, number(port)?),
        _ => bail!("vsock listen PORT | vsock call CID PORT"),
    }
}

fn open() -> Result<OwnedFd> {
    socket(AddressFamily::VSOCK, SocketType::STREAM, None).context("no AF_VSOCK here")
}

fn echo(port: u32) -> Result<()> {
    let listener = open()?;
    bind(&listener, &Address::new(ANYONE, port)).context("cannot bind")?;
    listen(&listener, 1)?;
    writeln!(stdout(), "VSOCK-LISTENS")?;
    let connection = File::from(accept(&listener)?);
    let mut answers = connection.try_clone()?;
    for line in BufReader::new(connection).lines() {
        writeln!(answers, "echo {}", line?)?;
    }
    Ok(())
}

fn call(cid: u32, port: u32) -> Result<()> {
    let connection = open()?;
    connect(&connection, &Address::new(cid, port)).context("cannot connect")?;
    let mut file = File::from(connection);
    copy(&mut stdin(), &mut file)?;
    shutdown(&file, Shutdown::Write)?;
    copy(&mut file, &mut stdout())?;
    Ok(())
}
