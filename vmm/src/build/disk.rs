//! Disks: the open image of a definition as a [`Disk`] for whichever device model serves it, and
//! what is counted of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::backend::lane::Meter;
use devices::backend::throttle::{Limiter, Throttled};
use devices::backend::{Cache, Disk, Guarded};
use devices::scsi::{Identity, LogicalUnit, UnitKind};
use devices::virtio::blk::BlockStats;
use vmm_protocol::config::{self, Drive, DriveKind, Medium};
use vmm_protocol::control::BlockStatistics;

use super::{BuildError, Images, Site};
use crate::faults::DiskFaults;
use crate::notices::tell_tray;

/// Open `medium` for `queues` users at once, each with up to `depth` requests in flight, within the
/// disk's limits. `id` is the alias of the disk.
pub(super) fn open(
    site: &mut Site<'_>,
    id: &str,
    medium: &Medium,
    queues: usize,
    depth: u16,
) -> Result<Arc<dyn Disk>, BuildError> {
    let limiter = limiter(site, id, queues)?;
    let faults = faults(site, id);
    let mut disk = open_image(site, id, medium, queues, depth)?;
    if !medium.read_only {
        disk = site.parts.backups.watch(id, disk);
        site.parts.written.insert(id.to_owned(), disk.clone());
    }
    Ok(Arc::new(Guarded::new(Arc::new(Throttled::new(disk, limiter)), faults)))
}

/// Decides about what the host fails to do for disk `id`, as its configuration says.
pub(super) fn faults(site: &mut Site<'_>, id: &str) -> Arc<DiskFaults> {
    let faults = site.parts.faults.make(id, &site.parts.notices);
    for errors in site.config.disk_errors.iter().filter(|errors| errors.id == id) {
        site.parts.faults.obey(errors);
    }
    faults
}

/// Lets disk `id` do what its configuration says, until it hears otherwise.
fn limiter(site: &mut Site<'_>, id: &str, queues: usize) -> Result<Arc<Limiter>, BuildError> {
    let limiter = site.parts.limiters.make(id, queues).map_err(BuildError::device(id))?;
    for limits in site.config.disk_limits.iter().filter(|limits| limits.id == id) {
        site.parts.limiters.limit(limits);
    }
    Ok(limiter)
}

fn open_image(
    site: &mut Site<'_>,
    id: &str,
    medium: &Medium,
    queues: usize,
    depth: u16,
) -> Result<Arc<dyn Disk>, BuildError> {
    if let config::Image::Nbd(nbd) = &medium.image {
        return super::nbd::open(site, id, nbd, medium, queues);
    }
    let images = Images::open(site, id, medium, queues, depth)?;
    let disk = Arc::new(images.disk().clone());
    site.parts.images.insert(id.to_owned(), images);
    Ok(disk)
}

pub(crate) fn cache(cache: config::Cache) -> Cache {
    match cache {
        config::Cache::None => Cache::None,
        config::Cache::Writethrough => Cache::Writethrough,
        config::Cache::Writeback => Cache::Writeback,
        config::Cache::Directsync => Cache::DirectSync,
        config::Cache::Unsafe => Cache::Unsafe,
    }
}

/// The logical unit of a drive, with what is counted of it. Its medium can have `queues` users.
pub(super) fn unit(
    site: &mut Site<'_>,
    drive: &Drive,
    queues: usize,
    depth: u16,
) -> Result<Arc<LogicalUnit>, BuildError> {
    let disk = match &drive.medium {
        Some(medium) => Some(open(site, &drive.id, medium, queues, depth)?),
        None if drive.kind == DriveKind::Cdrom => {
            limiter(site, &drive.id, queues)?;
            faults(site, &drive.id);
            None
        }
        None => return Err(BuildError::config("disk", &drive.id, "it has no image")),
    };
    let (kind, product) = match drive.kind {
        DriveKind::Disk => (UnitKind::Disk, "HARDDISK"),
        DriveKind::Cdrom => (UnitKind::Cdrom, "CD-ROM"),
    };
    let given = drive.identity.clone();
    let or =
        |given: String, default: &str| if given.is_empty() { default.to_owned() } else { given };
    let identity = Identity {
        vendor: or(given.vendor, "MANOR"),
        product: or(given.product, product),
        serial: given.serial,
        wwn: given.wwn,
        rotation_rate: given.rotation_rate,
        removable: given.removable,
    };
    let meter = meter(site, &drive.id);
    let unit = Arc::new(LogicalUnit::new(kind, identity, disk, meter));
    if drive.kind == DriveKind::Cdrom {
        unit.on_tray(tell_tray(&drive.id, &site.parts.notices));
        site.parts.drives.insert(drive.id.clone(), unit.clone());
    }
    Ok(unit)
}

/// Let disk `id` be made larger while the guest runs; `tell` is how the guest learns its new size,
/// in bytes.
pub(super) fn may_grow(
    site: &mut Site<'_>,
    id: &str,
    disk: &Arc<dyn Disk>,
    tell: impl Fn(u64) + Send + Sync + 'static,
) {
    let disk = disk.clone();
    let grow = move |bytes: u64| {
        let size = disk.info().size;
        if bytes < size {
            let text = format!("the disk has {size} bytes, and cannot become smaller");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        disk.grow(bytes)?;
        tell(disk.info().size);
        Ok(())
    };
    site.parts.growing.insert(id.to_owned(), Box::new(grow));
}

/// Counts what disk `id` does, for the machine's statistics.
pub(super) fn meter(site: &mut Site<'_>, id: &str) -> Arc<Meter> {
    let meter = Arc::<Meter>::default();
    let (counted, faults) = (meter.clone(), faults(site, id));
    site.parts.blocks.push((id.to_owned(), Box::new(move || figures(&counted.stats, &faults))));
    meter
}

pub(super) fn figures(stats: &BlockStats, faults: &DiskFaults) -> BlockStatistics {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    BlockStatistics {
        read_requests: read(&stats.read_requests),
        read_bytes: read(&stats.read_bytes),
        write_requests: read(&stats.write_requests),
        write_bytes: read(&stats.write_bytes),
        flush_requests: read(&stats.flush_requests),
        read_time: read(&stats.read_time),
        write_time: read(&stats.write_time),
        flush_time: read(&stats.flush_time),
        threshold: None,
        errors: faults.errors(),
        fault: faults.fault(),
        connected: None,
    }
}
