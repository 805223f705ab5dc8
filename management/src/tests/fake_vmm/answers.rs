//! What a VMM without a machine does when it is told to.

use vmm_protocol::Version;
use vmm_protocol::block_job::{BlockJobKind, BlockJobPhase, BlockJobStatus};
use vmm_protocol::control::{
    BalloonStatistics, ControlError, ControlErrorCode as Code, EventKind, Hello, Reply, Request,
    RunState, StateReason, Statistics, Status, VcpuStatistics,
};
use vmm_protocol::exit::ExitReason;

use super::{Fake, refusal};

impl Fake {
    /// It is so now, and that is told.
    fn block_job(&self, status: BlockJobStatus) {
        {
            let mut inner = self.inner();
            inner.block_jobs.retain(|job| job.id != status.id);
            inner.block_jobs.push(status.clone());
        }
        self.event(EventKind::BlockJob(status));
    }

    pub(super) fn answer(&self, request: Request) -> Result<Reply, ControlError> {
        match request {
            Request::Hello { .. } => {
                let status = self.status();
                let inner = self.inner();
                return Ok(Reply::Hello(Hello {
                    version: Version::CURRENT,
                    identity: self.config.identity.clone(),
                    pid: std::process::id(),
                    status,
                    live_record: inner.live_record.clone(),
                    last_event: inner.events.len() as u64,
                    sandbox: vec![("seccomp".into(), "fake".into())],
                }));
            }
            Request::Status => return Ok(Reply::Status(self.status())),
            Request::Statistics => {
                let mut vcpus = vec![
                    VcpuStatistics { time_ns: 7, exits: 1, absent: false };
                    usize::from(self.config.cpus.count)
                ];
                let present = usize::from(self.inner().vcpus);
                vcpus.iter_mut().skip(present).for_each(|vcpu| vcpu.absent = true);
                return Ok(Reply::Statistics(Statistics {
                    vcpus,
                    resident: 4096,
                    balloon: self
                        .inner()
                        .memory
                        .map(|memory| BalloonStatistics { memory, ..BalloonStatistics::default() }),
                    ..Statistics::default()
                }));
            }
            Request::Pause => {
                self.inner().state = (RunState::Paused, StateReason::User);
                self.event(EventKind::Paused);
            }
            Request::Resume => {
                self.inner().state = (RunState::Running, StateReason::Unpaused);
                self.inner().saved = false;
                self.event(EventKind::Resumed);
            }
            Request::Reset => self.reset(),
            Request::PowerButton => self.event(EventKind::PowerButton),
            Request::Destroy if self.has("undying") => {
                return Err(refusal(Code::Failed, "no"));
            }
            Request::Destroy if self.inner().saved => self.end(ExitReason::Saved),
            Request::Destroy => self.end(ExitReason::Destroyed),
            Request::StartBlockJob(job) => {
                let kind = job.work.kind();
                let pivots = matches!(kind, BlockJobKind::ActiveCommit | BlockJobKind::Copy);
                let phase = if pivots { BlockJobPhase::Ready } else { BlockJobPhase::Completed };
                let (id, bandwidth) = (job.id, job.bandwidth);
                self.block_job(BlockJobStatus { id, kind, phase, done: 7, total: 7, bandwidth });
            }
            Request::BlockJobs => return Ok(Reply::BlockJobs(self.inner().block_jobs.clone())),
            Request::EndBlockJob { pivot: true, .. } if self.has("no-pivot") => {
                return Err(refusal(Code::Failed, "the copy fell behind"));
            }
            Request::EndBlockJob { id, pivot } => {
                let job = self.inner().block_jobs.iter().find(|job| job.id == id).cloned();
                let job = job.ok_or_else(|| refusal(Code::NotFound, "there is no such job"))?;
                let phase = if pivot { BlockJobPhase::Completed } else { BlockJobPhase::Cancelled };
                self.block_job(BlockJobStatus { phase, ..job });
            }
            Request::DismissBlockJob { id } => self.inner().block_jobs.retain(|job| job.id != id),
            Request::CancelSave => self.saver.cancel(),
            Request::SaveProgress => return Ok(Reply::Progress { done: 1, total: 2 }),
            Request::SetLiveRecord { record } => self.inner().live_record = record,
            Request::SetLifecycle { lifecycle } => self.inner().lifecycle = lifecycle,
            Request::SetLink { id, .. } if !self.config.pci.iter().any(|pci| pci.id == id) => {
                return Err(refusal(Code::NotFound, "there is no such interface"));
            }
            Request::Eject { force: false, .. } | Request::Insert { force: false, .. }
                if self.has("locked") =>
            {
                return Err(refusal(Code::Busy, "the guest has locked the medium in its drive"));
            }
            Request::Eject { id, .. } => {
                self.event(EventKind::MediumChanged { id: id.clone(), source: None });
                self.event(EventKind::TrayMoved { id, open: true });
            }
            Request::Insert { id, source, .. } => {
                self.event(EventKind::MediumChanged { id: id.clone(), source: Some(source) });
                self.event(EventKind::TrayMoved { id, open: false });
            }
            Request::Attach { device, .. } => {
                if self.has("full") {
                    return Err(refusal(Code::Failed, "there is no room for it"));
                }
                if self.inner().plugged.contains(&device.id) {
                    return Err(refusal(Code::Failed, "there is one already"));
                }
                self.inner().plugged.push(device.id.clone());
                self.event(EventKind::DeviceAdded { id: device.id });
            }
            Request::AttachDrive { host, drive, .. } => {
                if !self.config.pci.iter().any(|pci| pci.id == host) {
                    return Err(refusal(Code::NotFound, "there is no such host"));
                }
                self.event(EventKind::DeviceAdded { id: drive.id });
            }
            Request::Detach { .. } if self.has("clinging") => {}
            Request::Detach { id } => {
                self.inner().plugged.retain(|plugged| *plugged != id);
                self.event(EventKind::DeviceRemoved { id });
            }
            Request::SetVcpus { count } if self.inner().vcpus >= count && self.has("clinging") => {}
            Request::SetVcpus { count } => {
                self.inner().vcpus = count;
                self.event(EventKind::VcpusChanged { count });
            }
            Request::SetMemory { bytes } => self.inner().memory = Some(bytes),
            Request::ListBitmaps => return Ok(Reply::Bitmaps(Vec::new())),
            Request::ChangeBitmaps { .. } => self.print("marked\n"),
            Request::SetLink { id, up } => self.event(EventKind::LinkChanged { id, up }),
            _ => {}
        }
        Ok(Reply::Done)
    }

    fn status(&self) -> Status {
        let (state, reason) = self.inner().state;
        Status {
            state,
            reason,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap(),
            channels: Some(self.inner().channels.clone()),
        }
    }
}
