//! The disks that a guest has, the snapshots inside their images, and the jobs on them. The images are
//! real ones, if there are any; but nothing is copied: a job is done, or ready, at once.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use image::qcow2::{NewSnapshot, OpenOptions, Qcow2, SnapshotRef};
use image::{FileStorage, Image as _, ImageError};
use vmm_protocol::block_job::{BlockJob, BlockJobKind, BlockJobPhase, BlockJobStatus};
use vmm_protocol::config::{Fd, Image, ImageFormat, MachineConfig, PciKind};
use vmm_protocol::control::{
    ControlError, ControlErrorCode as Code, DiskSwap, EventKind, Reply, SwapLayer,
};
use vmm_protocol::peek::{MOST, to_hex};

use super::control::refusal;
use super::machine::Machine;

/// How far a disk has been written to.
pub(super) const WRITTEN: u64 = 2_048_000;
/// Bytes that a job is about.
const LENGTH: u64 = 1 << 20;

/// Their ids.
pub(super) fn of(config: &MachineConfig) -> Vec<String> {
    let mut ids = Vec::new();
    for device in &config.pci {
        if matches!(device.kind, PciKind::Blk(_)) {
            ids.push(device.id.clone());
        }
        ids.extend(device.kind.drives().iter().map(|drive| drive.id.clone()));
    }
    ids
}

/// The image that the guest uses, if it is one in which snapshots can be.
fn image_of(config: &MachineConfig, id: &str) -> Option<Fd> {
    let image = config.pci.iter().find_map(|device| match &device.kind {
        PciKind::Blk(blk) if device.id == id => Some(&blk.image),
        kind => {
            let drive = kind.drives().iter().find(|drive| drive.id == id)?;
            drive.medium.as_ref().map(|medium| &medium.image)
        }
    });
    match image {
        Some(Image::Chain(layers)) => {
            layers.first().filter(|top| top.format == ImageFormat::Qcow2).map(|top| top.file)
        }
        _ => None,
    }
}

/// Opened anew: what it is locked with stays where it is.
fn open(machine: &Machine, id: &str) -> Result<Qcow2, ControlError> {
    let failed = |why: String| refusal(Code::Failed, format!("disk {id:?}: {why}"));
    let swapped = machine.inner().images.get(id).map(|file| Fd(file.as_raw_fd()));
    let place = swapped.or_else(|| image_of(&machine.config, id));
    let place = place.ok_or_else(|| failed("it has no qcow2 image".to_owned()))?;
    let path = format!("/proc/self/fd/{}", place.0);
    let file = File::options().read(true).write(true).open(path);
    let file = file.and_then(FileStorage::new).map_err(|error| failed(error.to_string()))?;
    Qcow2::open(Arc::new(file), OpenOptions::default()).map_err(|error| failed(error.to_string()))
}

/// Of the image that the guest uses, and nothing below. A disk whose file is not there is all zeros, and as large as
/// one likes.
pub(super) fn peek(
    machine: &Machine,
    id: &str,
    offset: u64,
    len: u32,
) -> Result<Reply, ControlError> {
    let failed = |why: String| refusal(Code::Failed, format!("disk {id:?}: {why}"));
    let mut found = vec![0; len.min(MOST) as usize];
    let Ok(image) = open(machine, id) else {
        return Ok(Reply::DiskBytes { size: u64::MAX, hex: Some(to_hex(&found)) });
    };
    let size = image.size();
    if offset.checked_add(len.into()).is_none_or(|end| end > size) {
        return Ok(Reply::DiskBytes { size, hex: None });
    }
    image.read(&mut found, offset).map_err(|error| failed(error.to_string()))?;
    Ok(Reply::DiskBytes { size, hex: Some(to_hex(&found)) })
}

pub(super) fn snapshot(
    machine: &Machine,
    ids: &[String],
    name: &str,
    date: u64,
) -> Result<(), ControlError> {
    // All of them before the first is changed.
    let disks: Vec<_> = ids.iter().map(|id| open(machine, id)).collect::<Result<_, _>>()?;
    let date = Duration::from_secs(date);
    let new = NewSnapshot { date, ..NewSnapshot::now(name) };
    for disk in disks {
        disk.create_snapshot(&new)
            .map_err(|error| refusal(Code::Failed, format!("a snapshot is not made: {error}")))?;
    }
    Ok(())
}

pub(super) fn delete_snapshots(
    machine: &Machine,
    ids: &[String],
    name: &str,
) -> Result<(), ControlError> {
    for id in ids {
        let disk = open(machine, id)?;
        let failed = |error: ImageError| {
            refusal(Code::Failed, format!("a snapshot is not deleted: {error}"))
        };
        if disk.snapshots().map_err(failed)?.iter().any(|known| known.name == name) {
            disk.delete_snapshot(SnapshotRef::Name(name)).map_err(failed)?;
        }
    }
    Ok(())
}

/// Disks are made of other images from now on: `files`, by their places.
pub(super) fn swap(machine: &Machine, swaps: Vec<DiskSwap>, files: Vec<OwnedFd>) {
    let mut files: Vec<_> = files.into_iter().map(Some).collect();
    let mut inner = machine.inner();
    for swap in swaps {
        if let Some(SwapLayer::New(top)) = swap.layers.into_iter().next()
            && let Ok(place) = usize::try_from(top.file.0)
            && let Some(file) = files.get_mut(place).and_then(Option::take)
        {
            inner.images.insert(swap.id, file);
        }
    }
    inner.kept.extend(files.into_iter().flatten());
}

/// It is so now, and that is told.
fn set(machine: &Machine, status: BlockJobStatus) {
    {
        let mut inner = machine.inner();
        inner.block_jobs.retain(|job| job.id != status.id);
        inner.block_jobs.push(status.clone());
    }
    machine.event(EventKind::BlockJob(status));
}

/// Each disk has been written to up to the same place, and what lies before it is passed at once.
pub(super) fn set_threshold(
    machine: &Machine,
    id: String,
    image: u16,
    place: Option<u64>,
    name: String,
) {
    machine.inner().thresholds.remove(&id);
    match place {
        Some(threshold) if image == 0 && threshold < WRITTEN => {
            let excess = WRITTEN - threshold;
            machine.event(EventKind::ThresholdPassed { id, name, threshold, excess });
        }
        Some(threshold) if image == 0 => _ = machine.inner().thresholds.insert(id, threshold),
        _ => {}
    }
}

pub(super) fn start(machine: &Machine, job: BlockJob) -> Result<(), ControlError> {
    let kind = job.work.kind();
    let (id, bandwidth) = (job.id, job.bandwidth);
    if machine.inner().block_jobs.iter().any(|job| job.id == id && !job.phase.has_ended()) {
        return Err(refusal(Code::Busy, format!("disk {id:?} has a block job already")));
    }
    let pivots = matches!(kind, BlockJobKind::ActiveCommit | BlockJobKind::Copy);
    let phase = if pivots { BlockJobPhase::Ready } else { BlockJobPhase::Completed };
    set(machine, BlockJobStatus { id, kind, phase, done: LENGTH, total: LENGTH, bandwidth });
    Ok(())
}

fn find(machine: &Machine, id: &str) -> Result<BlockJobStatus, ControlError> {
    let job = machine.inner().block_jobs.iter().find(|job| job.id == id).cloned();
    job.ok_or_else(|| refusal(Code::NotFound, format!("disk {id:?} has no block job")))
}

pub(super) fn end(machine: &Machine, id: &str, pivot: bool) -> Result<(), ControlError> {
    let job = find(machine, id)?;
    let phase = if pivot { BlockJobPhase::Completed } else { BlockJobPhase::Cancelled };
    set(machine, BlockJobStatus { phase, ..job });
    Ok(())
}

pub(super) fn limit(machine: &Machine, id: &str, bandwidth: u64) -> Result<(), ControlError> {
    find(machine, id)?;
    for job in machine.inner().block_jobs.iter_mut().filter(|job| job.id == id) {
        job.bandwidth = bandwidth;
    }
    Ok(())
}

pub(super) fn dismiss(machine: &Machine, id: &str) {
    machine.inner().block_jobs.retain(|job| job.id != id);
}
