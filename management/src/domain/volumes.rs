//! Disks that are volumes: opened below their pool's directory, with everything beneath them.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use broker::{PoolAct, Sharing};
use xml::device::disk::{Disk, DiskType, Location};

use super::launch::Opener;
use crate::error::{Code, Error};

impl Opener<'_> {
    /// Where a disk's image lies.
    pub(super) fn place(&self, disk: &Disk) -> Result<PathBuf, Error> {
        let name = &disk.target.dev;
        match disk.location() {
            Location::File(path) | Location::Block(path) => Ok(path.to_owned()),
            Location::Volume { pool, volume } => {
                let known = self.launch.pools.iter().find(|known| known.name == pool);
                let known = known.ok_or_else(|| {
                    let text = format!(
                        "disk {name} is a volume of pool {pool:?}, and no pool of this name is \
                         active (pool-start {pool})"
                    );
                    Error::new(Code::ResourceMissing, text)
                })?;
                Ok(known.path.join(volume))
            }
            _ => {
                let text = format!("disk {name} has no file, block device or volume");
                Err(Error::new(Code::Unsupported, text))
            }
        }
    }

    /// An image of a disk's chain. That of a volume does not leave the pools that are active:
    /// whoever wrote a header must not choose which of the host's files a guest sees.
    pub(super) fn disk_image(
        &self,
        disk: &Disk,
        path: &Path,
        read_only: bool,
        direct: bool,
        sharing: Sharing,
    ) -> Result<OwnedFd, Error> {
        if disk.kind() != DiskType::Volume {
            return self.image(path, read_only, direct, sharing);
        }
        let outside = || {
            let (name, path) = (&disk.target.dev, path.display());
            let text = format!("disk {name}: image {path} is in no pool that is active");
            Error::new(Code::ResourceMissing, text)
        };
        let dir = path.parent().ok_or_else(outside)?;
        let volume = path.file_name().and_then(|name| name.to_str()).ok_or_else(outside)?;
        if !self.launch.pools.iter().any(|pool| pool.path == dir) {
            return Err(outside());
        }
        let (volume, write) = (volume.to_owned(), !read_only);
        let open = PoolAct::Open { volume, write, direct, sharing };
        self.or_user(self.broker.pool_file(dir, open))
    }
}
