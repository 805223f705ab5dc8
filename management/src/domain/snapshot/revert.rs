//! A domain goes back to a snapshot: its disks go on in fresh overlays on the images that the
//! snapshot holds, so that one can go back to it again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use broker::{Broker, SavedAct};
use xml::DomainDef;
use xml::device::disk::{DiskFormat, SnapshotMode};
use xml::snapshot::SnapshotState;

use super::create::{partial, renewed};
use super::places;
use crate::domain::actor::{Actor, blocking};
use crate::domain::handle::Start;
use crate::domain::restore::FromSaved;
use crate::error::{Code, Error};
use crate::events::Lifecycle;
use crate::saved::Saved;
use crate::snapshots::{
    Aligned, Graph, Overlay, RevertWork, Snapshot, Steps, Switch, Work, internal, next_name, place,
    switch,
};
use crate::store::StoredDomain;
use crate::translate;

/// Far more than the flash of any firmware.
const LARGEST_VARIABLES: u64 = 64 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Revert {
    pub name: String,
    /// Whether the guest is to run then, or to wait; none: as it did.
    pub run: Option<bool>,
    /// Also where something may be lost that is not told otherwise.
    pub force: bool,
    pub reset_variables: bool,
}

impl Revert {
    /// What is only done when it is forced.
    pub(crate) fn check_risk(
        &self,
        snapshot: &Snapshot,
        runs: bool,
        domain: &str,
    ) -> Result<(), Error> {
        let what = if self.force {
            return Ok(());
        } else if runs && snapshot.memory().is_none() && self.run.is_some() {
            "it has no memory: the guest that runs would have to boot anew"
        } else if snapshot.def.domain.is_none() {
            "it does not say what the domain was like (<domain>)"
        } else {
            return Ok(());
        };
        let name = snapshot.name();
        let text =
            format!("snapshot {name:?} of domain {domain:?}: {what}; say --force if that is meant");
        Err(Error::new(Code::Risky, text))
    }
}

/// All that is known before anything is done.
struct Plan {
    overlays: Vec<Overlay>,
    stored: (StoredDomain, DomainDef),
    from: Option<FromSaved>,
    /// None: it stays off.
    run: Option<bool>,
    before: Vec<PathBuf>,
}

impl Actor {
    pub(super) async fn revert_to_snapshot(&mut self, revert: Revert) -> Result<(), Error> {
        self.settle_snapshots().await;
        let mut set = self.idle_snapshots()?;
        let snapshot = set.find(&revert.name, &self.name)?.clone();
        let plan = self.plan_revert(snapshot, &revert).await?;
        let files = plan.overlays.iter();
        let files = files.flat_map(|it| [it.path.clone(), it.partial().to_owned()]).collect();
        set.work = Some(Work::Revert(RevertWork {
            to: revert.name.clone(),
            generation: plan.stored.0.generation,
            files,
            before: plan.before.clone(),
            reset_variables: revert.reset_variables,
        }));
        self.put_snapshots(set).await?;
        if let Err(error) = self.end_and_return(&plan).await {
            self.settle_snapshots().await;
            return Err(error);
        }
        let work = self.snapshots().work;
        if let Some(Work::Revert(work)) = work {
            self.settle_revert(work).await?;
        }
        match plan.run {
            Some(run) => self.start_reverted(plan.from, run, revert.reset_variables).await,
            None => Ok(()),
        }
    }

    async fn start_reverted(
        &mut self,
        from: Option<FromSaved>,
        run: bool,
        reset_variables: bool,
    ) -> Result<(), Error> {
        let how = Start { paused: !run, reset_variables, ..Start::default() };
        self.start(None, None, how, from).await.map_err(|error| {
            let text = format!(
                "domain {:?} went back to the snapshot, and does not start: {}",
                self.name, error.message
            );
            Error::new(error.code, text).with_source(error)
        })
    }

    /// From making what is new, over ending what is old, to the definition that decides.
    async fn end_and_return(&mut self, plan: &Plan) -> Result<(), Error> {
        self.make_overlays(&plan.overlays).await?;
        if self.run.is_some() {
            // Everything that can be known in advance is: now what the guest does is lost.
            self.cut_power(false).await?;
        }
        let (stored, def) = plan.stored.clone();
        self.put(stored, def).await?;
        self.announce_lifecycle(Lifecycle::DefinedUpdated, None, None);
        Ok(())
    }

    /// What the snapshot holds beside its images: states inside them, and the firmware's variables.
    async fn put_back(&self, snapshot: &Snapshot, work: &RevertWork) -> Result<(), Error> {
        let images = super::internal_images(snapshot, &self.active_pools());
        let kept = snapshot.kept.variables.clone().filter(|_| !work.reset_variables);
        let definition = self.stored("it has no snapshots")?;
        let own = translate::variables(&definition.def).map(|(path, _)| path.to_owned());
        let (node, name) = (self.node.clone(), snapshot.name().to_owned());
        blocking(move || {
            for image in &images {
                internal::apply(&*node.broker, image, &name)?;
            }
            if let (Some(kept), Some(own)) = (kept, own) {
                copy_file(&*node.broker, &kept, &own, true)?;
            }
            Ok(())
        })
        .await
    }

    /// States inside images come back in place: nothing else may need what the images are now.
    async fn check_internal(&self, snapshot: &Snapshot, holds: &DomainDef) -> Result<(), Error> {
        let pools = self.active_pools();
        let images = super::internal_images_of(snapshot, holds, &pools);
        if images.is_empty() {
            return Ok(());
        }
        let (node, uuid, name) = (self.node.clone(), self.uuid, snapshot.name().to_owned());
        blocking(move || {
            let graph = Graph::of(&node, uuid)?;
            for image in &images {
                if let Some(above) = graph.above(image).first() {
                    let text = format!(
                        "snapshot {name:?} lies inside {}, on which {} lies, whose ground would \
                         change; delete the snapshots that were made since first",
                        image.display(),
                        above.display()
                    );
                    return Err(Error::new(Code::InvalidState, text));
                }
                if !internal::holds(&*node.broker, image, &name)? {
                    let text = format!("image {} holds no snapshot {name:?}", image.display());
                    return Err(Error::new(Code::ResourceMissing, text));
                }
            }
            Ok(())
        })
        .await
    }

    async fn plan_revert(&self, snapshot: Snapshot, revert: &Revert) -> Result<Plan, Error> {
        let definition = self.stored("it has no snapshots")?;
        if self.managed_save && !revert.force {
            let text = format!(
                "domain {:?} has a saved state for its next start, which would be lost by going back \
                 to snapshot {:?}; say --force if that is meant",
                self.name,
                snapshot.name()
            );
            return Err(Error::new(Code::Risky, text));
        }
        let with_memory = snapshot.memory().is_some();
        revert.check_risk(&snapshot, self.run.is_some(), &self.name)?;
        let current = definition.def.clone();
        let holds = snapshot.def.domain.clone().unwrap_or_else(|| current.clone());
        let next = snapshot.def.inactive_domain.clone();
        let mut next = next.or_else(|| snapshot.def.domain.clone()).unwrap_or(current);
        self.check_internal(&snapshot, &holds).await?;
        let (overlays, switches) = self.fresh_overlays(&snapshot, &holds)?;
        translate::rename(&mut next, &self.name)?;
        next.uuid = Some(self.uuid);
        switch(&mut next, &switches);
        let stored = renewed(&definition.stored, &next);
        let stored = StoredDomain { platform: snapshot.kept.platform.max(1), ..stored };

        let run = match snapshot.state() {
            _ if !with_memory => revert.run,
            SnapshotState::Running => Some(revert.run.unwrap_or(true)),
            _ => Some(revert.run.unwrap_or(false)),
        };
        let mut live = holds;
        translate::rename(&mut live, &self.name)?;
        switch(&mut live, &switches);
        let from = self.open_memory(&snapshot, live, run, revert.force).await?;
        let pools = self.active_pools();
        let now = self.run.as_ref().map(|run| run.live.def.clone());
        let targets = all_targets(&definition.def, now.as_ref());
        let mut before = places(&definition.def, &targets, &pools);
        before.extend(now.iter().flat_map(|live| places(live, &targets, &pools)));
        let stored = (stored, next);
        Ok(Plan { overlays, stored, from, run, before })
    }

    /// An overlay for each image that the snapshot holds.
    fn fresh_overlays(
        &self,
        snapshot: &Snapshot,
        holds: &DomainDef,
    ) -> Result<(Vec<Overlay>, Vec<Switch>), Error> {
        let pools = self.active_pools();
        let stamp = jiff::Timestamp::now().as_second().to_string();
        let mut overlays = Vec::new();
        for row in snapshot.def.disks() {
            if row.mode() != Some(SnapshotMode::External) {
                continue;
            }
            let missing = || {
                let text = format!(
                    "snapshot {:?} holds disk {}, whose image its definition does not name",
                    snapshot.name(),
                    row.name
                );
                Error::new(Code::ResourceMissing, text)
            };
            let disks = &holds.devices.disks;
            let at = disks.iter().position(|disk| disk.target.dev == row.name);
            let disk = at.and_then(|at| disks.get(at)).ok_or_else(missing)?;
            let image = place(disk, &pools).ok_or_else(missing)?;
            let format = disk.driver.as_ref().and_then(|driver| driver.format);
            let path = free_name(&*self.node.broker, &image, &stamp)?;
            let aligned = Aligned {
                at: at.unwrap_or_default(),
                target: row.name.clone(),
                image,
                format: format.unwrap_or(DiskFormat::Raw),
                overlay: None,
            };
            overlays.push(Overlay::new(&aligned, path)?);
        }
        let switches = overlays.iter();
        let switches =
            switches.map(|it| Switch { disk: it.target.clone(), to: it.path.clone() }).collect();
        Ok((overlays, switches))
    }

    /// Its memory, and whether its images are what they were.
    async fn open_memory(
        &self,
        snapshot: &Snapshot,
        live: DomainDef,
        run: Option<bool>,
        force: bool,
    ) -> Result<Option<FromSaved>, Error> {
        let (node, path) = (self.node.clone(), snapshot.memory().cloned());
        let marks = snapshot.kept.marks.clone();
        blocking(move || {
            if !force {
                marks.iter().try_for_each(|mark| mark.check_held(&*node.broker))?;
            }
            let Some(path) = path else { return Ok(None) };
            let saved = Saved::open(&*node.broker, &path)?;
            // The overlays are others than those it knew, and what they lie on was just looked at.
            FromSaved::new(&*node.broker, saved, Some(live), run, false, true).map(Some)
        })
        .await
    }

    /// A revert that broke off, or that is done but for the last word.
    pub(super) async fn settle_revert(&mut self, work: RevertWork) -> Result<(), Error> {
        let generation = self.definition.as_ref().map_or(0, |it| it.stored.generation);
        let decided = generation >= work.generation;
        let mut set = self.snapshots();
        if decided {
            if let Some(snapshot) = set.get(&work.to).cloned() {
                self.put_back(&snapshot, &work).await?;
            }
            if self.managed_save {
                self.drop_managed_save().await?;
            }
            let there = |file: &&PathBuf| self.node.broker.is_there(file).unwrap_or(true);
            let made: Vec<_> = work.files.iter().filter(there).cloned().collect();
            set.made.extend(made);
            set.current = Some(work.to.clone());
        }
        // What the definition names is what the graph is found out from.
        self.publish();
        let (node, uuid, made) = (self.node.clone(), self.uuid, set.made.clone());
        let removed = blocking(move || {
            let mut files = work.files;
            if decided {
                let mut steps = Steps::default();
                let mut graph = Graph::of(&node, uuid)?;
                for path in &work.before {
                    graph.release((path, ""), uuid, &made, &mut steps);
                }
                files = if steps.merges.is_empty() { steps.files } else { Vec::new() };
            }
            for file in &files {
                node.broker.remove_saved(file)?;
            }
            Ok(files)
        })
        .await?;
        set.made.retain(|path| !removed.contains(path));
        set.work = None;
        self.put_snapshots(set).await
    }
}

fn all_targets(stored: &DomainDef, live: Option<&DomainDef>) -> BTreeSet<String> {
    let defs = std::iter::once(stored).chain(live);
    defs.flat_map(|def| &def.devices.disks).map(|disk| disk.target.dev.clone()).collect()
}

fn free_name(broker: &dyn Broker, image: &Path, stamp: &str) -> Result<PathBuf, Error> {
    let numbered = |n: u32| match n {
        0 => next_name(image, stamp),
        n => next_name(image, &format!("{stamp}-{n}")),
    };
    let mut number = 0;
    while broker.is_there(&numbered(number))? {
        number += 1;
    }
    Ok(numbered(number))
}

/// A copy that is there as a whole, or not at all.
pub(super) fn copy_file(
    broker: &dyn Broker,
    from: &Path,
    to: &Path,
    in_new_dir: bool,
) -> Result<(), Error> {
    let source = File::from(broker.open_input("firmware variables", from)?);
    let unfinished = partial(to);
    let copy = || {
        let act = SavedAct::Create { path: unfinished.clone(), in_new_dir };
        let mut target = File::from(broker.saved_file(act)?);
        let copied = std::io::copy(&mut source.take(LARGEST_VARIABLES), &mut target);
        copied.and_then(|_| target.sync_all()).map_err(|source| {
            let full = source.kind() == std::io::ErrorKind::StorageFull;
            let code = if full { Code::NoSpace } else { Code::HostFailure };
            let text = format!("{} cannot be copied to {}", from.display(), to.display());
            Error::new(code, text).with_source(source)
        })?;
        Ok(broker.rename_saved(&unfinished, to)?)
    };
    let copied = copy();
    if copied.is_err() {
        let _ = broker.remove_saved(&unfinished);
    }
    copied
}
