//! What a disk is being copied to, as `dumpxml` of a running domain shows it: `<mirror>`.

use vmm_protocol::block_job::BlockJobKind;
use xml::DomainDef;
use xml::device::disk::{DiskFormat, DiskMirror, DiskType, MirrorJob, MirrorState, StoreFormat};

use super::block_jobs::{BlockJobIntent, destination};
use super::handle::View;

impl View {
    /// Have `def`, which is the live one, show the copies of disks that wait for their end.
    pub(crate) fn show_mirrors(&self, def: &mut DomainDef) {
        let Some(live) = &self.live else { return };
        for job in live.record.block_jobs.values() {
            let mut disks = def.devices.disks.iter_mut();
            if let Some(disk) = disks.find(|disk| disk.target.dev == job.target) {
                disk.mirror = mirror(job);
            }
        }
    }
}

/// None: the job has no other side.
fn mirror(job: &BlockJobIntent) -> Option<DiskMirror> {
    let kind = match job.kind {
        BlockJobKind::Copy => MirrorJob::Copy,
        BlockJobKind::ActiveCommit => MirrorJob::ActiveCommit,
        BlockJobKind::Pull | BlockJobKind::Commit => return None,
    };
    let to = destination(job)?;
    let format = to.driver.as_ref().and_then(|driver| driver.format).unwrap_or(DiskFormat::Raw);
    let is_file = to.kind() == DiskType::File && kind == MirrorJob::Copy;
    let state = match (&job.pivoting, job.ready) {
        (Some(_), _) => Some(MirrorState::Pivot),
        (None, true) => Some(MirrorState::Yes),
        (None, false) => None,
    };
    Some(DiskMirror {
        kind: to.kind(),
        // As libvirt has told copies to files from the first.
        file: to.source.as_ref().and_then(|source| source.file.clone()).filter(|_| is_file),
        file_format: is_file.then_some(format),
        job: Some(kind),
        ready: state,
        format: Some(StoreFormat { kind: format }),
        source: to.source,
        backing_store: to.backing_store,
    })
}
