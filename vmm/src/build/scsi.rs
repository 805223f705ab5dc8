//! Virtio SCSI hosts and the drives on them.

use devices::virtio::scsi::{Scsi, ScsiSpec, UnitAt};
use vmm_protocol::config::{self, DriveKind};

use super::virtio::{MAX_QUEUES, queue_size, thread};
use super::{BuildError, Site, disk};

/// Requests in flight on each disk: what a host's disk keeps busy with. More wait in the device.
const DEPTH: u16 = 128;

pub(super) fn build(
    site: &mut Site<'_>,
    id: &str,
    host: &config::Scsi,
) -> Result<Scsi, BuildError> {
    if !(1..=MAX_QUEUES).contains(&usize::from(host.queues)) {
        return Err(BuildError::config("number of queues", host.queues, "must be 1 to 64"));
    }
    let mut units = Vec::with_capacity(host.drives.len());
    for drive in &host.drives {
        if drive.place.bus != 0 {
            return Err(BuildError::config("SCSI bus", drive.place.bus, "there is bus 0 only"));
        }
        let (target, lun) = (drive.place.target, drive.place.unit);
        units.push(UnitAt { target, lun, unit: disk::unit(site, drive, 1, DEPTH)? });
    }
    let spec = ScsiSpec {
        units,
        thread: thread(site, host.io_thread)?,
        queues: host.queues,
        queue_size: queue_size(host.queue_size)?,
        depth: DEPTH,
    };
    let places: Vec<_> = spec.units.iter().map(|at| (at.target, at.lun, at.unit.clone())).collect();
    let scsi = Scsi::new(spec).map_err(BuildError::device(id))?;
    for ((target, lun, unit), drive) in places.into_iter().zip(&host.drives) {
        if let (DriveKind::Disk, Some(disk)) = (drive.kind, unit.medium().1) {
            let handle = scsi.handle();
            disk::may_grow(site, &drive.id, &disk, move |_| handle.resized(target, lun));
        }
    }
    Ok(scsi)
}
