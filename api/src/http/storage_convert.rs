//! Management's views of pools, volumes and jobs, as wire types.

use management::jobs::{Job, Phase};
use management::ops::{CloneMode, MadeVolume};
use management::storage::{PoolView, VolumeView};

use crate::types;

impl From<PoolView> for types::Pool {
    fn from(pool: PoolView) -> Self {
        Self {
            name: pool.name,
            uuid: pool.uuid,
            kind: pool.kind,
            path: pool.path.display().to_string(),
            active: pool.active,
            persistent: pool.persistent,
            autostart: pool.autostart,
            capacity_bytes: pool.capacity,
            allocation_bytes: pool.allocation,
            available_bytes: pool.available,
            volumes: pool.volumes,
        }
    }
}

impl From<VolumeView> for types::Volume {
    fn from(volume: VolumeView) -> Self {
        let (backing, backing_format) = volume.backing.unzip();
        Self {
            name: volume.name,
            pool: volume.pool,
            path: volume.path.display().to_string(),
            kind: "file".to_owned(),
            format: volume.format.name().to_owned(),
            capacity_bytes: volume.capacity,
            allocation_bytes: volume.allocation,
            physical_bytes: volume.physical,
            backing: backing.map(|path| path.display().to_string()),
            backing_format: backing_format.flatten(),
            damaged: volume.damaged,
        }
    }
}

impl From<MadeVolume> for types::MadeVolume {
    fn from(made: MadeVolume) -> Self {
        match made {
            MadeVolume::Made(volume) => Self::Volume(Box::new((*volume).into())),
            MadeVolume::Making(job) => Self::Job(Box::new((*job).into())),
        }
    }
}

impl From<types::CloneMode> for CloneMode {
    fn from(mode: types::CloneMode) -> Self {
        match mode {
            types::CloneMode::Copy => Self::Copy,
            types::CloneMode::Reflink => Self::Reflink,
            types::CloneMode::Overlay => Self::Overlay,
        }
    }
}

impl From<Job> for types::Job {
    fn from(job: Job) -> Self {
        Self {
            id: job.id,
            kind: job.kind,
            object: job.object,
            phase: job.phase.into(),
            done_bytes: job.done,
            total_bytes: job.total,
            started: job.started.to_string(),
            ended: job.ended.map(|time| time.to_string()),
            error: job.error,
        }
    }
}

impl From<Phase> for types::JobPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Running => Self::Running,
            Phase::Done => Self::Done,
            Phase::Failed => Self::Failed,
            Phase::Cancelled => Self::Cancelled,
            Phase::Interrupted => Self::Interrupted,
        }
    }
}
