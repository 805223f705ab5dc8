//! [`Domain`]: the machine with its policy: states, lifecycle actions, and answers to requests.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::display::{Screen, keymap};
use devices::input::{InputEvent, InputSink as _};
use devices::virtio::balloon::BalloonHandle;
use vmm_protocol::Version;
use vmm_protocol::config::{Action, Identity, Lifecycle, WatchdogAction};
use vmm_protocol::control::{
    Codeset, ControlError, ControlErrorCode as Code, EventKind, Hello, Reply, Request, RunState,
    StateReason, Statistics, Status,
};
use vmm_protocol::exit::{CrashReport, ExitReason};
use vmm_protocol::peek;

use super::dirty_rate::Measured;
use super::files::Files;
use super::pacing::Pacing;
use super::refusals::{
    backup_refused, block_job_refused, failed, medium_refused, peek_refused, plug_refused,
    snapshot_refused, swap_refused, vcpus_refused,
};
use super::ring::EventRing;
use super::save::Saving;
use super::server::refuse;
use crate::machine::{Machine, MachineError};
use crate::state::LiveCopy;
use crate::vcpu::Stop;

/// Largest live record: with JSON's escapes it still fits a message.
const MAX_LIVE_RECORD: usize = 3 << 19;

/// Bytes of what names an image: the event that has it is kept.
const MAX_SOURCE: usize = 16 << 10;

/// Keys of one request: more than any shortcut has.
const MAX_KEYS: usize = 32;

/// For a guest's agent to end the guest, before its power button is pressed. Less than what systemd
/// leaves a guest.
const AGENT_PATIENCE: Duration = Duration::from_secs(20);

/// Why the loop ends.
pub(super) type Ended = ExitReason;

pub(super) struct Domain {
    pub(super) machine: Machine,
    identity: Identity,
    lifecycle: Lifecycle,
    live_record: String,
    /// Of this process, as the host counts.
    pid: u32,
    sandbox: Vec<(String, String)>,
    started: Instant,
    /// It came from a saved state.
    pub(super) restored: bool,
    pub(super) state: RunState,
    pub(super) reason: StateReason,
    pub(super) events: EventRing,
    pub(super) resets: Pacing,
    /// How many vCPUs the last event told of.
    vcpus: u16,
    /// The state is being saved: nothing about the machine changes meanwhile.
    pub(super) saving: Option<Saving>,
    /// Memory was copied but for little, and its writes are logged on.
    pub(super) copied: Option<LiveCopy>,
    /// It is a dump: the guest may run.
    pub(super) dumping: bool,
    /// A save was given up, and whoever wanted it does not know yet.
    pub(super) cancelled: bool,
    /// The state was saved, and the guest has not run since.
    pub(super) saved: bool,
    /// How much memory the guest writes to.
    pub(super) measured: Option<Measured>,
    /// When the power button is pressed, unless the guest has ended by then.
    press_at: Option<Instant>,
    ended: Option<ExitReason>,
}

/// Hands a connection to whom it is for.
pub(super) type Attach = Box<dyn FnOnce(UnixStream)>;

impl Domain {
    pub(super) fn new(
        machine: Machine,
        identity: Identity,
        lifecycle: Lifecycle,
        live_record: String,
        pid: u32,
        sandbox: Vec<(String, String)>,
    ) -> Self {
        Self {
            vcpus: machine.vcpus(),
            machine,
            identity,
            lifecycle,
            live_record,
            pid,
            sandbox,
            started: Instant::now(),
            restored: false,
            state: RunState::Paused,
            reason: StateReason::StartingUp,
            events: EventRing::default(),
            resets: Pacing::default(),
            saving: None,
            copied: None,
            dumping: false,
            cancelled: false,
            saved: false,
            measured: None,
            press_at: None,
            ended: None,
        }
    }

    /// Let the guest run for the first time, unless it is to wait.
    pub(super) fn start(&mut self, paused: bool, restored: bool) -> Result<(), MachineError> {
        self.restored = restored;
        if !paused {
            self.machine.resume()?;
            let reason = if restored { StateReason::Restored } else { StateReason::Booted };
            self.enter(RunState::Running, reason);
        }
        self.events.push(EventKind::Started);
        Ok(())
    }

    pub(super) fn events(&self) -> &EventRing {
        &self.events
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        self.ended.clone()
    }

    /// When [`on_time`](Self::on_time) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = [self.resets.due(), self.press_at].into_iter().flatten().min();
        let due = due.filter(|_| self.state == RunState::Running);
        // It ends also while the guest waits.
        let measured = self.measured.as_ref().and_then(Measured::until);
        [due, measured].into_iter().flatten().min()
    }

    pub(super) fn destroy(&mut self) {
        self.end(if self.saved { ExitReason::Saved } else { ExitReason::Destroyed });
    }

    /// The last thing to do with the machine: what the guest wrote reaches disks and consoles.
    pub(super) fn shut_down(&mut self) -> Result<(), MachineError> {
        self.machine.shut_down()
    }

    /// A guest that can is asked to power off before whoever announced it ends this process: its agent
    /// first, and by the power button when that did not help.
    pub(super) fn host_powers_off(&mut self) {
        if self.state == RunState::Running && self.machine.ask_agent_to_power_off() {
            tracing::info!("the host powers off: the guest agent is asked to end the guest");
            self.press_at = Some(Instant::now() + AGENT_PATIENCE);
        } else if self.power_button().is_err() {
            self.destroy();
        }
    }

    fn end(&mut self, reason: ExitReason) {
        if self.ended.is_none() {
            self.events.push(EventKind::Exiting(reason.clone()));
            self.ended = Some(reason);
        }
    }

    pub(super) fn enter(&mut self, state: RunState, reason: StateReason) {
        (self.state, self.reason) = (state, reason);
    }

    /// A vCPU stopped by itself, or a device has something to tell.
    pub(super) fn on_bell(&mut self) {
        self.machine.quiet_bell();
        for notice in self.machine.take_notices() {
            let bite = match &notice {
                EventKind::Watchdog { action, .. } => Some(*action),
                _ => None,
            };
            self.events.push(notice);
            if let Some(action) = bite {
                self.on_watchdog(action);
            }
        }
        let released = self.machine.take_out_released();
        self.tell_removed(released);
        if let Err(error) = self.machine.park_ejected() {
            return self.fail(&error);
        }
        self.tell_vcpus();
        for status in self.machine.advance_block_jobs() {
            self.events.push(EventKind::BlockJob(status));
        }
        self.on_disk_stop();
        // When somebody paused the machine in the same moment, it stops when it is resumed.
        if self.state != RunState::Running || !self.machine.has_stop() {
            return;
        }
        // All must be out of the guest before the inbox is read: what it says then is everything.
        if let Err(error) = self.machine.park() {
            return self.fail(&error);
        }
        match self.machine.take_stop() {
            Some(stop) => self.on_stop(stop),
            // Whoever stopped was dealt with along with an earlier one.
            None => self.machine.unpark(),
        }
    }

    /// A disk keeps a request that the host failed: the guest must not run on without its answer.
    fn on_disk_stop(&mut self) {
        if !self.machine.take_disk_stop() || self.state != RunState::Running {
            return;
        }
        tracing::warn!("the guest is paused: the host failed a request of a disk");
        match self.machine.pause() {
            Ok(()) => {
                self.enter(RunState::Paused, StateReason::IoError);
                self.events.push(EventKind::Paused);
            }
            Err(error) => self.fail(&error),
        }
    }

    pub(super) fn tell_removed(&mut self, ids: Vec<String>) {
        for id in ids {
            self.events.push(EventKind::DeviceRemoved { id });
        }
    }

    pub(super) fn tell_vcpus(&mut self) {
        let count = self.machine.vcpus();
        if count != self.vcpus {
            self.vcpus = count;
            self.events.push(EventKind::VcpusChanged { count });
        }
    }

    pub(super) fn on_stop(&mut self, stop: Stop) {
        let (action, reason, ended) = match stop {
            Stop::PowerOff => {
                tracing::info!("the guest powered off");
                (self.lifecycle.on_poweroff, StateReason::Shutdown, ExitReason::Shutdown)
            }
            Stop::Reset => {
                tracing::info!("the guest reset");
                (self.lifecycle.on_reboot, StateReason::Shutdown, ExitReason::Shutdown)
            }
            Stop::Crashed(report) => {
                log_crash(&report);
                self.events.push(EventKind::Crashed(report.clone()));
                (self.lifecycle.on_crash, StateReason::Panicked, ExitReason::Crashed(report))
            }
        };
        match action {
            Action::Destroy => self.end(ended),
            Action::Restart => match self.resets.admit(Instant::now()) {
                true => self.reset(),
                false => tracing::warn!("the guest resets all the time: the next one has to wait"),
            },
            Action::Preserve => {
                let crashed = matches!(ended, ExitReason::Crashed(_));
                self.enter(if crashed { RunState::Crashed } else { RunState::Stopped }, reason);
                if let Err(error) = self.machine.pause() {
                    self.fail(&error);
                }
            }
        }
    }

    /// The guest did not reload its watchdog in time.
    fn on_watchdog(&mut self, action: WatchdogAction) {
        if self.state != RunState::Running {
            return;
        }
        tracing::warn!(?action, "the guest's watchdog expired");
        let done = match action {
            WatchdogAction::None => Ok(()),
            WatchdogAction::Shutdown => {
                self.machine.power_button();
                self.events.push(EventKind::PowerButton);
                Ok(())
            }
            WatchdogAction::InjectNmi => self.machine.inject_nmi(),
            WatchdogAction::Pause => self.machine.pause().map(|()| {
                self.enter(RunState::Paused, StateReason::Watchdog);
                self.events.push(EventKind::Paused);
            }),
            WatchdogAction::Reset => self.machine.park().map(|()| self.on_stop(Stop::Reset)),
            WatchdogAction::Poweroff => self.machine.park().map(|()| self.on_stop(Stop::PowerOff)),
        };
        if let Err(error) = done {
            self.fail(&error);
        }
    }

    pub(super) fn on_time(&mut self, now: Instant) {
        if self.measured.as_ref().and_then(Measured::until).is_some_and(|until| until <= now) {
            self.end_measuring();
        }
        if self.state == RunState::Running && self.press_at.take_if(|at| *at <= now).is_some() {
            tracing::info!("the guest agent did not end the guest: the power button is pressed");
            if self.power_button().is_err() {
                self.destroy();
            }
        }
        if self.state == RunState::Running && self.resets.take_due(now) {
            self.reset();
        }
    }

    fn reset(&mut self) {
        match self.machine.reset() {
            Ok(gone) => {
                self.events.push(EventKind::Reset);
                self.tell_removed(gone);
                self.tell_vcpus();
                self.machine.unpark();
                self.enter(RunState::Running, StateReason::Booted);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// The machine cannot go on, through no fault of the guest.
    fn fail(&mut self, error: &MachineError) {
        let message = super::chain(error);
        tracing::error!(message, "the machine failed");
        self.end(ExitReason::Failed { message });
    }

    pub(super) fn hello(&self, version: Version) -> Result<Hello, ControlError> {
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

    pub(super) fn console(
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

    pub(super) fn picture(&self, card: &str) -> Result<Attach, ControlError> {
        let screen = self.screen(card)?;
        Ok(Box::new(move |stream| screen.send_picture(stream.into())))
    }

    pub(super) fn viewer(&self, card: &str) -> Result<Attach, ControlError> {
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
    pub(super) fn request(
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

    pub(super) fn not_now(&self, what: &str) -> ControlError {
        let state = match self.state {
            RunState::Running => "running",
            RunState::Paused => "paused",
            RunState::Stopped => "stopped",
            RunState::Crashed => "crashed",
        };
        refuse(Code::State, format!("cannot {what} a guest that is {state}"))
    }
}

fn log_crash(report: &CrashReport) {
    let registers = report.registers.as_deref().unwrap_or_default();
    tracing::error!(cause = report.cause, vcpu = report.vcpu, registers, "the guest crashed");
}
