//! A snapshot is made.

use std::collections::BTreeSet;
use std::path::PathBuf;

use broker::Broker;
use xml::DomainDef;
use xml::device::disk::{Disk, SnapshotMode};
use xml::snapshot::{MemorySnapshot, SnapshotDef, SnapshotMemory, SnapshotState};

use super::{own_file, places};
use crate::domain::actor::{Actor, blocking};
use crate::error::{Code, Error};
use crate::jobs::Progress;
use crate::saved::{Mark, beside, marks};
use crate::snapshots::{
    CreateWork, Kept, Overlay, Request, Snapshot, Switch, Work, align, internal,
};
use crate::storage::PoolView;
use crate::store::StoredDomain;
use crate::translate;

/// A snapshot that is to be, and how.
#[derive(Debug, Clone)]
pub(crate) struct Create {
    /// With a name.
    pub def: SnapshotDef,
    /// Nothing of the memory, and disks in overlays where nothing else is said.
    pub disk_only: bool,
    /// Overlays are there already.
    pub reuse_external: bool,
    /// Nobody is to know of it afterwards.
    pub forget: bool,
    /// Power is cut when it is made.
    pub halt: bool,
    /// The guest runs while most of its memory is kept.
    pub live: bool,
}

/// All that is known of a snapshot before anything is done.
pub(super) struct Plan {
    pub snapshot: Snapshot,
    pub overlays: Vec<Overlay>,
    pub switches: Vec<Switch>,
    reuse: bool,
    pub live: bool,
    pub work: CreateWork,
    /// The stored definition as it is afterwards.
    stored: Option<(StoredDomain, DomainDef)>,
}

impl Actor {
    pub(super) async fn create_snapshot(
        &mut self,
        create: Create,
        progress: &Progress,
    ) -> Result<(), Error> {
        self.settle_snapshots().await;
        let mut set = self.idle_snapshots()?;
        self.check_room(&set)?;
        if set.get(create.def.name()).is_some() {
            let text =
                format!("domain {:?} has a snapshot {:?} already", self.name, create.def.name());
            return Err(Error::new(Code::Exists, text));
        }
        let plan = self.plan_snapshot(&create, set.current.as_deref())?;
        let (node, overlays, reuse) = (self.node.clone(), plan.overlays.clone(), plan.reuse);
        let (inside, name) = (plan.work.internal.clone(), plan.work.name.clone());
        blocking(move || {
            for image in &inside {
                if internal::holds(&*node.broker, image, &name)? {
                    let text = format!("{} holds a snapshot {name:?} already", image.display());
                    return Err(Error::new(Code::Exists, text));
                }
            }
            overlays.iter().try_for_each(|overlay| match reuse {
                true => overlay.check_reused(&*node.broker),
                false => overlay.check_free(&*node.broker),
            })
        })
        .await?;
        set.snapshots.push(plan.snapshot.clone());
        set.work = Some(Work::Create(plan.work.clone()));
        self.put_snapshots(set).await?;
        if let Err(error) = self.carry_out(&plan, progress).await {
            // Where nobody knows what the VMM has done, it is found out when it answers again.
            if !matches!(error.code, Code::Timeout | Code::VmmUnreachable) {
                self.settle_snapshots().await;
            }
            return Err(error);
        }
        self.finish_create().await?;
        if create.halt && self.run.is_some() {
            self.cut_power(false).await?;
        }
        Ok(())
    }

    /// Everything but the last word in the set.
    async fn carry_out(&mut self, plan: &Plan, progress: &Progress) -> Result<(), Error> {
        if !plan.reuse {
            let blank = self.make_overlays(&plan.overlays).await?;
            self.change_work(|work| work.blank = blank).await?;
        }
        if self.run.is_some() {
            self.snapshot_running(plan, progress).await?;
        } else {
            self.keep_variables(plan).await?;
            let (node, work) = (self.node.clone(), plan.work.clone());
            blocking(move || {
                let create = |image: &PathBuf| internal::create(&*node.broker, image, &work.name);
                work.internal.iter().try_for_each(create)
            })
            .await?;
        }
        self.store_switched(plan).await
    }

    pub(super) async fn make_overlays(
        &self,
        overlays: &[Overlay],
    ) -> Result<Vec<(PathBuf, u64)>, Error> {
        let (node, overlays) = (self.node.clone(), overlays.to_vec());
        blocking(move || {
            let broker = &*node.broker;
            overlays.iter().map(|it| Ok((it.path.clone(), it.make(broker)?))).collect()
        })
        .await
    }

    async fn store_switched(&mut self, plan: &Plan) -> Result<(), Error> {
        match plan.stored.clone() {
            Some((stored, def)) => self.put(stored, def).await,
            None => Ok(()),
        }
    }

    pub(super) async fn change_work(
        &self,
        change: impl FnOnce(&mut CreateWork),
    ) -> Result<(), Error> {
        let mut set = self.snapshots();
        if let Some(Work::Create(work)) = &mut set.work {
            change(work);
        }
        self.put_snapshots(set).await
    }

    /// A copy of the firmware's variables, as they are now.
    pub(super) async fn keep_variables(&self, plan: &Plan) -> Result<(), Error> {
        let Some(copy) = plan.snapshot.kept.variables.clone() else { return Ok(()) };
        let def = plan.snapshot.def.domain.clone();
        let node = self.node.clone();
        blocking(move || {
            let Some((path, _)) = def.as_ref().and_then(translate::variables) else {
                return Ok(());
            };
            super::revert::copy_file(&*node.broker, path, &copy, true)
        })
        .await
    }

    fn plan_snapshot(&self, create: &Create, parent: Option<&str>) -> Result<Plan, Error> {
        let definition = self.stored("it can have no snapshots")?;
        let runs = self.runs_or_waits()?;
        if self.managed_save {
            let text = format!(
                "domain {:?} has a saved state, which its disks belong to; start it, or drop that \
                 state (managedsave-remove)",
                self.name
            );
            return Err(Error::new(Code::InvalidState, text));
        }
        if let Some(run) = &self.run
            && (run.record.medium.is_some() || !run.record.plugs.is_empty())
        {
            let text = format!("domain {:?} has a device that comes or goes", self.name);
            return Err(Error::new(Code::Busy, text));
        }
        let mut def = create.def.clone();
        let usual = settle_memory(&mut def, create, runs, &self.name)?;
        let pools = self.active_pools();
        let now = match &self.run {
            Some(run) => translate::with_aliases(&run.live.def),
            None => definition.def.clone(),
        };
        let with_memory = def.memory() != Some(MemorySnapshot::No);
        let disks = align(&mut def, &now, &pools, Request { usual, with_memory })?;
        let inside = disks.iter().filter(|disk| disk.overlay.is_none());
        let internal: Vec<_> = inside.map(|disk| disk.image.clone()).collect();
        let overlays: Vec<Overlay> = disks
            .iter()
            .filter_map(|disk| Some((disk, disk.overlay.clone()?)))
            .map(|(disk, path)| Overlay::new(disk, path))
            .collect::<Result<_, _>>()?;
        let switches: Vec<Switch> = overlays
            .iter()
            .map(|it| Switch { disk: it.target.clone(), to: it.path.clone() })
            .collect();

        let mut domain = now.clone();
        domain.forget_run();
        if self.run.is_some() {
            // The images' own headers say what lies below, also when that has changed.
            domain.devices.disks.iter_mut().for_each(|disk| disk.backing_store = None);
        }
        def.inactive_domain = self.run.is_some().then(|| definition.def.clone());
        let own = self.node.snapshots.files(self.uuid);
        let has_variables = match translate::variables(&domain) {
            Some((path, _)) => self.node.broker.is_there(path)?,
            None => false,
        };
        let keeps_memory = def.memory() == Some(MemorySnapshot::Internal);
        let kept = Kept {
            platform: self.run.as_ref().map_or(definition.stored.platform, |r| r.record.platform),
            memory: keeps_memory.then(|| own_file(&own, "mem")),
            variables: has_variables.then(|| own_file(&own, "nvram")),
            // When nothing more is written to the images.
            marks: Vec::new(),
        };
        def.domain = Some(domain);
        def.creation_time = Some(jiff::Timestamp::now().as_second());
        def.set_parent(parent.and_then(|parent| parent.parse().ok()));
        let snapshot = Snapshot { def, kept };
        let stored = self.switched(&switches, &now, &pools);
        let generation = stored.as_ref().map_or(u64::MAX, |(stored, _)| stored.generation);
        let work = CreateWork {
            name: snapshot.name().to_owned(),
            forget: create.forget,
            resume: runs == Some(true),
            generation,
            swapping: false,
            switches: switches.clone(),
            internal,
            files: leftovers(&snapshot, &overlays, create.reuse_external),
            blank: Vec::new(),
        };
        let (reuse, live) = (create.reuse_external, create.live);
        Ok(Plan { snapshot, overlays, switches, reuse, live, work, stored })
    }

    /// The stored definition with the disks that are the same in it as `now` in their overlays; none
    /// if there is none such.
    fn switched(
        &self,
        switches: &[Switch],
        now: &DomainDef,
        pools: &[PoolView],
    ) -> Option<(StoredDomain, DomainDef)> {
        let definition = self.definition.as_ref()?;
        let same = |switch: &&Switch| {
            let target = BTreeSet::from([switch.disk.clone()]);
            places(&definition.def, &target, pools) == places(now, &target, pools)
        };
        let switches: Vec<_> = switches.iter().filter(same).cloned().collect();
        if switches.is_empty() {
            return None;
        }
        let mut def = definition.def.clone();
        crate::snapshots::switch(&mut def, &switches);
        Some((renewed(&definition.stored, &def), def))
    }

    /// The snapshot is there.
    pub(super) async fn finish_create(&mut self) -> Result<(), Error> {
        let mut set = self.snapshots();
        let Some(Work::Create(work)) = set.work.take() else { return Ok(()) };
        if work.forget {
            set.snapshots.retain(|snapshot| snapshot.name() != work.name);
        } else {
            set.made.extend(work.blank.iter().map(|(path, _)| path.clone()));
            set.current = Some(work.name.clone());
            let pools = self.active_pools();
            let mut made = set.snapshots.iter_mut().filter(|it| it.name() == work.name);
            if let Some(snapshot) = made.next() {
                snapshot.kept.marks = marks_of_snapshot(&*self.node.broker, &snapshot.def, &pools);
            }
        }
        let own: Vec<_> = work.files.into_iter().filter(|_| work.forget).collect();
        self.put_snapshots(set).await?;
        // A copy of variables that nobody will ask for.
        let (node, dir) = (self.node.clone(), self.node.snapshots.files(self.uuid));
        blocking(move || {
            for file in own.iter().filter(|file| file.starts_with(&dir)) {
                node.broker.remove_saved(file)?;
            }
            Ok(())
        })
        .await
    }
}

/// The next generation of a definition.
pub(super) fn renewed(old: &StoredDomain, def: &DomainDef) -> StoredDomain {
    let mut stored = old.clone();
    stored.generation = stored.generation.saturating_add(1);
    stored.xml = def.to_xml();
    stored
}

/// Everything that goes if nothing comes of it.
fn leftovers(snapshot: &Snapshot, overlays: &[Overlay], reuse: bool) -> Vec<PathBuf> {
    let mut files = super::own_files(snapshot);
    if let Some(memory) = snapshot.memory().filter(|memory| !files.contains(memory)).cloned() {
        files.push(memory);
    }
    if !reuse {
        let made = overlays.iter().flat_map(|it| [it.path.clone(), it.partial().to_owned()]);
        files.extend(made);
    }
    files
}

/// What the images are like that stay as they are for a snapshot.
pub(super) fn marks_of_snapshot(
    broker: &dyn Broker,
    snapshot: &SnapshotDef,
    pools: &[PoolView],
) -> Vec<Mark> {
    let Some(mut def) = snapshot.domain.clone() else { return Vec::new() };
    let is_held = |disk: &Disk| {
        let mut rows = snapshot.disks().iter().filter(|row| row.name == disk.target.dev);
        rows.any(|row| row.mode() == Some(SnapshotMode::External))
    };
    def.devices.disks.retain(is_held);
    // A copy of them is kept.
    def.os.nvram = None;
    marks(broker, &def, pools)
}

/// Complete what is said of the memory, and say what becomes of a disk of which nothing is.
fn settle_memory(
    def: &mut SnapshotDef,
    create: &Create,
    runs: Option<bool>,
    name: &str,
) -> Result<SnapshotMode, Error> {
    let refuse = |text: String| Err(Error::new(Code::InvalidArgument, text));
    let wanted = def.memory();
    let now = match runs {
        None => SnapshotState::ShutOff,
        Some(true) => SnapshotState::Running,
        Some(false) => SnapshotState::Paused,
    };
    let wants_memory = matches!(wanted, Some(MemorySnapshot::External | MemorySnapshot::Internal));
    let (memory, state, usual) = match (runs, wanted) {
        (_, _) if create.disk_only => {
            if wants_memory {
                return refuse(
                    "a snapshot of the disks alone (--disk-only) has no memory".to_owned(),
                );
            }
            let state = if runs.is_some() { SnapshotState::DiskSnapshot } else { now };
            (MemorySnapshot::No, state, SnapshotMode::External)
        }
        (None, _) if wants_memory => {
            return refuse(format!("domain {name:?} is off: there is no memory to keep"));
        }
        (None, _) => (MemorySnapshot::No, now, SnapshotMode::Internal),
        (Some(_), Some(MemorySnapshot::External)) => {
            (MemorySnapshot::External, now, SnapshotMode::External)
        }
        (Some(_), Some(MemorySnapshot::No)) => {
            return refuse(
                "a snapshot of a running guest without its memory is one of its disks alone: say so \
                 (--disk-only)"
                    .to_owned(),
            );
        }
        (Some(_), _) => (MemorySnapshot::Internal, now, SnapshotMode::Internal),
    };
    let file = def.memory.take().and_then(|memory| memory.file);
    def.memory = Some(SnapshotMemory { snapshot: Some(memory), file });
    def.state = Some(state);
    Ok(usual)
}

/// Where the file of `path` is while it is written.
pub(super) fn partial(path: &std::path::Path) -> PathBuf {
    beside(path, uuid::Uuid::new_v4())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(inside: &str, disk_only: bool, runs: Option<bool>) -> Result<String, Error> {
        let text = format!("<domainsnapshot>{inside}</domainsnapshot>");
        let mut def = SnapshotDef::parse(&text).unwrap().value;
        let create = Create {
            def: def.clone(),
            disk_only,
            reuse_external: false,
            forget: false,
            halt: false,
            live: false,
        };
        let usual = settle_memory(&mut def, &create, runs, "web")?;
        let (state, memory) = (def.state.unwrap(), def.memory().unwrap());
        Ok(format!("{state} {memory} {usual}"))
    }

    #[test]
    fn what_is_kept_follows_from_what_the_guest_does_and_what_is_said() {
        let file = "<memory snapshot='external' file='/m'/>";
        let no = "<memory snapshot='no'/>";
        for (inside, disk_only, runs, expected) in [
            ("", false, None, "shutoff no internal"),
            ("", true, None, "shutoff no external"),
            ("", true, Some(true), "disk-snapshot no external"),
            (no, true, Some(true), "disk-snapshot no external"),
            ("", false, Some(true), "running internal internal"),
            (file, false, Some(false), "paused external external"),
        ] {
            assert_eq!(settled(inside, disk_only, runs).unwrap(), expected, "{inside}");
        }
        for (inside, disk_only, runs, complaint) in [
            (file, true, Some(true), "--disk-only"),
            (file, false, None, "is off"),
            (no, false, Some(true), "--disk-only"),
        ] {
            let error = settled(inside, disk_only, runs).unwrap_err();
            assert!(error.message.contains(complaint), "{}", error.message);
        }
    }
}
