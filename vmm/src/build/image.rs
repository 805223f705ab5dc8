//! An image in a format of its own, with everything below it, from its open files.

use std::fs::File;
use std::sync::Arc;

use image::chain::{self, MOST_DEEP, Node};
use image::{FileStorage, Format, Image, ImageError, Storage};
use vmm_protocol::config::{Fd, ImageFormat, Layer};

use super::{BuildError, Site};

/// Open the chain of disk `id`. Headers are read again here: what was said about them when the
/// files were opened is not relied on.
pub(super) fn open(
    site: &mut Site<'_>,
    id: &str,
    layers: &[Layer],
    read_only: bool,
) -> Result<Arc<dyn Image>, BuildError> {
    if layers.len() > MOST_DEEP {
        return Err(BuildError::config("images of a chain", layers.len(), "must be at most 200"));
    }
    let mut node: Option<Box<Node>> = None;
    for layer in layers.iter().rev() {
        let mut next = Node::new(format(layer.format), storage(site, id, layer.file)?);
        next.data_file = layer.data_file.map(|file| storage(site, id, file)).transpose()?;
        for extent in &layer.extents {
            next.extents.push(storage(site, id, *extent)?);
        }
        next.backing = node.take();
        node = Some(Box::new(next));
    }
    let node = node.ok_or_else(|| BuildError::config("images of a chain", 0, "there is none"))?;
    chain::open(*node, read_only).map_err(BuildError::device::<ImageError>(id))
}

fn format(format: ImageFormat) -> Format {
    match format {
        ImageFormat::Raw => Format::Raw,
        ImageFormat::Qcow2 => Format::Qcow2,
        ImageFormat::Vmdk => Format::Vmdk,
        ImageFormat::Vdi => Format::Vdi,
        ImageFormat::Vpc => Format::Vpc,
    }
}

fn storage(site: &mut Site<'_>, id: &str, file: Fd) -> Result<Arc<dyn Storage>, BuildError> {
    let file: File = site.files.take_file(file)?;
    Ok(Arc::new(FileStorage::new(file).map_err(BuildError::device(id))?))
}
