//! VMDK, VMware's format, by its "Virtual Disk Format 5.0" note: a text that lists extents, each a
//! flat file, or grains behind two levels of tables; both in one file for the usual image.

mod descriptor;
mod sparse;

use std::sync::Arc;

use descriptor::{Access, Descriptor, ExtentKind};
use sparse::Header;

use crate::bytes::le32;
use crate::description::Description;
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;
use crate::view::Image;
use crate::window::{Joined, Window};

pub(crate) use sparse::MAGIC;

const SECTOR: u64 = 512;
/// A descriptor in a file of its own is not longer.
const MOST_TEXT: u64 = 64 << 10;

fn damaged(what: impl Into<String>) -> ImageError {
    ImageError::damaged(Format::Vmdk, what)
}

/// What the file given for the image is.
enum Kind {
    /// Grains and, in most, the descriptor.
    Sparse(Header, Option<Descriptor>),
    /// The descriptor alone.
    Text(Descriptor),
}

impl Kind {
    fn read(file: &dyn Storage) -> Result<Self, ImageError> {
        let mut start = [0; 4];
        file.read(&mut start, 0).map_err(ImageError::io("cannot read the image"))?;
        if le32(&start, 0) == MAGIC {
            let header = Header::read(file)?;
            let descriptor = header.descriptor(file)?.map(|text| Descriptor::parse(&text));
            return Ok(Self::Sparse(header, descriptor.transpose()?));
        }
        let size = file.size().map_err(ImageError::io("cannot find the image's size"))?;
        let mut text = vec![0; size.min(MOST_TEXT) as usize];
        file.read(&mut text, 0).map_err(ImageError::io("cannot read the image"))?;
        if !text.starts_with(b"# Disk Descriptor") || size > MOST_TEXT {
            let reason = "it is neither grains nor a descriptor";
            return Err(ImageError::NotThis { format: Format::Vmdk, reason });
        }
        Descriptor::parse(&text).map(Self::Text)
    }
}

pub(crate) fn describe(file: &dyn Storage) -> Result<Description, ImageError> {
    let (size, cluster, descriptor) = match Kind::read(file)? {
        Kind::Sparse(header, descriptor) => {
            (header.capacity * SECTOR, Some(header.grain * SECTOR), descriptor)
        }
        Kind::Text(descriptor) => (descriptor.size()?, None, Some(descriptor)),
    };
    let mut description = Description::new(Format::Vmdk, size);
    description.cluster_size = cluster;
    if let Some(descriptor) = descriptor {
        if cluster.is_none() {
            description.extents = descriptor.names();
        }
        description.details.push(("create type".into(), descriptor.create_type.clone()));
        if let Some(parent) = descriptor.parent {
            let reason = format!("it has a parent image ({parent}), which is not supported");
            description.read_only = Some(reason);
        } else if descriptor.create_type == "streamOptimized" {
            description.read_only = Some("a stream-optimised image is written once".into());
        }
    }
    Ok(description)
}

/// Open an image with the files of its extents, in their order.
pub(crate) fn open(
    file: Arc<dyn Storage>,
    extents: Vec<Arc<dyn Storage>>,
    read_only: bool,
) -> Result<Arc<dyn Image>, ImageError> {
    let (descriptor, embedded) = match Kind::read(&*file)? {
        Kind::Sparse(header, descriptor) => (descriptor, Some(header)),
        Kind::Text(descriptor) => (Some(descriptor), None),
    };
    if let Some(parent) = descriptor.as_ref().and_then(|it| it.parent.as_ref()) {
        let what = format!("a parent image ({parent})");
        return Err(ImageError::unsupported(Format::Vmdk, what));
    }
    if let Some(header) = embedded {
        return Ok(Arc::from(sparse::open(file, &header, read_only)?));
    }
    let descriptor = descriptor.ok_or_else(|| damaged("no descriptor"))?;
    let mut files = extents.into_iter();
    let mut parts: Vec<Box<dyn Image>> = Vec::new();
    for extent in &descriptor.extents {
        let read_only = read_only || extent.access == Access::ReadOnly;
        let len = extent.bytes()?;
        let mut file = || files.next().ok_or_else(|| damaged("an extent without its file"));
        match extent.kind {
            ExtentKind::Zero => {
                parts.push(Box::new(Window { file: None, start: 0, len, read_only }));
            }
            ExtentKind::Flat => {
                let (file, start) = (file()?, extent.offset * SECTOR);
                let have = file.size().map_err(ImageError::io("cannot find an extent's size"))?;
                if start.checked_add(len).is_none_or(|end| end > have) {
                    return Err(damaged("an extent shorter than the descriptor says"));
                }
                parts.push(Box::new(Window { file: Some(file), start, len, read_only }));
            }
            ExtentKind::Sparse => {
                let file = file()?;
                let header = Header::read(&*file)?;
                if header.capacity * SECTOR != len {
                    return Err(damaged("an extent of another size than the descriptor says"));
                }
                parts.push(sparse::open(file, &header, read_only)?);
            }
        }
    }
    Ok(Arc::new(Joined::new(parts, read_only)))
}

pub(crate) use sparse::create;
