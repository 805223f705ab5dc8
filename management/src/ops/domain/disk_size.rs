//! How large a disk is, to its guest and on the host.

use std::fs::File;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use broker::{Broker, Sharing};
use image::Format;
use rustix::fs::{SeekFrom, seek};
use xml::device::disk::{Disk, Location};

use crate::auth::{Access, Subject};
use crate::domain::actor::blocking;
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
        let def = view.current();
        let disk = def.and_then(|def| def.devices.disks.iter().find(|disk| self.is_meant(disk)));
        let disk = disk.ok_or_else(|| {
            let text = format!("domain {:?} has no disk {:?}", view.name, self.disk);
            Error::new(Code::NotFound, text)
        })?;
        let path = place(cx, disk)?;
        let declared = disk.driver.as_ref().and_then(|driver| driver.format);
        let format = declared.map_or(Some(Format::Raw), formats::of_xml).unwrap_or(Format::Raw);
        let node = cx.node.clone();
        blocking(move || sizes(&*node.broker, path, format)).await
    }
}

impl DescribeDisk {
    fn is_meant(&self, disk: &Disk) -> bool {
        let path = match disk.location() {
            Location::File(path) | Location::Block(path) => path.to_str(),
            _ => None,
        };
        disk.target.dev == self.disk || path == Some(&*self.disk)
    }
}

fn place(cx: &Context, disk: &Disk) -> Result<PathBuf, Error> {
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

fn sizes(broker: &dyn Broker, path: PathBuf, format: Format) -> Result<DiskSizes, Error> {
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
        other => inspect(broker, other, &open)?.size,
    };
    // st_blocks counts 512 bytes, whatever the file system does.
    let allocation = if is_device { end } else { found.blocks().saturating_mul(512) };
    Ok(DiskSizes { capacity, allocation, physical: end })
}
