//! Snapshots of a domain: made, gone back to, forgotten. See [`crate::snapshots`] for what they are.
//!
//! ```text
//! intent in the set ─▶ overlays made ─▶ disks switched ─▶ definition stored ─▶ set: it is there
//!        └──────────── before this: undone ─────┘ └── after this: finished ──────────┘
//! ```

mod beneath;
mod create;
mod delete;
mod deletion;
mod live;
mod revert;
mod settle;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use create::Create;
use delete::Step;
pub use deletion::Reach;
pub(crate) use deletion::{Delete, begin as begin_deletion};
pub(crate) use revert::Revert;
use uuid::Uuid;
use xml::DomainDef;
use xml::SnapshotDef;
use xml::device::disk::SnapshotMode;

use super::actor::{Actor, blocking};
use super::{Paused, State};
use crate::error::{Code, Error};
use crate::jobs::Progress;
use crate::registry::Node;
use crate::snapshots::{Kept, MOST, Snapshot, Work};
use crate::storage::PoolView;
use crate::store::StoredSnapshots;

/// What is to become of a domain's snapshots.
#[derive(Debug)]
pub(crate) enum SnapshotAct {
    Create(Box<Create>),
    /// A snapshot as it is told, in place of one that there is or as another; perhaps as current.
    Redefine(Box<SnapshotDef>, bool),
    Revert(Revert),
    Delete(Step),
}

impl Actor {
    pub(super) async fn snapshot(
        &mut self,
        act: SnapshotAct,
        progress: Arc<Progress>,
    ) -> Result<(), Error> {
        match act {
            SnapshotAct::Create(create) => self.create_snapshot(*create, &progress).await,
            SnapshotAct::Redefine(def, current) => self.redefine_snapshot(*def, current).await,
            SnapshotAct::Revert(revert) => self.revert_to_snapshot(revert).await,
            SnapshotAct::Delete(step) => self.delete_step(step, progress).await,
        }
    }

    pub(super) fn snapshots(&self) -> StoredSnapshots {
        (*self.node.snapshots.of(self.uuid)).clone()
    }

    /// For a command that begins something: nothing else may be half done.
    fn idle_snapshots(&self) -> Result<StoredSnapshots, Error> {
        let set = self.snapshots();
        let half = match &set.work {
            None => return Ok(set),
            Some(Work::Create(work)) => format!("is being made: {:?}", work.name),
            Some(Work::Revert(work)) => format!("is being gone back to: {:?}", work.to),
            Some(Work::Delete(work)) if self.is_being_deleted(&work.name) => {
                return Err(self.being_deleted(&work.name));
            }
            Some(Work::Delete(work)) => format!(
                "is half deleted: {:?}; delete it again (snapshot-delete), when what stood in the \
                 way is mended",
                work.name
            ),
        };
        let text = format!("a snapshot of domain {:?} {half}", self.name);
        Err(Error::new(Code::InvalidState, text))
    }

    async fn put_snapshots(&self, set: StoredSnapshots) -> Result<(), Error> {
        let node = self.node.clone();
        blocking(move || node.snapshots.put(set)).await
    }

    fn active_pools(&self) -> Vec<PoolView> {
        self.node.pools.views().into_iter().filter(|pool| pool.active).collect()
    }

    /// Whether the guest runs, of one in whose middle a snapshot can be made; none: it is off.
    fn runs_or_waits(&self) -> Result<Option<bool>, Error> {
        match self.state() {
            State::ShutOff(_) => Ok(None),
            State::Running(_) => Ok(Some(true)),
            State::Paused(Paused::User | Paused::Save | Paused::IoError | Paused::Watchdog) => {
                Ok(Some(false))
            }
            State::Unknown => Err(self.unreachable()),
            state => {
                let text = format!(
                    "domain {:?} is {}: it can have a snapshot while it is off, runs or is suspended",
                    self.name,
                    state.name()
                );
                Err(Error::new(Code::InvalidState, text))
            }
        }
    }

    /// A snapshot as somebody tells it, which may be known already.
    async fn redefine_snapshot(
        &mut self,
        mut def: SnapshotDef,
        current: bool,
    ) -> Result<(), Error> {
        self.stored("it can have no snapshots")?;
        let mut set = self.idle_snapshots()?;
        let Some(name) = def.name.clone() else {
            let text = "a snapshot that is redefined needs its <name>";
            return Err(Error::new(Code::InvalidArgument, text));
        };
        if let Some(parent) = def.parent() {
            set.check_parent(&name, parent, &self.name)?;
        }
        for domain in def.domain.iter().chain(&def.inactive_domain) {
            if domain.uuid.is_some_and(|uuid| uuid != self.uuid) {
                let text = format!("snapshot {name:?} is of another domain, {}", domain.name);
                return Err(Error::new(Code::InvalidArgument, text));
            }
        }
        (def.cookie, def.active) = (None, None);
        match set.snapshots.iter_mut().find(|known| known.name() == &*name) {
            Some(known) => {
                check_same(&known.def, &def)?;
                if def.domain.is_none() {
                    def.domain = known.def.domain.take();
                    def.inactive_domain = known.def.inactive_domain.take();
                }
                known.def = def;
            }
            None => {
                self.check_room(&set)?;
                let platform = self.stored("it can have no snapshots")?.stored.platform;
                let kept = Kept { platform, ..Kept::default() };
                set.snapshots.push(Snapshot { def, kept });
            }
        }
        if current {
            set.current = Some(name.to_string());
        }
        self.put_snapshots(set).await
    }

    fn check_room(&self, set: &StoredSnapshots) -> Result<(), Error> {
        if set.snapshots.len() < MOST {
            return Ok(());
        }
        let text = format!("domain {:?} has {MOST} snapshots, and no more are kept", self.name);
        Err(Error::new(Code::ResourceExhausted, text))
    }
}

/// Forget all snapshots of a domain, and nothing else of them: the images stay as they are. What the
/// daemon keeps for them goes.
pub(super) fn forget(node: &Node, domain: Uuid) -> Result<(), Error> {
    for snapshot in &node.snapshots.of(domain).snapshots {
        own_files(snapshot).iter().try_for_each(|file| node.broker.remove_saved(file))?;
    }
    node.snapshots.forget(domain)?;
    // An empty directory is no harm.
    let _ = std::fs::remove_dir(node.snapshots.files(domain));
    Ok(())
}

/// What the daemon keeps for it.
fn own_files(snapshot: &Snapshot) -> Vec<PathBuf> {
    snapshot.kept.memory.iter().chain(&snapshot.kept.variables).cloned().collect()
}

/// What may not change when a snapshot is told anew: what it holds, and where.
fn check_same(known: &SnapshotDef, told: &SnapshotDef) -> Result<(), Error> {
    let differs = if known.state != told.state {
        "state"
    } else if known.disks != told.disks && told.disks.is_some() {
        "disks"
    } else if known.memory != told.memory {
        "memory"
    } else {
        return Ok(());
    };
    let text = format!(
        "snapshot {:?} holds what it holds: its <{differs}> cannot be redefined; forget it first \
         (snapshot-delete --metadata)",
        known.name()
    );
    Err(Error::new(Code::InvalidArgument, text))
}

/// Where the disks of a definition that `targets` names are.
fn places(def: &DomainDef, targets: &BTreeSet<String>, pools: &[PoolView]) -> Vec<PathBuf> {
    let disks = def.devices.disks.iter().filter(|disk| targets.contains(&disk.target.dev));
    disks.filter_map(|disk| crate::snapshots::place(disk, pools)).collect()
}

/// Images that hold a snapshot inside, by its own definition.
fn internal_images(snapshot: &Snapshot, pools: &[PoolView]) -> Vec<PathBuf> {
    let holds = snapshot.def.domain.as_ref();
    holds.map(|def| internal_images_of(snapshot, def, pools)).unwrap_or_default()
}

fn internal_images_of(snapshot: &Snapshot, def: &DomainDef, pools: &[PoolView]) -> Vec<PathBuf> {
    let rows = snapshot.def.disks().iter();
    let inside = rows.filter(|row| row.mode() == Some(SnapshotMode::Internal));
    places(def, &inside.map(|row| row.name.clone()).collect(), pools)
}

/// A file of the daemon's that no other snapshot has.
fn own_file(dir: &std::path::Path, ending: &str) -> PathBuf {
    dir.join(format!("{}.{ending}", Uuid::new_v4()))
}
