//! What block jobs are asked to do.

use std::path::{Path, PathBuf};

use xml::device::Device;
use xml::device::disk::{Disk, Location, NetworkProtocol};

use crate::error::{Code, Error};

/// What is to be done to a disk. Images are named by their paths, or as in `vda[3]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockJobSpec {
    /// What lies between the guest's image and `base`, or all below it, goes into that.
    Pull {
        base: Option<String>,
        /// The image names `base` as the images between do, relative to themselves.
        relative: bool,
    },
    /// What `top` and those below it have goes into `base`.
    Commit {
        /// None: the lowest; or with `shallow` the one below `top`.
        base: Option<String>,
        /// None: the guest's image.
        top: Option<String>,
        shallow: bool,
        /// The caller knows that it is the guest's image, and that it has to pivot.
        active: bool,
        /// Images that are no part of the disk afterwards are removed.
        delete: bool,
        /// The image above `top` names `base` as those between do, relative to themselves.
        relative: bool,
    },
    /// All goes into a copy.
    Copy {
        path: PathBuf,
        /// None: that of the disk.
        format: Option<String>,
        /// Only what the guest's image has: the copy lies on what that lies on.
        shallow: bool,
        /// It is there already, of the right size.
        reuse: bool,
    },
    /// All goes onto a server, as this disk says, which has room for as much and no more.
    CopyToServer(Box<Disk>),
}

impl BlockJobSpec {
    /// The file that is made for it.
    pub(super) fn makes(&self) -> Option<&Path> {
        match self {
            Self::Copy { path, reuse: false, .. } => Some(path),
            _ => None,
        }
    }

    /// A copy to where a `<disk>` says, which need not have a target: it has that of the disk that is
    /// copied.
    ///
    /// # Errors
    /// When it makes no sense, or is neither a file nor on a server that disks can be on.
    pub fn copy_to(xml: &str, shallow: bool, reuse: bool) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::new(Code::InvalidArgument, format!("the destination of the copy: {why}"))
        };
        let whole = match xml.rfind("</disk>") {
            Some(end) if !xml.contains("<target") => {
                format!("{}<target dev='vda'/>{}", &xml[..end], &xml[end..])
            }
            _ => xml.to_owned(),
        };
        let device = Device::parse(&whole).map_err(|errors| wrong(&errors.to_string()))?;
        let Device::Disk(disk) = device.value else { return Err(wrong("it is no <disk>")) };
        let format = disk.driver.as_ref().and_then(|driver| driver.format);
        let format = format.map(|format| format.to_string());
        match disk.location() {
            Location::File(path) | Location::Block(path) => {
                Ok(Self::Copy { path: path.to_owned(), format, shallow, reuse })
            }
            Location::Network { protocol: NetworkProtocol::Nbd, .. } => {
                if shallow {
                    return Err(wrong("a server has all of a disk: no copy there is shallow"));
                }
                if format.as_deref().is_some_and(|format| format != "raw") {
                    return Err(wrong("what an NBD server has is of format raw"));
                }
                Ok(Self::CopyToServer(disk))
            }
            _ => Err(wrong("it is no file and on no NBD server, and nothing else is copied to")),
        }
    }
}
