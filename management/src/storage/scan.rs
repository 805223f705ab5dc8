//! Seeing what a file of a pool is. Its header is read by a confined process, as a disk's is.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use broker::{Broker, PoolFile};
use image::{Description, FileStorage, Format, Inspected};

use super::VolumeView;
use crate::error::{Code, Error};

/// A volume, and what its file was like when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(super) view: VolumeView,
    inode: u64,
    raw: bool,
}

impl Known {
    /// Nothing was written to it since.
    fn is_still(&self, file: &PoolFile, raw: bool) -> bool {
        let of_content = |times: [(i64, u32); 3]| [times[1], times[2]];
        self.inode == file.inode
            && self.raw == raw
            && self.view.physical == file.size
            && of_content(self.view.times) == of_content(file.times)
    }
}

pub(super) fn look(
    broker: &dyn Broker,
    pool: &Path,
    pool_name: &str,
    file: &PoolFile,
    raw: bool,
    before: Option<&Known>,
) -> Known {
    if let Some(known) = before.filter(|known| known.is_still(file, raw)) {
        return known.clone();
    }
    let path = pool.join(&file.name);
    let mut view = VolumeView {
        name: file.name.clone(),
        pool: pool_name.to_owned(),
        path,
        format: Format::Raw,
        capacity: file.size,
        allocation: file.allocated,
        physical: file.size,
        backing: None,
        damaged: None,
        cluster_size: None,
        compat: None,
        lazy_refcounts: false,
        extended_l2: false,
        mode: file.mode,
        owner: file.owner,
        group: file.group,
        times: file.times,
    };
    if !raw {
        match probe(broker, pool, &file.name) {
            Ok(None) => {}
            Ok(Some(description)) => describe(&mut view, &description),
            Err((format, reason)) => {
                view.format = format;
                view.damaged = Some(reason);
            }
        }
    }
    Known { view, inode: file.inode, raw }
}

/// What its header says; nothing of a raw one.
fn probe(
    broker: &dyn Broker,
    pool: &Path,
    name: &str,
) -> Result<Option<Description>, (Format, String)> {
    let host = |error: Error| (Format::Raw, error.chain());
    let open = broker.pool_open(pool, name, false, true).map_err(|error| host(error.into()))?;
    let storage = storage(&open).map_err(host)?;
    let format = image::guess(&storage).map_err(|error| (Format::Raw, error.to_string()))?;
    if format == Format::Raw {
        return Ok(None);
    }
    match inspect(broker, format, &open) {
        Ok(description) => Ok(Some(description)),
        Err(error) => Err((format, error.chain())),
    }
}

pub(super) fn storage(file: &OwnedFd) -> Result<FileStorage, Error> {
    let file = file.try_clone().and_then(|file| FileStorage::new(File::from(file)));
    file.map_err(|source| Error::new(Code::HostFailure, "cannot use a volume").with_source(source))
}

/// What a confined process reads in an image's header.
pub(crate) fn inspect(
    broker: &dyn Broker,
    format: Format,
    file: &OwnedFd,
) -> Result<Description, Error> {
    let answer = broker.inspect(format.name(), file.as_fd())?;
    match serde_json::from_slice(&answer) {
        Ok(Inspected::Image(description)) => Ok(*description),
        Ok(Inspected::Refused(reason)) => Err(Error::new(Code::ResourceMissing, reason)),
        Err(error) => {
            Err(Error::new(Code::Internal, "a header was read to no sense").with_source(error))
        }
    }
}

fn describe(view: &mut VolumeView, found: &Description) {
    let detail = |name: &str| {
        found.details.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    };
    view.format = found.format;
    view.capacity = found.size;
    view.cluster_size = found.cluster_size;
    view.compat = detail("compat").map(str::to_owned);
    view.lazy_refcounts = detail("lazy refcounts") == Some("true");
    view.extended_l2 = detail("extended l2") == Some("true");
    view.backing = found.backing.as_ref().map(|backing| {
        let path = image::chain::locate(&backing.name, &view.path);
        (path.unwrap_or_else(|_| backing.name.clone().into()), backing.format.clone())
    });
    view.damaged = found.corrupt.then(|| "it is marked as corrupt".to_owned());
}
