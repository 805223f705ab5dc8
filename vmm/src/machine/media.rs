//! Media that come and go, and disks that grow, while the guest runs.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use devices::backend::throttle::Throttled;
use devices::backend::{Disk, DiskIo, DiskSpec, Guarded, RawDisk};
use devices::scsi::{LogicalUnit, MediumLocked};
use vmm_protocol::config::{Cache, DiskErrors, DiskLimits};

use super::Machine;
use crate::build::disk;

/// What a file system on a CD-ROM drive is read by.
const SECTOR: u32 = 512;

#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    #[error("there is no drive {id:?}")]
    NoDrive { id: String },
    #[error("there is no disk {id:?} that could be made larger")]
    NoDisk { id: String },
    #[error("there is no disk {id:?} that could be limited")]
    NoLimit { id: String },
    #[error("disk {id:?} is made of no image file {image}, counted from 0, which the guest uses")]
    NoImage { id: String, image: u16 },
    #[error("there is no network disk {id:?}")]
    NoNetworkDisk { id: String },
    #[error(transparent)]
    Locked(#[from] MediumLocked),
    #[error("the image cannot be used")]
    Image(#[source] io::Error),
    #[error("disk {id:?} cannot be made larger")]
    Grow { id: String, source: io::Error },
}

impl Machine {
    fn drive(&self, id: &str) -> Result<&Arc<LogicalUnit>, MediumError> {
        let found = self.parts.drives.get(id);
        found.ok_or_else(|| MediumError::NoDrive { id: id.to_owned() })
    }

    /// Open drive `id` and take its medium out.
    ///
    /// # Errors
    /// When there is no such drive, or the guest has locked it and `force` is not said. The guest
    /// hears then that its medium is wanted.
    pub fn eject(&mut self, id: &str, force: bool) -> Result<(), MediumError> {
        self.drive(id)?.eject(force)?;
        // Its files are closed, and free for others.
        self.parts.images.remove(id);
        Ok(())
    }

    /// Close drive `id` with `file` in it, instead of what is there.
    ///
    /// # Errors
    /// As [`eject`](Self::eject), and when the image cannot be used; then nothing has changed.
    pub fn insert(
        &mut self,
        id: &str,
        force: bool,
        file: File,
        cache: Cache,
    ) -> Result<(), MediumError> {
        let drive = self.drive(id)?.clone();
        let spec = DiskSpec {
            file: Arc::new(file),
            read_only: true,
            cache: disk::cache(cache),
            discard: false,
            block_size: SECTOR,
            // The rings in reserve are for disks.
            io: DiskIo::Threads,
            queues: 0,
            depth: 0,
        };
        let mut medium: Arc<dyn Disk> = Arc::new(RawDisk::new(spec).map_err(MediumError::Image)?);
        if let Some(limiter) = self.parts.limiters.of(id) {
            medium = Arc::new(Throttled::new(medium, limiter));
        }
        if let Some(faults) = self.parts.faults.of(id) {
            medium = Arc::new(Guarded::new(medium, faults));
        }
        self.eject(id, force)?;
        drive.load(medium);
        Ok(())
    }

    /// Limit what a disk may do, in place of what was.
    ///
    /// # Errors
    /// When there is no such disk.
    pub fn limit_disk(&self, limits: &DiskLimits) -> Result<(), MediumError> {
        let found = self.parts.limiters.limit(limits);
        found.then_some(()).ok_or_else(|| MediumError::NoLimit { id: limits.id.clone() })
    }

    /// What a disk does from now on when the host fails it.
    ///
    /// # Errors
    /// When there is no such disk.
    pub fn set_error_policy(&self, errors: &DiskErrors) -> Result<(), MediumError> {
        let found = self.parts.faults.obey(errors);
        found.then_some(()).ok_or_else(|| MediumError::NoDisk { id: errors.id.clone() })
    }

    /// Give network disk `id` a new connection to its server.
    ///
    /// # Errors
    /// When there is no such disk.
    pub fn connect_disk(&self, id: &str, socket: OwnedFd) -> Result<(), MediumError> {
        let connector = self.parts.connectors.get(id);
        let none = || MediumError::NoNetworkDisk { id: id.to_owned() };
        connector.ok_or_else(none)?.connect(socket);
        Ok(())
    }

    /// Tell once when the image of disk `id` at this depth is written to beyond `place`.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn set_threshold(
        &self,
        id: &str,
        image: u16,
        place: Option<u64>,
        name: String,
    ) -> Result<(), MediumError> {
        let images = self.parts.images.get(id);
        let layer = images.and_then(|images| images.layers().get(usize::from(image)));
        let none = || MediumError::NoImage { id: id.to_owned(), image };
        layer.ok_or_else(none)?.threshold().set(place, name);
        Ok(())
    }

    /// Make disk `id` larger.
    ///
    /// # Errors
    /// When there is no such disk, or the host or the image's format refuses.
    pub fn resize_disk(&self, id: &str, bytes: u64) -> Result<(), MediumError> {
        let grow = self.parts.growing.get(id);
        let grow = grow.ok_or_else(|| MediumError::NoDisk { id: id.to_owned() })?;
        grow(bytes).map_err(|source| MediumError::Grow { id: id.to_owned(), source })
    }
}
