//! What a domain answers to its clients.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use devices::display::{Screen, keymap};
use devices::input::{InputEvent, InputSink as _};
use devices::virtio::balloon::BalloonHandle;
use vmm_protocol::Version;
use vmm_protocol::control::{
    Codeset, ControlError, ControlErrorCode as Code, EventKind, Hello, Reply, Request, RunState,
    Statistics, Status,
};
use vmm_protocol::peek;

use super::super::files::Files;
use super::super::refusals::{
    backup_refused, block_job_refused, failed, medium_refused, peek_refused, plug_refused,
    snapshot_refused, swap_refused, vcpus_refused,
};
use super::super::save::Saving;
use super::super::server::refuse;
use super::Domain;

/// Largest live record: with JSON's escapes it still fits a message.
const MAX_LIVE_RECORD: usize = 3 << 19;

/// Bytes of what names an image: the event that has it is kept.
const MAX_SOURCE: usize = 16 << 10;

/// Keys of one request: more than any shortcut has.
const MAX_KEYS: usize = 32;

/// Hands a connection to whom it is for.
pub(in crate::process) type Attach = Box<dyn FnOnce(UnixStream)>;

impl Domain {
    pub(in crate::process) fn hello(&self, version: Version) -> Result<Hello, ControlError> {
        if !Version::CURRENT.understands(version) {
            let ours = Version::CURRENT;
            let text = format!("this VMM speaks version {ours}, the client speaks {version}");
            return Err(refuse(Code::Version, text));
        }
        Ok(Hello {
            version: Version::CURRENT,
            identity: self.identity.clone(),
            pid: self.pid,
            status: self.status(),
            live_record: self.live_record.clone(),
            last_event: self.events.last(),
            sandbox: self.sandbox.clone(),
        })
    }

    fn status(&self) -> Status {
        let uptime = self.started.elapsed().as_millis();
        let uptime_ms = u64::try_from(uptime).unwrap_or(u64::MAX);
        let channels = Some(self.machine.open_channels());
        Status { state: self.state, reason: self.reason, uptime_ms, channels }
    }

    pub(in crate::process) fn console(
        &self,
        id: &str,
        replay: bool,
        force: bool,
    ) -> Result<Attach, ControlError> {
        let console = self.machine.console(id);
        let console =
            console.ok_or_else(|| refuse(Code::NotFound, format!("there is no console {id:?}")))?;
        if !force && console.is_taken() {
            let text = format!("console {id:?} is in use by another client");
            return Err(refuse(Code::Busy, text));
        }
        Ok(Box::new(move |stream| {
            if let Err(error) = console.attach(stream, replay) {
                tracing::warn!(%error, "a client could not be given the console");
            }
        }))
    }

    pub(in crate::process) fn picture(&self, card: &str) -> Result<Attach, ControlError> {
        let screen = self.screen(card)?;
        Ok(Box::new(move |stream| screen.send_picture(stream.into())))
    }

    pub(in crate::process) fn viewer(&self, card: &str) -> Result<Attach, ControlError> {
        let screen = self.screen(card)?;
        Ok(Box::new(move |stream| screen.add_viewer(stream.into())))
    }

    fn screen(&self, card: &str) -> Result<Arc<Screen>, ControlError> {
        let screen = self.machine.parts().screens.get(card).map(|(screen, _)| screen.clone());
        screen.ok_or_else(|| refuse(Code::NotFound, format!("there is no graphics card {card:?}")))
    }

    fn keys(&self, codes: &[u16], codeset: Codeset, down: bool) -> Result<(), ControlError> {
        if codes.len() > MAX_KEYS {
            let text = format!("at most {MAX_KEYS} keys are pressed at once");
            return Err(refuse(Code::Malformed, text));
        }
        let key = |code: &u16| match codeset {
            Codeset::Linux => Some(*code),
            Codeset::Xt => keymap::from_scan_code(*code),
        };
        let events: Option<Vec<_>> =
            codes.iter().map(|code| Some(InputEvent::Key { code: key(code)?, down })).collect();
        let events = events.ok_or_else(|| {
            refuse(Code::Malformed, format!("not all of {codes:x?} are scan codes of keys"))
        })?;
        let input = Some(&self.machine.parts().inputs).filter(|it| it.accepts().keys);
        let reason = "the guest has no keyboard, or no driver for it at present";
        input.ok_or_else(|| refuse(Code::State, reason))?.send(&events);
        Ok(())
    }

    /// Carry out a request that concerns the machine.
    pub(in crate::process) fn request(
        &mut self,
        request: Request,
        mut files: Vec<OwnedFd>,
    ) -> Result<Reply, ControlError> {
        self.allow_while_saving(&request)?;
        match request {
            Request::Status => return Ok(Reply::Status(self.status())),
            Request::Statistics => {
                let dirty_rate = self.measured.as_ref().map(|measured| Box::new(measured.told));
                let statistics = Statistics { dirty_rate, ..self.machine.statistics() };
                return Ok(Reply::Statistics(statistics));
            }
            Request::MeasureDirtyRate { seconds } => self.measure_dirty_rate(seconds)?,
            Request::Pause => self.pause()?,
            Request::Resume => self.resume()?,
            Request::Reset => self.reset_button()?,
            Request::PowerButton => self.power_button()?,
            Request::Destroy => self.destroy(),
            Request::SetLiveRecord { record } => {
                if record.len() > MAX_LIVE_RECORD {
                    let text = format!("a live record is at most {MAX_LIVE_RECORD} bytes");
                    return Err(refuse(Code::Malformed, text));
                }
                self.live_record = record;
            }
            Request::SetLifecycle { lifecycle } => self.lifecycle = lifecycle,
            Request::SetLink { id, up } => {
                if !self.machine.set_link(&id, up) {
                    return Err(refuse(Code::NotFound, format!("there is no interface {id:?}")));
                }
                self.events.push(EventKind::LinkChanged { id, up });
            }
            Request::SetMemory { bytes } => self.balloon()?.set_memory(bytes),
            Request::SetStatisticsPeriod { seconds } => self.balloon()?.set_period(seconds),
            Request::Eject { id, force } => {
                self.machine.eject(&id, force).map_err(medium_refused)?;
                self.events.push(EventKind::MediumChanged { id, source: None });
            }
            Request::Insert { id, force, cache, source } => {
                if source.len() > MAX_SOURCE {
                    let text = format!("what names an image has at most {MAX_SOURCE} bytes");
                    return Err(refuse(Code::Malformed, text));
                }
                let text = "Insert comes with the file of an image";
                let file = files.pop().ok_or_else(|| refuse(Code::Malformed, text))?;
                self.machine.insert(&id, force, file.into(), cache).map_err(medium_refused)?;
                self.events.push(EventKind::MediumChanged { id, source: Some(source) });
            }
            Request::Attach { device, limits, errors } => {
                let id = device.id.clone();
                let files = Files::passed(files);
                self.machine
                    .attach(*device, files, limits.as_ref(), errors.as_ref())
                    .map_err(plug_refused)?;
                self.events.push(EventKind::DeviceAdded { id });
            }
            Request::AttachDrive { host, drive, limits, errors } => {
                let (id, files) = (drive.id.clone(), Files::passed(files));
                self.machine
                    .attach_drive(&host, *drive, files, limits.as_ref(), errors.as_ref())
                    .map_err(plug_refused)?;
                self.events.push(EventKind::DeviceAdded { id });
            }
            Request::Detach { id } => {
                if self.machine.detach(&id).map_err(plug_refused)? {
                    self.tell_removed(vec![id]);
                }
            }
            Request::SetVcpus { count } => {
                self.machine.set_vcpus(count).map_err(vcpus_refused)?;
                self.tell_vcpus();
            }
            Request::PeekMemory { address, len, linear } => {
                if len > peek::MOST {
                    return Err(refuse(Code::Malformed, "so much memory is not read at once"));
                }
                let found = self.machine.peek(address, len, linear).map_err(failed)?;
                return Ok(Reply::Memory { hex: found.as_deref().map(peek::to_hex) });
            }
            Request::PeekDisk { id, offset, len } => {
                if len > peek::MOST {
                    return Err(refuse(Code::Malformed, "so much of a disk is not read at once"));
                }
                let found = self.machine.peek_disk(&id, offset, len);
                let (size, found) = found.map_err(peek_refused)?;
                return Ok(Reply::DiskBytes { size, hex: found.as_deref().map(peek::to_hex) });
            }
            Request::InjectNmi if self.state == RunState::Running => {
                self.machine.inject_nmi().map_err(failed)?;
            }
            Request::InjectNmi => {
                return Err(refuse(Code::State, "the guest's vCPUs do not run"));
            }
            Request::SetThreshold { id, image, place, name } => {
                if name.len() > MAX_SOURCE {
                    let text = format!("what names an image has at most {MAX_SOURCE} bytes");
                    return Err(refuse(Code::Malformed, text));
                }
                let set = self.machine.set_threshold(&id, image, place, name);
                set.map_err(medium_refused)?;
            }
            Request::ResizeDisk { id, bytes } => {
                self.machine.resize_disk(&id, bytes).map_err(medium_refused)?;
            }
            Request::SwapDisks { swaps } => {
                self.machine.swap_disks(&swaps, Files::passed(files)).map_err(swap_refused)?;
            }
            Request::SnapshotDisks { ids, name, date } => {
                let date = Duration::from_secs(date);
                self.machine.snapshot_disks(&ids, &name, date).map_err(snapshot_refused)?;
            }
            Request::DeleteDiskSnapshots { ids, name } => {
                self.machine.delete_disk_snapshots(&ids, &name).map_err(snapshot_refused)?;
            }
            Request::StartBlockJob(job) => {
                let started = self.machine.start_block_job(*job, Files::passed(files));
                started.map_err(block_job_refused)?;
            }
            Request::BlockJobs => return Ok(Reply::BlockJobs(self.machine.block_jobs())),
            Request::EndBlockJob { id, pivot } => {
                let ended = self.machine.end_block_job(&id, pivot).map_err(block_job_refused)?;
                self.events.push(EventKind::BlockJob(ended));
            }
            Request::LimitBlockJob { id, bandwidth } => {
                self.machine.limit_block_job(&id, bandwidth).map_err(block_job_refused)?;
            }
            Request::DismissBlockJob { id } => {
                self.machine.dismiss_block_job(&id).map_err(block_job_refused)?;
            }
            Request::SaveProgress => {
                let (done, total) = self.saving.as_ref().map_or((0, 0), Saving::progress);
                return Ok(Reply::Progress { done, total });
            }
            Request::CancelSave => self.cancel_save(),
            Request::LimitDisk(limits) => {
                self.machine.limit_disk(&limits).map_err(medium_refused)?;
            }
            Request::SetErrorPolicy(errors) => {
                self.machine.set_error_policy(&errors).map_err(medium_refused)?;
            }
            Request::Connect { id } => {
                let text = "Connect comes with a connection";
                let socket = files.pop().ok_or_else(|| refuse(Code::Malformed, text))?;
                self.machine.connect_disk(&id, socket).map_err(medium_refused)?;
            }
            Request::BackupBegin(begin) => {
                let runs = self.state == RunState::Running;
                let begun = self.machine.begin_backup(*begin, Files::passed(files), runs);
                begun.map_err(failed)?.map_err(|error| backup_refused(&error))?;
            }
            Request::BackupEnd => self.machine.end_backup(),
            Request::BackupStatus => return Ok(Reply::Backup(self.machine.backup())),
            Request::ChangeBitmaps { changes } => {
                let runs = self.state == RunState::Running;
                let changed = self.machine.change_bitmaps(&changes, runs);
                changed.map_err(failed)?.map_err(|error| backup_refused(&error))?;
            }
            Request::ListBitmaps => return Ok(Reply::Bitmaps(self.machine.bitmaps())),
            Request::AddViewer { id } => {
                let text = "AddViewer comes with the socket of a viewer";
                let socket = files.pop().ok_or_else(|| refuse(Code::Malformed, text))?;
                self.screen(&id)?.add_viewer(socket);
            }
            Request::Keys { codes, codeset, down } => self.keys(&codes, codeset, down)?,
            Request::Hello { .. }
            | Request::Save
            | Request::SavePacked
            | Request::CopyMemory
            | Request::SaveRest
            | Request::Dump
            | Request::Events { .. }
            | Request::Console { .. }
            | Request::Screenshot { .. }
            | Request::Viewer { .. } => {
                return Err(refuse(Code::Failed, "a request of the connection, not the machine"));
            }
        }
        Ok(Reply::Done)
    }

    fn balloon(&self) -> Result<&BalloonHandle, ControlError> {
        let found = self.machine.balloon();
        found.ok_or_else(|| refuse(Code::NotFound, "the guest has no memory balloon"))
    }
}
