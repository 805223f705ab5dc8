//! Opening a volume with what lies below it. Each image of the chain is a volume of an active pool:
//! whoever wrote a header must not choose which of the host's files are read.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;

use image::chain::{MOST_DEEP, declared_format, locate};
use image::{Description, Format};

use super::{Pools, VolumeView, scan};
use crate::error::{Code, Error};

/// The chain of a volume, whose own file is open already: formats and files, from the top down. What lies
/// below is only read.
pub(super) fn open(
    pools: &Pools,
    volume: &VolumeView,
    file: OwnedFd,
) -> Result<(Vec<Format>, Vec<OwnedFd>), Error> {
    let broker = pools.broker();
    let (mut formats, mut files) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    let mut next = Some((volume.path.clone(), volume.format, file));
    while let Some((path, format, file)) = next.take() {
        let refused = |why: &str| refused(&path, why);
        if !seen.insert(path.clone()) {
            return Err(refused("it lies below itself"));
        }
        if files.len() >= MOST_DEEP {
            return Err(refused(&format!("more than {MOST_DEEP} images lie on top of each other")));
        }
        if format != Format::Raw {
            let found =
                scan::inspect(&*broker, format, &file).map_err(|error| refused(&error.chain()))?;
            whole(&found).map_err(|why| refused(&why))?;
            if let Some(backing) = &found.backing {
                let image = |error: image::ImageError| refused(&error.in_full());
                let below = locate(&backing.name, &path).map_err(image)?;
                let format = declared_format(backing).map_err(image)?;
                let file = open_below(pools, &below).map_err(|why| refused(&why))?;
                next = Some((below, format, file));
            }
        }
        formats.push(format);
        files.push(file);
    }
    Ok((formats, files))
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(Code::ResourceMissing, format!("volume {}: {why}", path.display()))
}

/// All of it lies in its one file.
fn whole(found: &Description) -> Result<(), String> {
    if let Some(method) = &found.encryption {
        return Err(format!("it uses {method} encryption"));
    }
    if found.data_file.is_some() || !found.extents.is_empty() {
        return Err("its data lies in other files, which no volume has".to_owned());
    }
    Ok(())
}

fn open_below(pools: &Pools, path: &Path) -> Result<OwnedFd, String> {
    let outside = || format!("it lies on {}, which is in no active pool", path.display());
    let pool = path.parent().and_then(|dir| pools.of_dir(dir)).ok_or_else(outside)?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(outside)?;
    let opened = pools.broker().pool_open(&pool.view().path, name, false, false);
    opened.map_err(|error| Error::from(error).chain())
}
