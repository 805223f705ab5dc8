//! How large a disk is, to its guest and on the host, and how far it has come.

use std::fs::File;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use broker::{Broker, Sharing};
use image::Format;
use rustix::fs::{SeekFrom, seek};
use xml::device::disk::{Disk, Location};

use crate::auth::{Access, Subject};
use crate::domain::actor::blocking;
use crate::domain::handle::{Act, View};
use crate::domain::{DiskSizes, DomainRef};
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};
use crate::storage::inspect;
use crate::translate::formats;

/// The sizes of a disk (virDomainGetBlockInfo). Its image's header is read by a confined process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeDisk {
    pub domain: DomainRef,
    /// `vda`, or the path of its image.
    pub disk: String,
}

impl Operation for DescribeDisk {
    type Output = DiskSizes;
    const NAME: &'static str = "domain.describe-disk";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<DiskSizes, Error> {
        let view = cx.find(&self.domain)?.view();
        let disk = named(&view, &self.disk)?;
        let path = place(cx, disk)?;
        let declared = disk.driver.as_ref().and_then(|driver| driver.format);
        let format = declared.map_or(Some(Format::Raw), formats::of_xml).unwrap_or(Format::Raw);
        let about = format!("disk {}: image {}", disk.target.dev, path.display());
        let node = cx.node.clone();
        blocking(move || sizes(&*node.broker, path, format, &about)).await
    }
}

/// The disk of a domain by its target, or by the path of its image.
pub(super) fn named<'a>(view: &'a View, name: &str) -> Result<&'a Disk, Error> {
    let is_meant = |disk: &&Disk| {
        let path = match disk.location() {
            Location::File(path) | Location::Block(path) => path.to_str(),
            _ => None,
        };
        disk.target.dev == name || path == Some(name)
    };
    let found = view.current().and_then(|def| def.devices.disks.iter().find(is_meant));
    found.ok_or_else(|| {
        let text = format!("domain {:?} has no disk {name:?}", view.name);
        Error::new(Code::DeviceNotFound, text)
    })
}

/// Where its image lies.
pub(super) fn place(cx: &Context, disk: &Disk) -> Result<PathBuf, Error> {
    let refuse = |why: &str| {
        let text = format!("disk {} {why}", disk.target.dev);
        Error::new(Code::InvalidState, text)
    };
    match disk.location() {
        Location::File(path) | Location::Block(path) => Ok(path.to_owned()),
        Location::Volume { pool, volume } => {
            let pools = cx.node.pools.views();
            let pool = pools.iter().find(|known| known.name == pool && known.active);
            let pool = pool.ok_or_else(|| refuse("is a volume of a pool that is not active"))?;
            Ok(pool.path.join(volume))
        }
        Location::Empty => Err(refuse("is empty")),
        _ => Err(refuse("lies on a server, which alone knows its size")),
    }
}

fn sizes(
    broker: &dyn Broker,
    path: PathBuf,
    format: Format,
    about: &str,
) -> Result<DiskSizes, Error> {
    // Also while a guest writes to it: nothing is locked.
    let open = broker.open_image(&path, true, false, Sharing::Shared)?;
    let failed = |source| {
        let text = format!("cannot look at image {}", path.display());
        Error::new(Code::HostFailure, text).with_source(source)
    };
    let file = File::from(open.try_clone().map_err(failed)?);
    let found = file.metadata().map_err(failed)?;
    let end = seek(&file, SeekFrom::End(0)).map_err(|errno| failed(errno.into()))?;
    let is_device = found.file_type().is_block_device();
    let capacity = match format {
        Format::Raw => end,
        other => inspect(broker, other, &open).map_err(|error| error.within(about))?.size,
    };
    // st_blocks counts 512 bytes, whatever the file system does.
    let allocation = if is_device { end } else { found.blocks().saturating_mul(512) };
    Ok(DiskSizes { capacity, allocation, physical: end })
}

/// Hear, once, when an image of a running domain's disk is written to beyond a place of its file
/// (virDomainSetBlockThreshold): the event `block-threshold` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetBlockThreshold {
    pub domain: DomainRef,
    /// `vda`, or `vda[2]` of an image below.
    pub disk: String,
    /// None: no more.
    pub bytes: Option<u64>,
}

impl Operation for SetBlockThreshold {
    type Output = ();
    const NAME: &'static str = "domain.set-block-threshold";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let act = Act::SetThreshold { disk: self.disk, place: self.bytes };
        cx.act(&self.domain, act).await
    }
}
