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
    /// What an NBD server serves.
    Nbd(Nbd),
}

/// An export of an NBD server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nbd {
    /// A connected stream socket that does not block. Later ones come by `Connect`.
    pub socket: Fd,
    pub export: String,
    pub tls: Option<NbdTls>,
    /// Seconds that requests wait for another connection before they fail.
    pub reconnect_delay: u32,
}

/// Texts in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NbdTls {
    /// Who signs the server's certificate.
    pub authority: Fd,
    /// The client's own certificate and key.
    pub client: Option<(Fd, Fd)>,
    /// In the server's certificate.
    pub server_name: String,
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
            Self::Nbd(Nbd { socket, tls, .. }) => {
                let tls = tls.iter().flat_map(|tls| {
                    let client = tls.client.map(|(certificate, key)| [certificate, key]);
                    [tls.authority].into_iter().chain(client.into_iter().flatten())
                });
                [*socket].into_iter().chain(tls).collect()
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
