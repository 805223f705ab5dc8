//! [`Format`]: the formats there are, by their names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::bytes::{be32, le32};
use crate::storage::Storage;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Raw,
    Qcow2,
    Vmdk,
    Vdi,
    /// VHD, by the name that QEMU and libvirt have for it (Virtual PC).
    Vpc,
    Vhdx,
}

impl Format {
    pub const ALL: [Self; 6] =
        [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Vdi, Self::Vpc, Self::Vhdx];

    /// As libvirt and qemu-img call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
            Self::Vpc => "vpc",
            Self::Vhdx => "vhdx",
        }
    }

    /// What the first bytes say. Only for a person who asks what a file is: whoever wrote an image
    /// wrote those bytes too, so nothing that is attached to a guest is opened by them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn guess(file: &dyn Storage) -> std::io::Result<Self> {
        let mut start = [0; 512];
        file.read(&mut start, 0)?;
        if be32(&start, 0) == crate::qcow2::MAGIC {
            return Ok(Self::Qcow2);
        }
        if le32(&start, 0) == crate::vmdk::MAGIC || start.starts_with(b"# Disk DescriptorFile") {
            return Ok(Self::Vmdk);
        }
        if le32(&start, 0x40) == crate::vdi::SIGNATURE {
            return Ok(Self::Vdi);
        }
        if start.starts_with(crate::vhdx::SIGNATURE) {
            return Ok(Self::Vhdx);
        }
        let end = file.size()?.saturating_sub(512);
        let mut footer = [0; 8];
        file.read(&mut footer, end)?;
        let vhd = start.starts_with(crate::vhd::COOKIE) || footer == *crate::vhd::COOKIE;
        Ok(if vhd { Self::Vpc } else { Self::Raw })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("there is no image format {0:?}; there are {known}", known = known())]
pub struct UnknownFormat(String);

fn known() -> String {
    Format::ALL.map(Format::name).join(", ")
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let name = if name == "vhd" { "vpc" } else { name };
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}
