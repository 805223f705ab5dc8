//! Snapshots inside qcow2 images that no guest has open. Each may be asked for again.

use std::path::Path;

use broker::{Broker, Sharing};
use image::Format;
use image::chain::open_qcow2;
use image::qcow2::{NewSnapshot, Qcow2, SnapshotRef, describe};

use super::merge::{node, refused};
use crate::error::Error;

pub(crate) fn open(broker: &dyn Broker, image: &Path) -> Result<Qcow2, Error> {
    let chain = node(broker, image, Format::Qcow2)?;
    open_qcow2(chain, None).map_err(|error| refused(image, &error))
}

fn has(opened: &Qcow2, image: &Path, name: &str) -> Result<bool, Error> {
    let all = opened.snapshots().map_err(|error| refused(image, &error))?;
    Ok(all.iter().any(|snapshot| snapshot.name == name))
}

/// Keep a disk as it is.
pub(crate) fn create(broker: &dyn Broker, image: &Path, name: &str) -> Result<(), Error> {
    let opened = open(broker, image)?;
    opened.create_snapshot(&NewSnapshot::now(name)).map_err(|error| refused(image, &error))?;
    Ok(())
}

/// Have a disk be what it was.
pub(crate) fn apply(broker: &dyn Broker, image: &Path, name: &str) -> Result<(), Error> {
    let opened = open(broker, image)?;
    opened.apply_snapshot(SnapshotRef::Name(name)).map_err(|error| refused(image, &error))?;
    Ok(())
}

/// One that is not there, is deleted.
pub(crate) fn delete(broker: &dyn Broker, image: &Path, name: &str) -> Result<(), Error> {
    let opened = open(broker, image)?;
    if has(&opened, image, name)? {
        opened.delete_snapshot(SnapshotRef::Name(name)).map_err(|error| refused(image, &error))?;
    }
    Ok(())
}

/// Whether an image, which a guest may have open, holds a snapshot of this name.
pub(crate) fn holds(broker: &dyn Broker, image: &Path, name: &str) -> Result<bool, Error> {
    // The confined process tells nothing of snapshots, but whether the header is one that can be read.
    super::overlay::look(broker, image, Format::Qcow2)?;
    let file = broker.open_image(image, true, false, Sharing::Shared)?;
    let found = describe(&super::overlay::storage(&file, image)?);
    let found = found.map_err(|error| refused(image, &error))?;
    Ok(found.snapshots.iter().any(|snapshot| snapshot.name == name))
}
