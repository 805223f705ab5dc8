//! [`NewImage`]: images to be made, of any format.

use crate::error::ImageError;
use crate::format::Format;
use crate::qcow2::{self, CreateOptions};
use crate::storage::Storage;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewImage {
    Raw,
    /// Its size stands in the options, too, and the other one counts.
    Qcow2(CreateOptions),
    /// `name` is that of the file, which the image repeats.
    Vmdk {
        name: String,
    },
    /// Fixed: space for all of it is counted as used from the start.
    Vdi {
        fixed: bool,
    },
    Vpc {
        fixed: bool,
    },
}

impl NewImage {
    #[must_use]
    pub fn format(&self) -> Format {
        match self {
            Self::Raw => Format::Raw,
            Self::Qcow2(_) => Format::Qcow2,
            Self::Vmdk { .. } => Format::Vmdk,
            Self::Vdi { .. } => Format::Vdi,
            Self::Vpc { .. } => Format::Vpc,
        }
    }

    /// Make `file` such an image, of a disk of `size` bytes with nothing in it.
    ///
    /// # Errors
    /// When there can be no such image, or the host refuses.
    pub fn create(&self, file: &dyn Storage, size: u64) -> Result<(), ImageError> {
        match self {
            Self::Raw => file.set_len(size).map_err(ImageError::io("cannot write the image")),
            Self::Qcow2(options) => qcow2::create(file, &CreateOptions { size, ..options.clone() }),
            Self::Vmdk { name } => crate::vmdk::create(file, size, name),
            Self::Vdi { fixed } => crate::vdi::create(file, size, *fixed),
            Self::Vpc { fixed } => crate::vhd::create(file, size, *fixed),
        }
    }
}
