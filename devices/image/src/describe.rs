//! Which format a file has, and what its header says: each format answers for itself.

use std::io;

use crate::bytes::{be32, le32};
use crate::description::Description;
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;

/// Read what `file` says of itself.
///
/// # Errors
/// When it is no image of that format, damaged, or of a kind we do not know. What merely cannot be
/// opened (encryption) is described.
pub fn describe(file: &dyn Storage, format: Format) -> Result<Description, ImageError> {
    match format {
        Format::Raw => {
            let size = file.size().map_err(ImageError::io("cannot find the image's size"))?;
            Ok(Description::new(Format::Raw, size))
        }
        Format::Qcow2 => crate::qcow2::describe(file),
        Format::Vmdk => crate::vmdk::describe(file),
        Format::Vdi => crate::vdi::describe(file),
        Format::Vpc => crate::vhd::describe(file),
        Format::Vhdx => crate::vhdx::describe(file),
    }
}

/// What the first bytes say. Only for a person who asks what a file is: whoever wrote an image
/// wrote those bytes too, so nothing that is attached to a guest is opened by them.
///
/// # Errors
/// When the file cannot be read.
pub fn guess(file: &dyn Storage) -> io::Result<Format> {
    let mut start = [0; 512];
    file.read(&mut start, 0)?;
    if be32(&start, 0) == crate::qcow2::MAGIC {
        return Ok(Format::Qcow2);
    }
    if le32(&start, 0) == crate::vmdk::MAGIC || start.starts_with(b"# Disk DescriptorFile") {
        return Ok(Format::Vmdk);
    }
    if le32(&start, 0x40) == crate::vdi::SIGNATURE {
        return Ok(Format::Vdi);
    }
    if start.starts_with(crate::vhdx::SIGNATURE) {
        return Ok(Format::Vhdx);
    }
    let end = file.size()?.saturating_sub(512);
    let mut footer = [0; 8];
    file.read(&mut footer, end)?;
    let vhd = start.starts_with(crate::vhd::COOKIE) || footer == *crate::vhd::COOKIE;
    Ok(if vhd { Format::Vpc } else { Format::Raw })
}
