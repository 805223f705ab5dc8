//! Making volumes larger, or smaller.

use std::os::fd::OwnedFd;

use broker::GroupAct;
use image::work::Work;
use image::{Format, Storage as _};
use rustix::fs::{FallocateFlags, fallocate};

use super::create::io_error;
use super::work::{self, Names};
use super::{Pools, VolumeView, scan};
use crate::error::{Code, Error};
use crate::jobs::Progress;

/// What a volume is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resize {
    pub(crate) capacity: u64,
    /// What is new is to be there at once.
    pub(crate) allocate: bool,
    /// What lies behind the new end may be lost.
    pub(crate) shrink: bool,
}

pub(crate) fn resize(
    pools: &Pools,
    volume: &VolumeView,
    file: OwnedFd,
    wanted: Resize,
) -> Result<(), Error> {
    let (old, new) = (volume.capacity, wanted.capacity);
    let name = &volume.name;
    may_shrink(volume, wanted)?;
    let failed = |error| io_error(name, error);
    match volume.format {
        Format::Raw => {
            let storage = scan::storage(&file)?;
            storage.set_len(new).map_err(failed)?;
            if wanted.allocate && new > old {
                let allocated = fallocate(&file, FallocateFlags::empty(), old, new - old);
                allocated.map_err(|errno| {
                    // As it was.
                    let _ = storage.set_len(old);
                    failed(errno.into())
                })?;
            }
            storage.sync().map_err(failed)
        }
        Format::Qcow2 if wanted.allocate => Err(Error::new(
            Code::Unsupported,
            "space in a qcow2 volume is not allocated ahead; leave --allocate out",
        )),
        Format::Qcow2 => {
            let (chain, files) = super::chain::open(pools, volume, file)?;
            let work = Work::Resize { chain, bytes: new };
            let names = Names { source: name, target: name };
            work::perform(&*pools.broker(), &work, &files, &names, &Progress::new(0))
        }
        other => {
            let text = format!("volume {name:?}: a {other} image cannot be resized");
            Err(Error::new(Code::Unsupported, text))
        }
    }
}

fn may_shrink(volume: &VolumeView, wanted: Resize) -> Result<(), Error> {
    let (name, old, new) = (&volume.name, volume.capacity, wanted.capacity);
    if new >= old || wanted.shrink {
        return Ok(());
    }
    let text = format!(
        "volume {name:?} has {old} bytes, and {new} are less: what lies behind them would be lost; \
         say so (--shrink) if it may"
    );
    Err(Error::new(Code::InvalidArgument, text))
}

/// A volume of a volume group, whose space is always allocated.
pub(crate) fn resize_device(
    pools: &Pools,
    group: &str,
    volume: &VolumeView,
    file: OwnedFd,
    wanted: Resize,
) -> Result<(), Error> {
    may_shrink(volume, wanted)?;
    // Nobody had it open, and now LVM has it.
    drop(file);
    let act = GroupAct::Resize { volume: volume.name.clone(), bytes: wanted.capacity };
    Ok(pools.broker().group(group, act)?)
}
