//! Starting a VMM, taking over one that runs, and keeping in touch with it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broker::{BrokerError, CONTROL_SOCKET, LOCK, ProcessId};
use tokio::time::Instant;
use vmm_protocol::config::Isolation;
use vmm_protocol::control::{Hello, Reply, Request, RunState, StateReason, Status};
use xml::DomainDef;

use super::actor::{Actor, Link, Pace, Run, blocking};
use super::exit::Exit;
use super::handle::{Live, Start};
use super::launch::{Launch, launch};
use super::record::Record;
use super::restore::FromSaved;
use super::{Paused, Running, ShutOff, State};
use crate::cloud_init::Seed;
use crate::control::{Events, Vmm, VmmError};
use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::translate;

/// A VMM that runs answers its handshake at once.
const HANDSHAKE: Duration = Duration::from_secs(1);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Actor {
    pub(super) async fn start(
        &mut self,
        def: Option<DomainDef>,
        seed: Option<Seed>,
        how: Start,
        from: Option<FromSaved>,
    ) -> Result<(), Error> {
        if self.run.is_some() {
            let text = match self.state() {
                State::Unknown => return Err(self.unreachable()),
                State::Crashed => "has crashed and is kept; destroy it first",
                _ => "is running already",
            };
            return Err(Error::new(Code::InvalidState, format!("domain {:?} {text}", self.name)));
        }
        if how.force_boot {
            self.drop_managed_save().await?;
        }
        let from = match from {
            None if def.is_none() && self.managed_save => Some(self.open_managed_save(how).await?),
            from => from,
        };
        let stored = self.definition.as_ref();
        let platform = stored.map_or(translate::PLATFORM, |stored| stored.stored.platform);
        let def = def.or_else(|| from.as_ref().map(|from| from.def.clone()));
        let Some(def) = def.or_else(|| stored.map(|stored| stored.def.clone())) else {
            return Err(Error::new(Code::Internal, "there is no definition to start"));
        };
        let restores = from.is_some();
        let plan = Launch {
            platform: from.as_ref().map_or(platform, |from| from.platform),
            // A restored guest waits until its file cannot be taken up a second time.
            paused: how.paused || restores,
            restore: from,
            reset_variables: how.reset_variables,
            id: self.node.next_id(),
            ..self.launch(def)
        };
        let node = self.node.clone();
        self.put_seed(seed).await?;
        let plan = Launch { isolation: self.node.isolation(self.uuid)?, ..plan };
        let launched = match blocking(move || launch(&*node.broker, &plan)).await {
            Ok(launched) => launched,
            Err(error) => {
                self.node.users.give_back(self.uuid);
                self.tidy_seed().await;
                return Err(error);
            }
        };
        let live = Live {
            record: launched.record.clone(),
            def: launched.live,
            run_dir: self.node.run_dir(self.uuid),
            sandbox: Vec::new(),
        };
        let exit = Exit::new(launched.process).map_err(|source| {
            Error::new(Code::HostFailure, "cannot watch the VMM's process").with_source(source)
        })?;
        self.run = Some(Run {
            record: launched.record,
            live: Arc::new(live),
            state: State::Paused(Paused::StartingUp),
            exit: Some(exit),
            link: Link::Down { retry: Instant::now(), pause: SHORTEST_PAUSE },
            exiting: None,
            destroyed: false,
            announced: false,
            unreachable: false,
            pace: Pace::new(),
            channels: None,
        });
        self.publish();
        self.meet().await?;
        if restores { self.go_on_restored().await } else { Ok(()) }
    }

    /// How `def` is opened here.
    pub(super) fn launch(&self, def: DomainDef) -> Launch {
        let node = &self.node;
        let log = node.config.log_dir.join(format!("{}.log", self.uuid));
        Launch {
            def,
            uuid: self.uuid,
            id: 0,
            platform: translate::PLATFORM,
            paused: false,
            firmware: node.firmware(),
            vnc: node.config.vnc.clone(),
            nbd: node.config.nbd.clone(),
            reset_variables: false,
            agent_timeout: self.agent.timeout(),
            restore: None,
            seccomp: node.config.domains.seccomp,
            // A start has its own.
            isolation: Isolation::default(),
            run_dir: node.run_dir(self.uuid),
            stdio: broker::Stdio::Log(log.clone()),
            log: Some(log),
            boot_id: node.boot_id,
            host: node.host.clone(),
            pools: node.pools.views().into_iter().filter(|pool| pool.active).collect(),
            networks: Some(node.networks.clone()),
            neighbours: node.processes(),
        }
    }

    /// Wait for a new VMM to build its machine and answer.
    async fn meet(&mut self) -> Result<(), Error> {
        let within = Duration::from_secs(self.node.config.domains.start_timeout);
        let Some(Run { exit: Some(exit), live, .. }) = &self.run else { return Ok(()) };
        let path = live.run_dir.join(CONTROL_SOCKET);
        let met = tokio::select! {
            biased;
            destroy = self.destroys.recv() => {
                self.destroy = destroy;
                None
            }
            () = exit.ended() => None,
            met = Vmm::connect(&path, within) => match met {
                Ok(_) | Err(VmmError::Timeout(_)) => Some(met),
                // A VMM that ends closes its connection a moment before.
                Err(_) => match tokio::time::timeout(HANDSHAKE, exit.ended()).await {
                    Ok(()) => None,
                    Err(_) => Some(met),
                },
            },
        };
        let failure = match met {
            Some(Ok((vmm, hello, events))) => {
                match self.attach(vmm, hello, events, Some(0)).await {
                    Ok(()) => match self.tune_new().await {
                        Ok(()) => return Ok(()),
                        Err(error) => error,
                    },
                    Err(error) => error,
                }
            }
            Some(Err(VmmError::Timeout(_))) => {
                let text = format!(
                    "the VMM of domain {:?} did not get ready within {within:?}",
                    self.name
                );
                Error::new(Code::Timeout, text)
            }
            Some(Err(error)) => super::actor::vmm_error(&self.name, error),
            None if self.destroy.is_some() => {
                let text = format!("domain {:?} was destroyed while it started", self.name);
                Error::new(Code::InvalidState, text)
            }
            None => Error::new(Code::VmmFailed, String::new()),
        };
        // The guest has not run for anyone yet: nothing is lost with this VMM.
        Err(self.give_up(failure).await)
    }

    /// Whose VMM it is, what it does, and what it will tell.
    async fn attach(
        &mut self,
        vmm: Vmm,
        hello: Hello,
        events: Events,
        after: Option<u64>,
    ) -> Result<(), Error> {
        let name = self.name.clone();
        let node = self.node.clone();
        let Some(run) = &mut self.run else { return Ok(()) };
        let (record, identity) = (&run.record, &hello.identity);
        let same = (identity.uuid, identity.start_token, identity.boot_id)
            == (record.uuid, record.start_token, node.boot_id);
        if !same {
            let text = format!("another VMM than that of domain {name:?} answers at its socket");
            return Err(Error::new(Code::VmmUnreachable, text));
        }
        let after = after.or_else(|| node.journal.seen(record.start_token)).unwrap_or(0);
        let within = Duration::from_secs(node.config.domains.command_timeout);
        vmm.tell(Request::Events { after }, within)
            .await
            .map_err(|error| super::actor::vmm_error(&name, error))?;
        run.live = Arc::new(Live {
            record: run.record.clone(),
            def: run.live.def.clone(),
            run_dir: run.live.run_dir.clone(),
            sandbox: hello.sandbox.into_iter().take(32).collect(),
        });
        run.link = Link::Up { vmm, events };
        self.take_status(&hello.status, true);
        self.publish();
        Ok(())
    }

    // ---- a VMM that was there before the daemon --------------------------------------------

    /// A run directory was found. Whose process holds its lock, is there; else it is gone.
    pub(super) async fn adopt(&mut self, record: Option<Record>) {
        let dir = self.node.run_dir(self.uuid);
        let (node, probed) = (self.node.clone(), dir.clone());
        let lock = blocking(move || match node.broker.lock_run_dir(&probed) {
            Ok(lock) => Ok(Some(lock)),
            Err(BrokerError::RunDirLocked { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        });
        let free = match lock.await {
            Ok(lock) => lock.is_some(),
            Err(error) => {
                tracing::error!(domain = self.name, error = %error.chain(), "cannot be looked at");
                false
            }
        };
        match (free, record) {
            (true, Some(record)) => {
                self.take_up(record);
                self.on_end().await;
            }
            (true, None) => {
                let cgroup = self.unrecorded_cgroup().await;
                super::stop::clean_up(&self.node, self.uuid, cgroup).await;
            }
            (false, Some(record)) => {
                self.take_up(record);
                self.on_retry().await;
            }
            (false, None) => self.adopt_unrecorded().await,
        }
    }

    /// A start that was cut short before it wrote down what it had made: its cgroup is where any start
    /// makes it.
    async fn unrecorded_cgroup(&self) -> Option<PathBuf> {
        let (node, name) = (self.node.clone(), self.uuid.to_string());
        blocking(move || Ok(node.broker.make_cgroup(&name).ok())).await.ok().flatten()
    }

    fn take_up(&mut self, record: Record) {
        self.node.reserve_id(record.id);
        if let Some(user) = record.user {
            self.node.users.keep(user, self.uuid);
        }
        // A definition this daemon cannot read is no reason to leave a guest alone.
        let def =
            translate::stored(&record.live).or_else(|_| translate::stored(&record.definition));
        let stored = || self.definition.as_ref().map(|definition| definition.def.clone());
        let Some(def) = def.ok().or_else(stored) else {
            tracing::error!(domain = self.name, "the record of a running domain cannot be read");
            return;
        };
        let exit = record.process.and_then(ProcessId::open).map(Exit::new);
        let exit = exit.and_then(Result::ok);
        let run_dir = self.node.run_dir(self.uuid);
        let live = Live { record: record.clone(), def, run_dir, sandbox: Vec::new() };
        let announced = self.node.journal.seen(record.start_token).is_some();
        self.run = Some(Run {
            record,
            live: Arc::new(live),
            state: State::Unknown,
            exit,
            link: Link::Down { retry: Instant::now(), pause: SHORTEST_PAUSE },
            exiting: None,
            destroyed: false,
            announced,
            unreachable: false,
            pace: Pace::new(),
            channels: None,
        });
    }

    /// The record is lost: the VMM has a copy.
    async fn adopt_unrecorded(&mut self) {
        let path = self.node.run_dir(self.uuid).join(CONTROL_SOCKET);
        match Vmm::connect(&path, HANDSHAKE).await {
            Ok((_, hello, _)) if hello.identity.uuid == self.uuid => {
                match Record::from_text(&hello.live_record) {
                    Some(mut record) => {
                        let lock = self.node.run_dir(self.uuid).join(LOCK);
                        record.process = self.vmm_with(hello.pid, lock).await;
                        let _ = record.write(&self.node.run_dir(self.uuid));
                        if self.definition.is_none() && self.node.take_name(self.uuid, &record.name)
                        {
                            self.name.clone_from(&record.name);
                        }
                        self.take_up(record);
                        self.on_retry().await;
                    }
                    None => tracing::error!(
                        domain = self.name,
                        "a VMM keeps no record that can be read"
                    ),
                }
            }
            Ok(_) => tracing::error!(domain = self.name, "another domain's VMM is in its place"),
            Err(error) => tracing::error!(domain = self.name, %error, "a VMM does not answer"),
        }
    }

    // ---- keeping in touch ------------------------------------------------------------------

    pub(super) async fn on_disconnect(&mut self) {
        let Some(run) = &mut self.run else { return };
        run.link = Link::Down { retry: Instant::now(), pause: SHORTEST_PAUSE };
        // Most often it is the end; then the process is gone in a moment.
        if let Some(exit) = &run.exit
            && tokio::time::timeout(Duration::from_millis(500), exit.ended()).await.is_ok()
        {
            return self.on_end().await;
        }
        tracing::warn!(domain = self.name, "the connection to the VMM was lost");
    }

    pub(super) async fn on_retry(&mut self) {
        let Some(run) = &mut self.run else { return };
        let Link::Down { retry, pause } = &mut run.link else { return };
        // Counted from the end of this attempt, or a slow one would leave no time for commands.
        *retry = Instant::now() + HANDSHAKE + *pause;
        *pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        let process_known = run.exit.is_some();
        let path = run.live.run_dir.join(CONTROL_SOCKET);
        let connected = tokio::select! {
            biased;
            destroy = self.destroys.recv() => {
                self.destroy = destroy;
                return;
            }
            connected = Vmm::connect(&path, HANDSHAKE) => connected,
        };
        let failure = match connected {
            Ok((vmm, hello, events)) => {
                if !process_known {
                    self.take_process(hello.pid).await;
                }
                match self.attach(vmm, hello, events, None).await {
                    Ok(()) => {
                        tracing::info!(domain = self.name, "connected to the VMM");
                        self.set_unreachable(false, "");
                        self.settle_save().await;
                        self.settle_dump().await;
                        self.settle_backup().await;
                        self.settle_fork().await;
                        self.settle_restore().await;
                        self.settle_snapshots().await;
                        self.settle_block_jobs().await;
                        self.go_on_deleting();
                        self.finish_tuning().await;
                        return self.finish_move().await;
                    }
                    Err(error) => error.chain(),
                }
            }
            Err(error) => error.to_string(),
        };
        if !process_known && self.lock_is_free().await {
            return self.on_end().await;
        }
        self.set_unreachable(true, &failure);
        self.enter(State::Unknown);
    }

    /// Tell it when it changes.
    fn set_unreachable(&mut self, unreachable: bool, failure: &str) {
        let Some(run) = &mut self.run else { return };
        if std::mem::replace(&mut run.unreachable, unreachable) == unreachable {
            return;
        }
        if unreachable {
            tracing::error!(domain = self.name, failure, "the VMM lives and does not answer");
        }
        self.announce(EventKind::Reachable { reachable: !unreachable }, None);
    }

    /// The process that holds a domain's lock. Not knowing it, one can talk to a VMM, and not end it.
    async fn vmm_with(&self, said: u32, lock: PathBuf) -> Option<ProcessId> {
        let node = self.node.clone();
        let found = blocking(move || Ok(node.broker.find_vmm(said, &lock)?)).await;
        found.unwrap_or_else(|error| {
            tracing::error!(domain = self.name, error = %error.chain(), "the VMM's process is not known");
            None
        })
    }

    async fn take_process(&mut self, pid: u32) {
        let Some(run) = &self.run else { return };
        let process = self.vmm_with(pid, run.live.run_dir.join(LOCK)).await;
        let Some(run) = &mut self.run else { return };
        run.record.process = process;
        run.exit = run.record.process.and_then(ProcessId::open).and_then(|p| Exit::new(p).ok());
    }

    pub(super) async fn lock_is_free(&self) -> bool {
        let (node, dir) = (self.node.clone(), self.node.run_dir(self.uuid));
        blocking(move || Ok(node.broker.lock_run_dir(&dir)?)).await.is_ok()
    }

    /// Ask the VMM what it does.
    pub(super) async fn refresh(&mut self) {
        let Some(Run { link: Link::Up { vmm, .. }, .. }) = &self.run else { return };
        let vmm = vmm.clone();
        let asked = tokio::select! {
            biased;
            destroy = self.destroys.recv() => {
                self.destroy = destroy;
                return;
            }
            asked = vmm.ask(Request::Status, HANDSHAKE) => asked,
        };
        if let Ok(Reply::Status(status)) = asked {
            self.take_status(&status, false);
        }
    }

    pub(super) fn take_status(&mut self, status: &Status, new: bool) {
        if let Some(run) = &mut self.run {
            run.channels = channels(status);
        }
        let state = match (status.state, status.reason) {
            // Only we know that the power button was pressed.
            (RunState::Running, _) if self.state() == State::ShuttingDown && !new => return,
            (RunState::Running, StateReason::Booted) => State::Running(Running::Booted),
            (RunState::Running, StateReason::Restored) => State::Running(Running::Restored),
            (RunState::Running, StateReason::Unpaused) => State::Running(Running::Unpaused),
            (RunState::Running, _) => State::Running(Running::Unknown),
            (RunState::Paused, StateReason::User | StateReason::StartingUp) => {
                State::Paused(Paused::User)
            }
            (RunState::Paused, StateReason::Saving) => State::Paused(Paused::Save),
            (RunState::Paused, StateReason::Watchdog) => State::Paused(Paused::Watchdog),
            (RunState::Paused, StateReason::IoError) => State::Paused(Paused::IoError),
            (RunState::Paused, _) => State::Paused(Paused::Unknown),
            (RunState::Stopped, _) => State::Paused(Paused::ShuttingDown),
            (RunState::Crashed, _) => State::Crashed,
        };
        self.enter(state);
    }

    /// What an adopted domain is, when its VMM was gone.
    pub(super) fn set_stopped(&mut self, stopped: ShutOff, text: Option<String>) {
        self.stopped = stopped;
        self.last_exit = text;
    }
}

/// Few, and none longer than an alias: a VMM is not trusted.
fn channels(status: &Status) -> Option<Arc<BTreeSet<String>>> {
    let open = status.channels.as_ref()?.iter().take(64).filter(|id| id.len() <= 64);
    Some(Arc::new(open.cloned().collect()))
}
