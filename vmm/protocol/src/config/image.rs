//! Disk images, whatever device they are on.

use serde::{Deserialize, Serialize};

use super::Fd;

/// An image and how it is used, whatever device it is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Medium {
    pub image: Image,
    pub read_only: bool,
    pub cache: Cache,
    pub discard: Discard,
    /// Bytes: 512 or 4096.
    pub logical_block_size: u32,
    pub io: DiskIo,
}

/// An open disk image. Its format is declared, never guessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Image {
    Raw {
        file: Fd,
    },
    /// The image that the guest uses, then what lies below it, each below the one before.
    Chain(Vec<Layer>),
}

/// One image of a chain. All but the first are only read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    pub format: ImageFormat,
    pub file: Fd,
    /// Where its data lies, if not in `file`.
    #[serde(default)]
    pub data_file: Option<Fd>,
    /// The files of its extents, in their order.
    #[serde(default)]
    pub extents: Vec<Fd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    Raw,
    Qcow2,
    Vmdk,
    Vdi,
    /// VHD.
    Vpc,
}

impl Image {
    /// Every file of it.
    pub fn files(&self) -> Vec<Fd> {
        match self {
            Self::Raw { file } => vec![*file],
            Self::Chain(layers) => {
                let all = layers.iter();
                all.flat_map(|layer| {
                    [layer.file].into_iter().chain(layer.data_file).chain(layer.extents.clone())
                })
                .collect()
            }
        }
    }
}

/// libvirt's cache modes: what the host page cache does and when a write counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    None,
    Writethrough,
    Writeback,
    Directsync,
    Unsafe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Discard {
    Ignore,
    Unmap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskIo {
    /// io_uring where the host has it, else plain system calls.
    Uring,
    Plain,
}
