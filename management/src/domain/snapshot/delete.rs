//! Snapshots are forgotten, and what they alone needed goes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;
use vmm_protocol::control::Request;
use xml::DomainDef;
use xml::device::disk::{DiskFormat, SnapshotMode};

use super::beneath::UnderWay;
use super::create::{marks_of_snapshot, renewed};
use super::own_files;
use crate::domain::actor::{Actor, blocking};
use crate::error::{Code, Error};
use crate::events::Lifecycle;
use crate::jobs::Progress;
use crate::snapshots::{
    DeleteWork, Graph, Merge, Snapshot, Steps, User, Work, internal, merge, place, put_image,
};
use crate::storage::PoolView;
use crate::translate::formats;

/// What the actor is asked for, again until nothing is under way any more.
#[derive(Debug)]
pub(crate) struct Step {
    pub name: String,
    /// Only forget it: what it holds stays.
    pub metadata_only: bool,
    /// Told what the rest waits for; nothing: it is deleted.
    pub under_way: oneshot::Sender<UnderWay>,
}

impl Actor {
    /// Go on with the deletion of a snapshot: to its end, or until an image that the guest has open
    /// has become one with the one below it.
    pub(super) async fn delete_step(
        &mut self,
        step: Step,
        progress: Arc<Progress>,
    ) -> Result<(), Error> {
        let Step { name, metadata_only, under_way } = step;
        if !matches!(self.snapshots().work, Some(Work::Delete(_))) {
            self.settle_snapshots().await;
        }
        let work = match self.snapshots().work {
            Some(Work::Delete(work)) if work.name == name => work,
            _ if metadata_only => return self.forget_snapshot(&name).await,
            _ => self.intend_deletion(&name).await?,
        };
        match self.merge_beneath_guest(&work).await? {
            Some(merge) => {
                // Whoever asked may be gone: the next one goes on.
                let _ = under_way.send(merge);
                Ok(())
            }
            None => self.finish_delete(work, progress).await,
        }
    }

    async fn forget_snapshot(&self, name: &str) -> Result<(), Error> {
        let mut set = self.idle_snapshots()?;
        let own = own_files(set.find(name, &self.name)?);
        set.take_out(name);
        if set.snapshots.is_empty() {
            // They are the user's from now on.
            set.made.clear();
        }
        self.put_snapshots(set).await?;
        let node = self.node.clone();
        blocking(move || own.iter().try_for_each(|file| Ok(node.broker.remove_saved(file)?))).await
    }

    /// Write down what is to be done.
    async fn intend_deletion(&mut self, name: &str) -> Result<DeleteWork, Error> {
        let mut set = self.idle_snapshots()?;
        let snapshot = set.find(name, &self.name)?.clone();
        // The graph is found out from what is published: it may have changed since this command began.
        self.publish();
        let (node, uuid, made) = (self.node.clone(), self.uuid, set.made.clone());
        let (held, pools) = (snapshot.clone(), self.active_pools());
        let steps = blocking(move || {
            let mut graph = Graph::of(&node, uuid)?;
            let user = User { domain: uuid, snapshot: Some(held.name().to_owned()) };
            let mut steps = Steps::default();
            for (path, disk) in held_images(&held, &pools) {
                graph.forget(&path, &user);
                graph.release((&path, &disk), uuid, &made, &mut steps);
            }
            Ok(steps)
        })
        .await?;
        for merge in &steps.merges {
            self.stand(name, merge)?;
        }
        let mut files = steps.files;
        files.extend(snapshot.memory().cloned());
        files.extend(snapshot.kept.variables.clone());
        let internal = super::internal_images(&snapshot, &self.active_pools());
        let work = DeleteWork { name: name.to_owned(), merges: steps.merges, internal, files };
        self.check_inside(&work)?;
        set.work = Some(Work::Delete(work.clone()));
        self.put_snapshots(set).await?;
        Ok(work)
    }

    /// An image below that of a running guest is its ground.
    fn check_inside(&self, work: &DeleteWork) -> Result<(), Error> {
        let Some(run) = &self.run else { return Ok(()) };
        let pools = self.active_pools();
        let open = self.open_images();
        let tops = tops(&run.live.def, &pools);
        let is_ground = |image: &&PathBuf| open.contains(*image) && !tops.contains(*image);
        let Some(image) = work.internal.iter().find(is_ground) else { return Ok(()) };
        let text = format!(
            "snapshot {:?} lies inside {}, on which a disk of the guest stands that runs; shut domain \
             {:?} down first, or forget the snapshot alone (--metadata)",
            work.name,
            image.display(),
            self.name
        );
        Err(Error::new(Code::InvalidState, text))
    }

    /// Snapshots inside images: by the VMM that has them, else here.
    pub(super) async fn delete_inside(
        &mut self,
        images: &[PathBuf],
        name: &str,
    ) -> Result<(), Error> {
        let mut here = images.to_vec();
        if let Some(run) = &self.run {
            let tops = tops(&run.live.def, &self.active_pools());
            here.retain(|image| !tops.contains(image));
            let (ids, name) = (self.ids_of(images)?, name.to_owned());
            if !ids.is_empty() {
                self.tell(Request::DeleteDiskSnapshots { ids, name }).await?;
            }
        }
        let (node, name) = (self.node.clone(), name.to_owned());
        blocking(move || {
            // One that is gone holds nothing.
            here.iter().try_for_each(|image| match node.broker.is_there(image)? {
                true => internal::delete(&*node.broker, image, &name),
                false => Ok(()),
            })
        })
        .await
    }

    /// Each step may be done again: it is, after a daemon that died.
    pub(super) async fn finish_delete(
        &mut self,
        work: DeleteWork,
        progress: Arc<Progress>,
    ) -> Result<(), Error> {
        let (node, merges) = (self.node.clone(), work.merges.clone());
        let open = self.open_images();
        if let Some(merge) = merges.iter().find(|merge| open.contains(&merge.from)) {
            let text =
                format!("the guest of domain {:?} still uses {}", self.name, merge.from.display());
            return Err(Error::new(Code::Busy, text));
        }
        blocking(move || {
            merges.iter().try_for_each(|it| merge(&*node.broker, it, &open, &progress))
        })
        .await?;
        self.delete_inside(&work.internal, &work.name).await?;
        if let Some(definition) = self.definition.clone() {
            let mut def = definition.def.clone();
            if redirect(&mut def, &work.merges, &self.active_pools()) {
                self.put(renewed(&definition.stored, &def), def).await?;
                self.announce_lifecycle(Lifecycle::DefinedUpdated, None, None);
            }
        }
        let mut set = self.snapshots();
        let pools = self.active_pools();
        for snapshot in &mut set.snapshots {
            let Snapshot { def, kept } = snapshot;
            let mut moved = false;
            for domain in def.domain.iter_mut().chain(&mut def.inactive_domain) {
                moved |= redirect(domain, &work.merges, &pools);
            }
            if moved {
                kept.marks = marks_of_snapshot(&*self.node.broker, def, &pools);
            }
        }
        set.take_out(&work.name);
        set.made.retain(|path| !work.files.contains(path));
        self.put_snapshots(set.clone()).await?;
        let (node, files) = (self.node.clone(), work.files.clone());
        blocking(move || files.iter().try_for_each(|file| Ok(node.broker.remove_saved(file)?)))
            .await?;
        set = self.snapshots();
        set.work = None;
        if set.snapshots.is_empty() {
            set.made.clear();
        }
        self.put_snapshots(set).await
    }
}

/// The images that stay as they are for a snapshot, and the disks they are of.
fn held_images(snapshot: &Snapshot, pools: &[PoolView]) -> Vec<(PathBuf, String)> {
    let Some(def) = &snapshot.def.domain else { return Vec::new() };
    let rows = snapshot.def.disks().iter();
    let external = rows.filter(|row| row.mode() == Some(SnapshotMode::External));
    let held = external.filter_map(|row| {
        let disk = def.devices.disks.iter().find(|disk| disk.target.dev == row.name)?;
        Some((place(disk, pools)?, row.name.clone()))
    });
    held.collect()
}

/// Have a definition name images that took the place of others. Whether it named one.
fn redirect(def: &mut DomainDef, merges: &[Merge], pools: &[PoolView]) -> bool {
    let mut changed = false;
    for disk in &mut def.devices.disks {
        let Some(path) = place(disk, pools) else { continue };
        let Some(merge) = merges.iter().find(|merge| merge.from == path) else { continue };
        let format = merge.format.parse().ok().and_then(formats::to_xml);
        put_image(disk, &merge.into, format.unwrap_or(DiskFormat::Raw), None);
        // The header says what lies below.
        disk.backing_store = None;
        changed = true;
    }
    changed
}

/// The files that a domain's disks write to.
fn tops(def: &DomainDef, pools: &[PoolView]) -> BTreeSet<PathBuf> {
    def.devices.disks.iter().filter_map(|disk| place(disk, pools)).collect()
}
