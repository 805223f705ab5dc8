//! Files pushed into and pulled out of the emulated host.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use testbed_agent::wire::{self, FileFollows, Kind, MAX_PAYLOAD, Put};

/// What was put before, so that an unchanged binary is not sent for every test.
#[derive(Default)]
pub(crate) struct Files {
    known: Mutex<HashMap<String, Slot>>,
}

/// One path's. Locked while the file comes in, so that of two who put the same one the second
/// waits, and then has nothing to send.
type Slot = Arc<Mutex<Option<Known>>>;

#[derive(PartialEq, Eq)]
struct Known {
    put_hash: u64,
    size: u64,
    inode: u64,
    // Changed in place since (by a guest writing its disk, say): then it must be sent again.
    modified: (i64, i64),
}

impl Known {
    fn of(path: &str, put_hash: u64) -> io::Result<Known> {
        let found = fs::metadata(path)?;
        Ok(Known {
            put_hash,
            size: found.size(),
            inode: found.ino(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

impl Files {
    pub(crate) fn receive(&self, put: &Put, stream: &mut TcpStream) -> io::Result<()> {
        let slot = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(put.path.clone()).or_default())
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let present = Known::of(&put.path, put.hash).ok();
        if present.is_some() && *slot == present {
            fs::set_permissions(&put.path, fs::Permissions::from_mode(put.mode))?;
            return wire::send(stream, Kind::Done, b"");
        }
        wire::send(stream, Kind::WantContents, b"")?;
        write_file(put, stream)?;
        *slot = Some(Known::of(&put.path, put.hash)?);
        wire::send(stream, Kind::Done, b"")
    }
}

/// Written beside and renamed: a running program's file cannot be written to, but replaced.
fn write_file(put: &Put, stream: &mut TcpStream) -> io::Result<()> {
    let path = Path::new(&put.path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let partial = format!("{}.partial", put.path);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(put.mode).open(&partial)?;
    let mut missing = put.size;
    while missing > 0 {
        let frame = wire::receive(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if frame.kind != Kind::Contents {
            return Err(io::Error::other(format!("{:?} instead of contents", frame.kind)));
        }
        file.write_all(&frame.payload)?;
        missing = missing
            .checked_sub(frame.payload.len() as u64)
            .ok_or_else(|| io::Error::other("more contents than announced"))?;
    }
    file.set_permissions(fs::Permissions::from_mode(put.mode))?;
    fs::rename(&partial, path)
}

pub(crate) fn give(path: &str, stream: &mut TcpStream) -> io::Result<()> {
    let mut file = File::open(path)?;
    let found = file.metadata()?;
    let head = FileFollows { size: found.len(), mode: found.permissions().mode() & 0o7777 };
    wire::send_value(stream, Kind::FileFollows, &head)?;
    let mut buffer = vec![0; MAX_PAYLOAD];
    loop {
        match file.read(&mut buffer)? {
            0 => return wire::send(stream, Kind::Done, b""),
            length => wire::send(stream, Kind::Contents, &buffer[..length])?,
        }
    }
}
