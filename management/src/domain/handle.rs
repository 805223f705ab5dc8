//! How the rest of the daemon sees a domain: a published view to read, and a queue of commands.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;
use vmm_protocol::control::{Reply, Request, Statistics};
use xml::DomainDef;
use xml::device::Device;

use super::backup::{CheckpointChange, NewBackup};
use super::block_jobs::{BlockJobSpec, Ended};
use super::channels::Frozen;
use super::dump::Dump;
use super::fork::Fork;
use super::io_threads::IoThreadChange;
use super::lifecycle_action::LifecycleChange;
use super::media::MediumChange;
use super::memory::MemoryChange;
use super::plug::Named;
use super::record::Record;
use super::restore::FromSaved;
use super::save::Save;
use super::snapshot::SnapshotAct;
use super::{Affects, DomainSummary, MetadataChange, State, Tuning, TurnChange};
use crate::agent::{self, AgentTimeout};
use crate::cloud_init::Seed;
use crate::control::Vmm;
use crate::error::{Code, Error};
use crate::jobs::Progress;
use crate::store::StoredDomain;

/// A stored definition, read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Definition {
    pub stored: StoredDomain,
    pub def: DomainDef,
}

/// A running domain, as it was started.
#[derive(Debug)]
pub(crate) struct Live {
    pub record: Record,
    pub def: DomainDef,
    pub run_dir: PathBuf,
    pub sandbox: Vec<(String, String)>,
}

/// What is known of a domain at a moment. Published by its actor, read by everyone.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub uuid: Uuid,
    pub name: String,
    pub state: State,
    pub definition: Option<Arc<Definition>>,
    pub live: Option<Arc<Live>>,
    /// The connection to the VMM, while there is one.
    pub vmm: Option<Vmm>,
    /// Aliases of the channels that the guest has open; none: the VMM does not tell.
    pub channels: Option<Arc<BTreeSet<String>>>,
    pub last_exit: Option<String>,
    /// Its next start has a saved state to take up.
    pub managed_save: bool,
}

impl View {
    /// The definition that holds now: the live one, else the stored one.
    pub(crate) fn current(&self) -> Option<&DomainDef> {
        let live = self.live.as_ref().map(|live| &live.def);
        live.or_else(|| self.definition.as_ref().map(|definition| &definition.def))
    }

    pub(crate) fn summary(&self) -> DomainSummary {
        let process = self.live.as_ref().and_then(|live| live.record.process);
        let cpu_time = process.map_or(0, |process| crate::host::cpu_time(process.pid));
        DomainSummary { cpu_time, ..self.timeless() }
    }

    /// Without its time on host CPUs.
    pub(super) fn timeless(&self) -> DomainSummary {
        let def = self.current();
        let vcpu = def.and_then(|def| def.vcpu.as_ref());
        let max_vcpus = vcpu.map_or(1, |vcpu| u32::from(vcpu.max));
        let max_memory = def.map_or(0, |def| def.memory.size.0);
        let memory = def.and_then(|def| def.current_memory).map(|current| current.0);
        DomainSummary {
            id: self.live.as_ref().map(|live| live.record.id),
            uuid: self.uuid,
            name: self.name.clone(),
            title: def.and_then(|def| def.title.clone()),
            state: self.state,
            persistent: self.definition.is_some(),
            autostart: self.definition.as_ref().is_some_and(|d| d.stored.autostart),
            max_memory,
            memory: if self.live.is_some() { memory.unwrap_or(max_memory) } else { 0 },
            vcpus: vcpu.and_then(|vcpu| vcpu.current).map_or(max_vcpus, u32::from),
            max_vcpus,
            cpu_time: 0,
            managed_save: self.managed_save,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Act {
    Define {
        definition: Box<Definition>,
        seed: Option<Seed>,
    },
    /// Only over a stored definition, and only over this generation of it, if one is given.
    Redefine(Box<Definition>, Option<u64>),
    /// Redefine it, and make that true in the running guest.
    Apply(Box<Definition>, Option<u64>),
    Undefine(Undefine),
    Rename(String),
    SetAutostart(bool, TurnChange),
    /// With another definition than the stored one, if there is one here.
    Start {
        def: Option<Box<DomainDef>>,
        seed: Option<Seed>,
        how: Start,
        /// Go on from this.
        from: Option<Box<FromSaved>>,
    },
    /// Into a file, or for the next start.
    Save(Box<Save>, Arc<Progress>),
    /// Something with its snapshots.
    Snapshot(SnapshotAct, Arc<Progress>),
    /// Its memory and registers into a file.
    Dump(Dump, Arc<Progress>),
    /// Its disks as they are at one moment.
    BeginBackup(Box<NewBackup>),
    ChangeCheckpoints(CheckpointChange),
    /// Its memory and its disks, as they are at one moment, for a twin.
    Fork(Fork, Arc<Progress>),
    /// Forget the state that the next start would take up.
    DropManagedSave,
    /// Replace the definition that a managed save goes on with, and whether it runs then.
    RedefineManagedSave(Option<Box<DomainDef>>, Option<bool>),
    /// Press the power button.
    Shutdown,
    /// Press it, and have the power-off that follows made a reset.
    Reboot,
    /// Get ready for a guest that is asked through its agent.
    PrepareToAsk,
    /// It was asked so to shut down.
    AskedToShutdown,
    Reset,
    Suspend,
    Resume,
    ChangeMemory(MemoryChange, Affects),
    ChangeMetadata(Box<MetadataChange>, Affects),
    /// Give every vCPU a non-maskable interrupt.
    InjectNmi,
    /// What becomes of the guest when it ends.
    SetLifecycleAction(LifecycleChange, Affects),
    ChangeMedium(MediumChange, Affects),
    ChangeIoThreads(IoThreadChange, Affects),
    Attach(Box<xml::Parsed<Device>>, Affects),
    Detach(Named, Affects),
    Update(Box<xml::Parsed<Device>>, Affects),
    SetFrozen(Option<Frozen>),
    /// How long its agent may take to answer.
    SetAgentTimeout(AgentTimeout),
    Tune(Box<Tuning>, Affects),
    /// Tell when an image of a disk is written to beyond this place.
    SetThreshold {
        disk: String,
        place: Option<u64>,
    },
    ResizeDisk {
        disk: String,
        bytes: u64,
    },
    StartBlockJob {
        disk: String,
        spec: BlockJobSpec,
        bandwidth: u64,
        ended: Ended,
    },
    EndBlockJob {
        disk: String,
        pivot: bool,
    },
    LimitBlockJob {
        disk: String,
        bandwidth: u64,
    },
    SetLink {
        interface: String,
        up: bool,
        affects: Affects,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// Do everything but run the vCPUs.
    pub paused: bool,
    /// Make the firmware's variables anew.
    pub reset_variables: bool,
    /// Forget a state that was saved for this start.
    pub force_boot: bool,
    /// Go on also over disks that have changed since.
    pub force: bool,
}

/// What goes with a definition, beside what nobody would miss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Undefine {
    /// Must be said where there are some.
    pub variables: Option<Variables>,
    /// What was saved of it for its next start.
    pub managed_save: bool,
    /// Its snapshots; what they hold stays.
    pub snapshots: bool,
}

/// What becomes of the firmware variables of a domain that is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variables {
    /// They stay; nobody but the user knows of them then.
    Keep,
    Delete,
}

pub(crate) type Answer = oneshot::Sender<Result<(), Error>>;

#[derive(Debug)]
pub(crate) struct Command {
    /// Boxed, because a queue has room for many from the beginning.
    pub act: Box<Act>,
    pub answer: Answer,
}

/// Overtakes every command: a domain that hangs in one can be destroyed.
#[derive(Debug)]
pub(crate) struct Destroy {
    pub graceful: bool,
    pub answer: Answer,
}

#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub statistics: Statistics,
    pub time: Instant,
    /// Of the start it belongs to.
    pub start_token: Uuid,
}

#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub uuid: Uuid,
    pub commands: mpsc::Sender<Command>,
    pub destroys: mpsc::Sender<Destroy>,
    pub view: watch::Receiver<View>,
    pub sampler: Arc<Sampler>,
    pub agent: agent::Queue,
    /// Of moves to other hosts, MiB/s: kept for who asks, as long as the daemon lives. There are no such moves.
    pub max_speed: Arc<AtomicU64>,
}

/// As many MiB as the bytes of a signed 64-bit number: no limit.
pub(crate) const FASTEST: u64 = i64::MAX.cast_unsigned() >> 20;

impl Handle {
    pub(crate) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// The actor is gone, and its domain with it.
    pub(crate) fn is_gone(&self) -> bool {
        self.commands.is_closed()
    }

    pub(crate) async fn act(&self, act: Act, within: Duration) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let queued = self.commands.try_send(Command { act: Box::new(act), answer });
        self.wait(queued.is_ok(), answered, within).await
    }

    pub(crate) async fn destroy(&self, graceful: bool, within: Duration) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let queued = self.destroys.try_send(Destroy { graceful, answer });
        self.wait(queued.is_ok(), answered, within).await
    }

    async fn wait(
        &self,
        queued: bool,
        answered: oneshot::Receiver<Result<(), Error>>,
        within: Duration,
    ) -> Result<(), Error> {
        let name = self.view.borrow().name.clone();
        if !queued && !self.is_gone() {
            let text = format!("domain {name:?} has too many commands waiting; try again later");
            return Err(Error::new(Code::Busy, text));
        }
        match tokio::time::timeout(within, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                let text = format!("domain {name:?} has just vanished");
                Err(Error::new(Code::NotFound, text))
            }
            Err(_) => {
                let text = format!(
                    "domain {name:?} did not answer within {within:?}; the command may still be \
                     carried out"
                );
                Err(Error::new(Code::Timeout, text))
            }
        }
    }

    /// The latest counters, asked for anew with a wait of at most `within`.
    pub(crate) async fn sample(&self, within: Duration) -> Option<Sample> {
        let view = self.view();
        let token = view.live.as_ref()?.record.start_token;
        if let Some(vmm) = view.vmm {
            self.sampler.clone().refresh(vmm, token, within).await;
        }
        self.sampler.latest(token)
    }
}

/// Keeps the latest counters of a VMM, and asks for new ones once at a time: one that does not
/// answer costs the first asker a short wait and the others none.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    latest: Mutex<Option<Sample>>,
    asking: AtomicBool,
}

/// How long a VMM may take before it is asked again.
const PATIENCE: Duration = Duration::from_secs(10);

impl Sampler {
    fn latest(&self, start_token: Uuid) -> Option<Sample> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        latest.filter(|sample| sample.start_token == start_token)
    }

    async fn refresh(self: Arc<Self>, vmm: Vmm, start_token: Uuid, within: Duration) {
        if self.asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let asked = tokio::spawn(async move {
            let answer = vmm.ask(Request::Statistics, PATIENCE).await;
            if let Ok(Reply::Statistics(statistics)) = answer {
                let sample = Sample { statistics, time: Instant::now(), start_token };
                *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(sample);
            }
            self.asking.store(false, Ordering::Release);
        });
        let _ = tokio::time::timeout(within, asked).await;
    }
}
