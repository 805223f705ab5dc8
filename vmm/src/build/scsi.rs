//! Virtio SCSI hosts and the drives on them.

use devices::virtio::scsi::{Scsi, ScsiHandle, ScsiSpec, UnitAt};
use vmm_protocol::config::{self, Drive, DriveKind};

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
    let units = host.drives.iter().map(|drive| unit(site, drive));
    let units: Vec<UnitAt> = units.collect::<Result<_, _>>()?;
    let spec = ScsiSpec {
        units: units.clone(),
        thread: thread(site, host.io_thread)?,
        queues: host.queues,
        queue_size: queue_size(host.queue_size)?,
        depth: DEPTH,
    };
    let scsi = Scsi::new(spec).map_err(BuildError::device(id))?;
    for (unit, drive) in units.iter().zip(&host.drives) {
        may_grow(site, &scsi.handle(), unit, drive);
    }
    site.parts.scsi_hosts.insert(id.to_owned(), scsi.handle());
    Ok(scsi)
}

fn unit(site: &mut Site<'_>, drive: &Drive) -> Result<UnitAt, BuildError> {
    if drive.place.bus != 0 {
        return Err(BuildError::config("SCSI bus", drive.place.bus, "there is bus 0 only"));
    }
    let (target, lun) = (drive.place.target, drive.place.unit);
    Ok(UnitAt { target, lun, unit: disk::unit(site, drive, 1, DEPTH)? })
}

fn may_grow(site: &mut Site<'_>, host: &ScsiHandle, at: &UnitAt, drive: &Drive) {
    if let (DriveKind::Disk, Some(disk)) = (drive.kind, at.unit.medium().1) {
        let (host, target, lun) = (host.clone(), at.target, at.lun);
        disk::may_grow(site, &drive.id, &disk, move |_| host.resized(target, lun));
    }
}

/// Put a drive on a host that works.
pub(super) fn plug(
    site: &mut Site<'_>,
    host: &ScsiHandle,
    drive: &Drive,
) -> Result<(), BuildError> {
    let at = unit(site, drive)?;
    host.plug(at.clone()).map_err(BuildError::device(&drive.id))?;
    may_grow(site, host, &at, drive);
    Ok(())
}
