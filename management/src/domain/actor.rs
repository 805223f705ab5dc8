//! One task for each domain, which owns its state.
//!
//! ```text
//!              define                start                    Hello
//!   (nothing) ───────▶ off ───────────────────▶ starting ───────────────▶ running ⇄ paused
//!       ▲               ▲▲                         │                       │    │ power button
//!       │ undefine, or  ││ cannot be built         │                       │    ▼
//!       │ transient     │└─────────────────────────┘                       │  in shutdown
//!       └───────────────┤                                                  ▼    │
//!                       └────────── process gone, exit record read ◀───── any ◀─┘
//!                                                                          │ connection lost
//!                                                        process gone ◀────┤ process there
//!                                                                          ▼
//!                                                  unreachable: retried, never killed by itself
//! ```
//! A domain exists while it has a stored definition, or a VMM. The VMM is the truth about itself:
//! after each of its events its state is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::runtime::{Handle as Runtime, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;
use vmm_protocol::control::Event;
use vmm_protocol::exit::ExitReason;

use super::block_jobs::Ended;
use super::exit::Exit;
use super::handle::{
    Act, Answer, Command, Definition, Destroy, FASTEST, Handle, Live, Sampler, View,
};
use super::network_disks::Attempts;
use super::record::Record;
use super::{DomainId, ShutOff, State};
use crate::agent::{AgentTimeout, Queue};
use crate::control::{Events, Vmm, VmmError};
use crate::error::{Code, Error};
use crate::events::{EventKind, Lifecycle};
use crate::journal::Origin;
use crate::registry::Node;

const COMMANDS: usize = 32;

/// How an actor comes to be.
pub(crate) enum Begin {
    /// For a command that follows.
    Empty,
    Stored(Arc<Definition>),
    /// A run directory was found; perhaps with a VMM behind it.
    Found {
        definition: Option<Arc<Definition>>,
        record: Option<Box<Record>>,
        done: oneshot::Sender<()>,
    },
}

pub(super) struct Actor {
    pub(super) node: Arc<Node>,
    pub(super) uuid: Uuid,
    pub(super) name: String,
    pub(super) definition: Option<Arc<Definition>>,
    pub(super) run: Option<Run>,
    pub(super) stopped: ShutOff,
    pub(super) last_exit: Option<String>,
    /// The next start has a saved state to take up.
    pub(super) managed_save: bool,
    commands: mpsc::Receiver<Command>,
    pub(super) destroys: mpsc::Receiver<Destroy>,
    /// To connect to the servers of network disks.
    pub(super) attempts: Attempts,
    /// Who watches block jobs, by the alias of their disk.
    pub(super) block_jobs: BTreeMap<String, Ended>,
    /// Came while something else was waited for.
    pub(super) destroy: Option<Destroy>,
    view: watch::Sender<View>,
    /// How long the guest's agent may take to answer, it knows.
    pub(super) agent: Queue,
}

/// A VMM that is there, or was a moment ago.
pub(super) struct Run {
    pub record: Record,
    pub live: Arc<Live>,
    pub state: State,
    /// None if the process is not known: then its lock tells whether it lives.
    pub exit: Option<Exit>,
    pub link: Link,
    /// Its own last word.
    pub exiting: Option<ExitReason>,
    /// Told to end, or killed, by us.
    pub destroyed: bool,
    /// Its start was announced.
    pub announced: bool,
    /// It was told that the VMM does not answer.
    pub unreachable: bool,
    pub pace: Pace,
    /// Those that the guest has open; none: the VMM does not tell.
    pub channels: Option<Arc<BTreeSet<String>>>,
}

pub(super) enum Link {
    Up { vmm: Vmm, events: Events },
    Down { retry: Instant, pause: Duration },
}

/// Events of one VMM that are passed on in a second; beyond, they are dropped.
pub(super) struct Pace {
    second: Instant,
    count: u32,
}

impl Pace {
    const MOST: u32 = 100;

    pub(super) fn new() -> Self {
        Self { second: Instant::now(), count: 0 }
    }

    fn admit(&mut self) -> bool {
        if self.second.elapsed() >= Duration::from_secs(1) {
            *self = Self::new();
        }
        self.count += 1;
        if self.count == Self::MOST + 1 {
            tracing::warn!("a VMM sends more events than are passed on");
        }
        self.count <= Self::MOST
    }
}

enum Wake {
    Command(Command),
    Destroy(Destroy),
    Event(Box<Event>),
    Disconnected,
    Ended,
    Retry,
    /// Nobody can send any more: the daemon stops.
    Closed,
}

pub(crate) fn spawn(node: Arc<Node>, uuid: Uuid, name: String, begin: Begin) -> Handle {
    let (commands, queue) = mpsc::channel(COMMANDS);
    let (destroys, urgent) = mpsc::channel(COMMANDS);
    let definition = match &begin {
        Begin::Empty => None,
        Begin::Stored(definition) => Some(definition.clone()),
        Begin::Found { definition, .. } => definition.clone(),
    };
    // Known from the beginning: whoever asks first must not take a saved domain for one that is not.
    let managed_save = node.may_have(&node.managed_save(uuid)).unwrap_or_default();
    let stopped = if managed_save { ShutOff::Saved } else { ShutOff::Unknown };
    let (view, published) = watch::channel(View {
        uuid,
        name: name.clone(),
        state: State::ShutOff(stopped),
        definition: definition.clone(),
        live: None,
        vmm: None,
        channels: None,
        last_exit: None,
        managed_save,
    });
    let agent = Queue::default();
    if let Begin::Found { record: Some(record), .. } = &begin {
        agent.set_timeout(record.agent_timeout.and_then(AgentTimeout::of).unwrap_or_default());
    }
    let actor = Actor {
        node,
        uuid,
        name,
        definition,
        run: None,
        stopped,
        last_exit: None,
        managed_save,
        commands: queue,
        destroys: urgent,
        attempts: Attempts::default(),
        block_jobs: BTreeMap::new(),
        destroy: None,
        view,
        agent: agent.clone(),
    };
    tokio::spawn(actor.live(begin));
    let sampler = Arc::new(Sampler::default());
    let max_speed = Arc::new(AtomicU64::new(FASTEST));
    Handle { uuid, commands, destroys, view: published, sampler, agent, max_speed }
}

impl Actor {
    async fn live(mut self, begin: Begin) {
        if let Some(done) = Box::pin(self.begin(begin)).await {
            if self.is_nothing() {
                self.vanish();
                let _ = done.send(());
                return;
            }
            let _ = done.send(());
        }
        loop {
            // Boxed, so that there is room for an act while it lasts: most domains do nothing most of the time, and
            // the room for the longest of them was two thirds of what each cost.
            match self.next().await {
                Wake::Command(Command { act, answer }) => {
                    Box::pin(self.command(*act, answer)).await;
                }
                Wake::Destroy(destroy) => Box::pin(self.on_destroy(destroy)).await,
                Wake::Event(event) => Box::pin(self.on_event(*event)).await,
                Wake::Disconnected => Box::pin(self.on_disconnect()).await,
                Wake::Ended => Box::pin(self.on_end()).await,
                Wake::Retry => Box::pin(self.on_retry()).await,
                Wake::Closed => return,
            }
            self.publish();
            if self.is_nothing() {
                return self.vanish();
            }
        }
    }

    /// Take up what there is of it. Returns whom to tell, if someone waits for that.
    async fn begin(&mut self, begin: Begin) -> Option<oneshot::Sender<()>> {
        match begin {
            Begin::Empty => None,
            Begin::Stored(_) => {
                self.tidy_managed_save().await;
                self.settle_snapshots().await;
                self.publish();
                None
            }
            Begin::Found { record, done, .. } => {
                self.adopt(record.map(|record| *record)).await;
                if self.run.is_none() && self.definition.is_some() {
                    self.settle_snapshots().await;
                }
                self.publish();
                Some(done)
            }
        }
    }

    async fn next(&mut self) -> Wake {
        if let Some(destroy) = self.destroy.take() {
            return Wake::Destroy(destroy);
        }
        let (exit, link) = match &mut self.run {
            Some(run) => (run.exit.as_ref(), Some(&mut run.link)),
            None => (None, None),
        };
        let ended = async {
            match exit {
                Some(exit) => exit.ended().await,
                None => std::future::pending().await,
            }
        };
        let connection = async {
            match link {
                Some(Link::Up { events, .. }) => {
                    events.recv().await.map_or(Wake::Disconnected, |e| Wake::Event(Box::new(e)))
                }
                Some(Link::Down { retry, .. }) => {
                    sleep_until(*retry).await;
                    Wake::Retry
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            destroy = self.destroys.recv() => destroy.map_or(Wake::Closed, Wake::Destroy),
            // Before the end: its last events say why.
            wake = connection => wake,
            () = ended => Wake::Ended,
            command = self.commands.recv() => command.map_or(Wake::Closed, Wake::Command),
        }
    }

    fn is_nothing(&self) -> bool {
        self.definition.is_none() && self.run.is_none()
    }

    fn vanish(mut self) {
        self.node.checkpoints.forget(self.uuid);
        self.node.forget(self.uuid);
        // Whoever sent something in the meantime learns it from the closed answer.
        self.commands.close();
        self.destroys.close();
    }

    pub(super) fn state(&self) -> State {
        self.run.as_ref().map_or(State::ShutOff(self.stopped), |run| run.state)
    }

    pub(super) fn publish(&self) {
        let vmm = self.run.as_ref().and_then(|run| match &run.link {
            Link::Up { vmm, .. } => Some(vmm.clone()),
            Link::Down { .. } => None,
        });
        self.view.send_replace(View {
            uuid: self.uuid,
            name: self.name.clone(),
            state: self.state(),
            definition: self.definition.clone(),
            live: self.run.as_ref().map(|run| run.live.clone()),
            vmm,
            channels: self.run.as_ref().and_then(|run| run.channels.clone()),
            last_exit: self.last_exit.clone(),
            managed_save: self.managed_save,
        });
        self.node.listing.changed();
    }

    pub(super) fn announce(&self, kind: EventKind, origin: Option<Origin>) {
        let id = DomainId { uuid: self.uuid, name: self.name.clone() };
        self.node.journal.publish(Some(id), kind, origin);
    }

    pub(super) fn announce_lifecycle(
        &self,
        lifecycle: Lifecycle,
        reason: Option<String>,
        origin: Option<Origin>,
    ) {
        self.announce(EventKind::Lifecycle { lifecycle, reason }, origin);
    }

    async fn command(&mut self, act: Act, answer: Answer) {
        let result = match act {
            Act::Define { definition, seed } => self.define(*definition, seed).await,
            Act::Redefine(definition, expected) => self.redefine(*definition, expected).await,
            Act::Apply(definition, expected) => self.apply(*definition, expected).await,
            Act::Undefine(what) => self.undefine(what).await,
            Act::Rename(name) => self.rename(name).await,
            Act::SetAutostart(autostart, turn) => self.set_autostart(autostart, turn).await,
            Act::Start { def, seed, how, from } => {
                self.start(def.map(|def| *def), seed, how, from.map(|from| *from)).await
            }
            Act::Save(save, progress) => self.save(*save, progress).await,
            Act::Snapshot(act, progress) => Box::pin(self.snapshot(act, progress)).await,
            Act::Dump(dump, progress) => self.dump(dump, progress).await,
            Act::BeginBackup(backup) => self.begin_backup(*backup).await,
            Act::ChangeCheckpoints(change) => self.change_checkpoints(change).await,
            Act::Fork(fork, progress) => self.fork(fork, progress).await,
            Act::DropManagedSave => self.drop_managed_save().await,
            Act::RedefineManagedSave(def, running) => {
                self.redefine_managed_save(def.map(|def| *def), running).await
            }
            Act::Shutdown => self.shutdown().await,
            Act::Reboot => self.reboot().await,
            Act::PrepareToAsk => self.prepare_to_ask("do what its agent is asked for").await,
            Act::AskedToShutdown => self.asked_to_shutdown(),
            Act::Reset => self.reset().await,
            Act::Suspend => self.suspend().await,
            Act::Resume => self.resume().await,
            Act::ChangeMemory(change, affects) => self.change_memory(change, affects).await,
            Act::ChangeMetadata(change, affects) => self.change_metadata(*change, affects).await,
            Act::InjectNmi => self.inject_nmi().await,
            Act::SetLifecycleAction(change, affects) => {
                self.set_lifecycle_action(change, affects).await
            }
            Act::ChangeIoThreads(change, affects) => self.change_io_threads(change, affects).await,
            Act::ChangeMedium(change, affects) => self.change_medium(change, affects).await,
            Act::Attach(device, affects) => self.attach_device(*device, affects).await,
            Act::Detach(device, affects) => self.detach_device(&device, affects).await,
            Act::Update(device, affects) => self.update_device(*device, affects).await,
            Act::SetFrozen(frozen) => self.set_frozen(frozen).await,
            Act::SetAgentTimeout(timeout) => self.set_agent_timeout(timeout).await,
            Act::Tune(change, affects) => self.tune(*change, affects).await,
            Act::SetThreshold { disk, place } => self.set_threshold(&disk, place).await,
            Act::ResizeDisk { disk, bytes } => self.resize_disk(&disk, bytes).await,
            Act::StartBlockJob { disk, spec, bandwidth, ended } => {
                self.start_block_job(&disk, spec, bandwidth, ended, None).await
            }
            Act::EndBlockJob { disk, pivot } => self.end_block_job(&disk, pivot).await,
            Act::LimitBlockJob { disk, bandwidth } => self.limit_block_job(&disk, bandwidth).await,
            Act::SetLink { interface, up, affects } => self.set_link(&interface, up, affects).await,
        };
        // Whoever is answered sees the new state, and a domain that is nothing is gone.
        self.publish();
        if self.is_nothing() {
            self.node.forget(self.uuid);
        }
        let _ = answer.send(result);
    }

    pub(super) fn admit_event(&mut self) -> bool {
        self.run.as_mut().is_some_and(|run| run.pace.admit())
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let result = spawn_blocking(work).await;
    result.unwrap_or_else(|error| {
        Err(Error::new(Code::Internal, "a task of the daemon failed").with_source(error))
    })
}

/// The same without a change of threads, where the runtime can spare this one: for what takes about as long as such
/// changes do, which on a busy host are most of the wait. Not for a future that is polled beside others.
pub(crate) async fn in_place<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match Runtime::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => block_in_place(work),
        _ => blocking(work).await,
    }
}

pub(crate) fn vmm_error(name: &str, error: VmmError) -> Error {
    use vmm_protocol::control::ControlErrorCode as Refusal;
    let code = match &error {
        VmmError::Timeout(_) => Code::Timeout,
        VmmError::Refused(refused) => match refused.code {
            Refusal::State => Code::InvalidState,
            Refusal::NotFound => Code::DeviceNotFound,
            Refusal::Busy => Code::Busy,
            _ => Code::VmmFailed,
        },
        _ => Code::VmmUnreachable,
    };
    let cause = super::clean(&error.to_string());
    let base = Error::new(code, format!("domain {name:?}: {cause}"));
    match error {
        VmmError::Connect(source) => base.with_source(source),
        _ => base,
    }
}
