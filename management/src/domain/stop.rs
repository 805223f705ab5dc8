//! How a domain ends: by its own word, by ours, or by nobody's.

use std::sync::Arc;
use std::time::Duration;

use broker::EXIT_RECORD;
use uuid::Uuid;
use vmm_protocol::control::{ErrorAction, Event, EventKind as VmmEvent, Request};
use vmm_protocol::exit::{ExitReason, ExitRecord};
use xml::DomainDef;
use xml::device::Interface;

use super::actor::{Actor, Link, blocking};
use super::exit::Exit;
use super::handle::Destroy;
use super::{Paused, Running, ShutOff, State, clean, with_paths};
use crate::error::{Code, Error};
use crate::events::{EventKind, IoErrorAction, Lifecycle};
use crate::journal::Origin;
use crate::registry::Node;
use crate::translate::machine_small::watchdog_action;

/// For a VMM to end when it is told to, and when it is killed.
const TOLD: Duration = Duration::from_secs(3);
const KILLED: Duration = Duration::from_secs(10);
/// An exit record is a few lines, and registers.
const LONGEST_RECORD: u64 = 1 << 20;

impl Actor {
    pub(super) async fn on_event(&mut self, event: Event) {
        let Some(run) = &mut self.run else { return };
        let origin = Some(Origin { start_token: run.record.start_token, seq: event.seq });
        // Seen before the connection was lost.
        if self.node.journal.seen(run.record.start_token).is_some_and(|seen| event.seq <= seen) {
            return;
        }
        if let VmmEvent::Exiting(reason) = event.kind {
            run.exiting = Some(reason);
            return;
        }
        if let VmmEvent::ChannelChanged { id, open } = &event.kind {
            run.take_channel(id, *open);
        }
        let rebooting = run.record.rebooting;
        run.announced |= event.kind == VmmEvent::Started;
        if !self.admit_event() {
            return;
        }
        match event.kind {
            VmmEvent::Started => {
                let live = self.run.as_ref().map(|run| run.live.clone());
                let restored = self.run.as_ref().is_some_and(|run| run.record.restored);
                let how = match restored {
                    true => Lifecycle::StartedRestored,
                    false => Lifecycle::StartedBooted,
                };
                self.announce_lifecycle(how, None, origin);
                if let Some(live) = live {
                    self.announce_ports(&live.def, true);
                }
            }
            VmmEvent::Paused => {
                self.refresh().await;
                let how = match self.state() {
                    State::Paused(Paused::Watchdog) => Lifecycle::SuspendedWatchdog,
                    State::Paused(Paused::IoError) => Lifecycle::SuspendedIoError,
                    _ => Lifecycle::SuspendedPaused,
                };
                self.announce_lifecycle(how, None, origin);
            }
            VmmEvent::Resumed => {
                self.refresh().await;
                self.have_clock_set().await;
                self.announce_lifecycle(Lifecycle::ResumedUnpaused, None, origin);
            }
            VmmEvent::Reset => {
                self.enter(State::Running(Running::Booted));
                self.refresh().await;
                self.forget_frozen().await;
                self.announce(EventKind::Reboot, origin);
                if rebooting && let Err(error) = self.end_reboot().await {
                    tracing::warn!(domain = self.name, error = %error.chain(), "after a reboot");
                }
            }
            VmmEvent::Crashed(report) => {
                self.refresh().await;
                let reason = Some(clean(&report.cause));
                self.announce_lifecycle(Lifecycle::CrashedPanicked, reason, origin);
            }
            VmmEvent::DeviceBroken { id, reason } => {
                let kind = EventKind::DeviceBroken { device: clean(&id), reason: clean(&reason) };
                self.announce(kind, origin);
            }
            VmmEvent::BlockError { id, write, error, action, no_space } => {
                let action = match action {
                    ErrorAction::Ignore => IoErrorAction::None,
                    ErrorAction::Stop => IoErrorAction::Pause,
                    ErrorAction::Report => IoErrorAction::Report,
                };
                let (device, error) = (clean(&id), clean(&error));
                let kind = EventKind::IoError { device, write, error, action, no_space };
                self.announce(kind, origin);
            }
            // The job that watches it looks for itself.
            VmmEvent::BackupEnded { .. } => {}
            VmmEvent::LinkChanged { id, up } => {
                self.take_link(&id, up).await;
                self.announce(EventKind::LinkChanged { device: clean(&id), up }, origin);
            }
            VmmEvent::ChannelChanged { id, open } => self.tell_channel(&id, open, origin),
            VmmEvent::TrayMoved { id, open } => {
                self.take_tray(&id, open).await;
                self.announce(EventKind::TrayChange { device: clean(&id), open }, origin);
            }
            VmmEvent::MediumChanged { id, source } => {
                self.on_medium_changed(&id, source.as_deref(), origin).await;
            }
            VmmEvent::DeviceAdded { id } => self.on_device_added(&id, origin).await,
            VmmEvent::DeviceRemoved { id } => self.on_device_removed(&id, origin).await,
            VmmEvent::VcpusChanged { count } => self.on_vcpus_changed(count, origin).await,
            VmmEvent::Watchdog { id, action } => {
                let action = watchdog_action(action).to_owned();
                self.announce(EventKind::Watchdog { device: clean(&id), action }, origin);
            }
            VmmEvent::ClockChanged { offset } => {
                self.take_clock(offset).await;
                self.announce(EventKind::RtcChange { offset }, origin);
            }
            VmmEvent::ConnectionChanged { id, up, reason } => {
                let (device, reason) = (clean(&id), reason.as_deref().map(clean));
                let kind = EventKind::DiskConnection { device, connected: up, reason };
                self.announce(kind, origin);
            }
            VmmEvent::ThresholdPassed { name, threshold, excess, .. } => {
                self.on_threshold(&name, threshold, excess, origin);
            }
            VmmEvent::BlockJob(status) => self.on_block_job(status, origin).await,
            VmmEvent::ConnectionWanted { id, reason } => self.on_connection_wanted(id, &reason),
            VmmEvent::Lost { up_to } => {
                tracing::warn!(domain = self.name, up_to, "events of the VMM were lost");
                self.refresh().await;
            }
            VmmEvent::PowerButton | VmmEvent::Exiting(_) => {}
        }
    }

    pub(super) async fn on_destroy(&mut self, Destroy { graceful, answer }: Destroy) {
        let result = self.cut_power(graceful).await;
        self.publish();
        if self.definition.is_none() && self.run.is_none() {
            self.node.forget(self.uuid);
        }
        let _ = answer.send(result);
    }

    pub(super) async fn cut_power(&mut self, graceful: bool) -> Result<(), Error> {
        self.running()?;
        let Some(run) = &mut self.run else { return Ok(()) };
        if let Link::Up { vmm, .. } = &run.link {
            let vmm = vmm.clone();
            run.destroyed = vmm.tell(Request::Destroy, TOLD).await.is_ok();
            if run.destroyed && self.wait_end(TOLD).await {
                self.on_end().await;
                return Ok(());
            }
        }
        if graceful {
            let text = format!(
                "the VMM of domain {:?} does not end by itself; destroy it without 'graceful' to kill \
                 it",
                self.name
            );
            return Err(Error::new(Code::Timeout, text));
        }
        self.kill().await?;
        self.on_end().await;
        Ok(())
    }

    pub(super) async fn kill(&mut self) -> Result<(), Error> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let Some(process) = run.record.process else { return Err(self.unreachable()) };
        let cgroup = run.record.cgroup.clone();
        run.destroyed = true;
        let node = self.node.clone();
        let killed = blocking(move || Ok(node.broker.kill(process, cgroup.as_deref())?)).await;
        if self.wait_end(KILLED).await {
            return Ok(());
        }
        killed?;
        let text = format!(
            "the VMM of domain {:?} (process {}) was killed and does not end: it hangs in the kernel, \
             most often waiting for storage",
            self.name, process.pid
        );
        Err(Error::new(Code::Timeout, text))
    }

    pub(super) async fn wait_end(&self, within: Duration) -> bool {
        let Some(run) = &self.run else { return true };
        match &run.exit {
            Some(exit) => tokio::time::timeout(within, exit.ended()).await.is_ok(),
            None => self.lock_is_free().await,
        }
    }

    /// A start that failed: end what there is of the VMM, and say why.
    pub(super) async fn give_up(&mut self, failure: Error) -> Error {
        let failure = if failure.code == Code::VmmFailed { None } else { Some(failure) };
        if failure.is_some()
            && let Err(error) = self.kill().await
        {
            return error;
        }
        let def = self.run.as_mut().map(|run| {
            run.announced = false;
            run.live.def.clone()
        });
        self.on_end().await;
        let log = self.node.config.log_dir.join(format!("{}.log", self.uuid));
        failure.unwrap_or_else(|| {
            let what = match (&self.last_exit, &def) {
                (Some(why), Some(def)) => {
                    format!("could not be started: {}", with_paths(why, def))
                }
                (Some(why), None) => format!("could not be started: {why}"),
                (None, _) if self.stopped == ShutOff::Shutdown => {
                    "was started, and its guest shut itself down before anybody could be told"
                        .to_owned()
                }
                (None, _) => "was ended from outside while it started".to_owned(),
            };
            let text = format!("domain {:?} {what} (its log is {})", self.name, log.display());
            Error::new(Code::VmmFailed, text)
        })
    }

    /// The process is gone: say why, and take away what was only for it.
    pub(super) async fn on_end(&mut self) {
        // What it said last may still be on its way through the connection.
        self.drain().await;
        self.end_backup().await;
        let Some(run) = self.run.take() else { return };
        // Whoever watches them learns it from the closed channel.
        self.block_jobs.clear();
        let status = run.exit.as_ref().and_then(Exit::reap);
        let path = run.live.run_dir.join(EXIT_RECORD);
        let written = blocking(move || Ok(read_record(&path))).await.ok().flatten();
        let reason = run.exiting.clone().or_else(|| written.map(|record| record.reason));
        let (stopped, lifecycle, text) = match reason {
            Some(ExitReason::Shutdown) => (ShutOff::Shutdown, Lifecycle::StoppedShutdown, None),
            Some(ExitReason::Destroyed) => (ShutOff::Destroyed, Lifecycle::StoppedDestroyed, None),
            Some(ExitReason::Saved) => (ShutOff::Saved, Lifecycle::StoppedSaved, None),
            Some(ExitReason::Crashed(report)) => {
                let registers = report.registers.map(|r| format!("\n{}", clean_lines(&r)));
                let vcpu = report.vcpu.map(|n| format!(" on vCPU {n}")).unwrap_or_default();
                let text = format!(
                    "the guest crashed: {}{vcpu}{}",
                    clean(&report.cause),
                    registers.unwrap_or_default()
                );
                (ShutOff::Crashed, Lifecycle::StoppedCrashed, Some(text))
            }
            Some(ExitReason::Failed { message }) => {
                (ShutOff::Failed, Lifecycle::StoppedFailed, Some(clean(&message)))
            }
            None if run.destroyed => (ShutOff::Destroyed, Lifecycle::StoppedDestroyed, None),
            // Nobody wrote down why: killed from outside, or a defect of ours.
            None => {
                let how = status.as_deref().unwrap_or("nobody saw how");
                let text = format!("the VMM ended without a word ({how})");
                (ShutOff::Crashed, Lifecycle::StoppedFailed, Some(text))
            }
        };
        let (stopped, lifecycle, text) = match run.record.saving.clone() {
            Some(intent) if self.finish_save(&intent, &run.live.def).await => {
                (ShutOff::Saved, Lifecycle::StoppedSaved, None)
            }
            _ => (stopped, lifecycle, text),
        };
        if let Some(intent) = &run.record.dumping {
            self.remove_dump(intent).await;
        }
        if let Some(intent) = &run.record.forking {
            self.remove_forked(intent).await;
        }
        if let Some(partial) = run.record.making.clone() {
            self.remove_images(vec![partial]).await;
        }
        if let Some(intent) = &run.record.restoring {
            self.end_restore(intent).await;
        }
        if let Some(text) = &text {
            tracing::warn!(domain = self.name, text, "the domain stopped");
        }
        let cgroup = run.record.cgroup.clone();
        self.release_taps(&run.live.def).await;
        clean_up(&self.node, self.uuid, cgroup).await;
        self.node.journal.forget(run.record.start_token);
        self.tidy_seed().await;
        self.set_stopped(stopped, text.clone());
        if run.announced {
            let reason = text.and_then(|text| text.lines().next().map(str::to_owned));
            self.announce_lifecycle(lifecycle, reason, None);
            self.announce_ports(&run.live.def, false);
        }
    }

    /// Which networks a guest that starts or has ended is in: their followers know no domains.
    fn announce_ports(&self, live: &DomainDef, added: bool) {
        for interface in &live.devices.interfaces {
            self.announce_port(interface, added);
        }
    }

    pub(super) fn announce_port(&self, interface: &Interface, added: bool) {
        let tap = interface.target.as_ref().and_then(|target| target.dev.clone());
        let network = crate::translate::ports::network(interface).map(str::to_owned);
        if let (Some(network), Some(device)) = (network, tap) {
            self.announce(EventKind::NetworkPort { network, device, added }, None);
        }
    }

    async fn drain(&mut self) {
        let mut left = Vec::new();
        if let Some(run) = &mut self.run
            && let Link::Up { events, .. } = &mut run.link
        {
            // The reader ends with the process; it is waited for, but not long.
            let all = async {
                while let Some(event) = events.recv().await {
                    left.push(event);
                }
            };
            let _ = tokio::time::timeout(Duration::from_secs(1), all).await;
        }
        for event in left {
            Box::pin(self.on_event(event)).await;
        }
    }
}

fn read_record(path: &std::path::Path) -> Option<ExitRecord> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(LONGEST_RECORD).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Registers and the like: several lines, without what a terminal obeys.
fn clean_lines(text: &str) -> String {
    text.lines().take(64).map(clean).collect::<Vec<_>>().join("\n")
}

/// Remove what a VMM leaves. Its macvtaps stay until they are removed; its taps, locks and ptys went with it, but not what is said of its taps:
/// the next one of that name may be anybody's.
pub(super) async fn clean_up(node: &Arc<Node>, uuid: Uuid, cgroup: Option<std::path::PathBuf>) {
    node.users.give_back(uuid);
    let (node, dir) = (node.clone(), node.run_dir(uuid));
    let work = blocking(move || {
        if let Some(cgroup) = cgroup {
            super::launch::remove_cgroup(&*node.broker, &cgroup);
        }
        if let Err(error) = node.broker.remove_direct(&uuid.to_string(), Vec::new()) {
            tracing::error!(%uuid, %error, "the next start removes what is left");
        }
        let swept = node.networks.sweep();
        node.broker.remove_run_dir(&dir)?;
        swept
    });
    if let Err(error) = work.await {
        tracing::error!(%uuid, error = %error.chain(), "cannot clean up after a domain");
    }
}
