//! The disks that a guest has, and the jobs on them. Nothing is copied: a job is done, or ready, at
//! once.

use vmm_protocol::block_job::{BlockJob, BlockJobKind, BlockJobPhase, BlockJobStatus};
use vmm_protocol::config::{MachineConfig, PciKind};
use vmm_protocol::control::{ControlError, ControlErrorCode as Code, EventKind};

use super::control::refusal;
use super::machine::Machine;

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

/// It is so now, and that is told.
fn set(machine: &Machine, status: BlockJobStatus) {
    {
        let mut inner = machine.inner();
        inner.block_jobs.retain(|job| job.id != status.id);
        inner.block_jobs.push(status.clone());
    }
    machine.event(EventKind::BlockJob(status));
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
