//! The long works on a volume's content: fill it from another one, have all of it there.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use image::copy::Target;
use image::work::Work;
use image::{Format, Storage};
use rustix::fs::{FallocateFlags, fallocate, ioctl_ficlone};

use super::create::{NewVolume, io_error};
use super::work::{self, Names};
use super::{Pools, VolumeView, chain, scan};
use crate::error::{Code, Error};
use crate::jobs::Progress;

/// Done between two looks at whether the job is to go on.
const PIECE: u64 = 64 << 20;
const BLOCK: u64 = 4096;

/// Whether a copy may share its blocks with what it is a copy of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// Where the file system can.
    Try,
    Must,
}

/// Put into `file`, which is empty or, as a device, filled with what others left there, what `source`
/// shows.
pub(crate) fn fill(
    pools: &Pools,
    (source, source_file): (&VolumeView, OwnedFd),
    file: &OwnedFd,
    new: &NewVolume,
    before: Target,
    share: Share,
    progress: &Progress,
) -> Result<(), Error> {
    if new.is_twin_of(source) {
        match ioctl_ficlone(file, &source_file) {
            Ok(()) => return sync(file, new),
            Err(errno) if share == Share::Must => return Err(not_shared(errno.into())),
            Err(_) => {}
        }
    } else if share == Share::Must {
        return Err(not_shared(io::ErrorKind::InvalidInput.into()));
    }
    if before == Target::Blank {
        new.format(&scan::storage(file)?)?;
    }
    let (formats, mut files) = chain::open(pools, source, source_file)?;
    files.push(file.try_clone().map_err(|error| io_error(&new.name, error))?);
    let work = Work::Copy { source: formats, target: new.format, before, step: new_step(new) };
    let names = Names { source: &source.name, target: &new.name };
    work::perform(&*pools.broker(), &work, &files, &names, progress)?;
    sync(file, new)
}

fn new_step(new: &NewVolume) -> u64 {
    if new.format == Format::Qcow2 { new.options.cluster_size.max(BLOCK) } else { BLOCK }
}

fn sync(file: &OwnedFd, new: &NewVolume) -> Result<(), Error> {
    rustix::fs::fsync(file).map_err(|errno| io_error(&new.name, errno.into()))
}

fn not_shared(source: io::Error) -> Error {
    let text = "the copy cannot share its blocks: that takes one file system that can (btrfs, xfs), \
                and a copy of the same format and size";
    Error::new(Code::Unsupported, text).with_source(source)
}

/// Have the first `allocation` bytes of a new raw volume there.
pub(crate) fn allocate(file: &OwnedFd, new: &NewVolume, progress: &Progress) -> Result<(), Error> {
    let storage = scan::storage(file)?;
    new.format(&storage)?;
    let mut at = 0;
    while at < new.allocation {
        progress.at(at).map_err(|error| io_error(&new.name, error))?;
        let len = PIECE.min(new.allocation - at);
        let done = match fallocate(file.as_fd(), FallocateFlags::KEEP_SIZE, at, len) {
            Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(&storage, at, len),
            other => other.map_err(io::Error::from),
        };
        done.map_err(|error| io_error(&new.name, error))?;
        at += len;
    }
    sync(file, new)
}

fn write_zeros(file: &dyn Storage, offset: u64, len: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let (mut at, end) = (offset, offset + len);
    while at < end {
        let part = (end - at).min(zeros.len() as u64);
        file.write(&zeros[..part as usize], at)?;
        at += part;
    }
    Ok(())
}
