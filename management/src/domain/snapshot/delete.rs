//! Snapshots are forgotten, and what they alone needed goes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vmm_protocol::control::Request;
use xml::DomainDef;
use xml::device::disk::{BackingStore, DiskFormat, SnapshotMode};

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

#[derive(Debug, Clone)]
pub(crate) struct Delete {
    pub name: String,
    pub reach: Reach,
    /// Only forget them: what they hold stays.
    pub metadata_only: bool,
}

/// Which snapshots go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    One,
    WithDescendants,
    DescendantsOnly,
}

impl Actor {
    pub(super) async fn delete_snapshots(
        &mut self,
        delete: Delete,
        progress: Arc<Progress>,
    ) -> Result<(), Error> {
        if !matches!(self.snapshots().work, Some(Work::Delete(_))) {
            self.settle_snapshots().await;
        }
        if let Some(Work::Delete(work)) = self.snapshots().work {
            let name = work.name.clone();
            self.finish_delete(work, progress.clone()).await?;
            if name == delete.name && delete.reach == Reach::One {
                return Ok(());
            }
        }
        let set = self.idle_snapshots()?;
        set.find(&delete.name, &self.name)?;
        let mut names = match delete.reach {
            Reach::One => Vec::new(),
            Reach::WithDescendants | Reach::DescendantsOnly => set.descendants(&delete.name),
        };
        // Children before their parents.
        names.reverse();
        if delete.reach != Reach::DescendantsOnly {
            names.push(delete.name.clone());
        }
        for name in names {
            if progress.is_cancelled() {
                return Err(Error::new(Code::InvalidState, "the deletion was cancelled"));
            }
            match delete.metadata_only {
                true => self.forget_snapshot(&name).await?,
                false => self.delete_snapshot(&name, progress.clone()).await?,
            }
        }
        Ok(())
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

    async fn delete_snapshot(&mut self, name: &str, progress: Arc<Progress>) -> Result<(), Error> {
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
        self.check_not_live(name, &steps)?;
        let mut files = steps.files;
        files.extend(snapshot.memory().cloned());
        files.extend(snapshot.kept.variables.clone());
        let internal = super::internal_images(&snapshot, &self.active_pools());
        let work = DeleteWork { name: name.to_owned(), merges: steps.merges, internal, files };
        self.check_inside(&work)?;
        set.work = Some(Work::Delete(work.clone()));
        self.put_snapshots(set).await?;
        self.finish_delete(work, progress).await
    }

    /// Images that a guest has open are left alone.
    fn check_not_live(&self, name: &str, steps: &Steps) -> Result<(), Error> {
        let Some(run) = &self.run else { return Ok(()) };
        let pools = self.active_pools();
        let open = chain_paths(&run.live.def, &pools);
        let touched = |merge: &&Merge| {
            let images = merge.above.iter().chain([&merge.from, &merge.into]);
            images.into_iter().any(|image| open.contains(image))
        };
        let Some(merge) = steps.merges.iter().find(touched) else { return Ok(()) };
        let text = format!(
            "snapshot {name:?} of domain {:?} cannot be deleted while its guest runs: {} would become \
             one with {} beneath disk {}; shut it down first, or forget the snapshot alone \
             (--metadata)",
            self.name,
            merge.from.display(),
            merge.into.display(),
            merge.disk
        );
        Err(Error::new(Code::InvalidState, text))
    }

    /// An image below that of a running guest is its ground.
    fn check_inside(&self, work: &DeleteWork) -> Result<(), Error> {
        let Some(run) = &self.run else { return Ok(()) };
        let pools = self.active_pools();
        let open = chain_paths(&run.live.def, &pools);
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
        blocking(move || merges.iter().try_for_each(|it| merge(&*node.broker, it, &progress)))
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

/// Every file that a running domain's disks are made of.
fn chain_paths(def: &DomainDef, pools: &[PoolView]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for disk in &def.devices.disks {
        found.extend(place(disk, pools));
        let mut below = disk.backing_store.as_ref();
        while let Some(store) = below {
            found.extend(path_of(store).map(Path::to_owned));
            below = store.backing_store.as_deref();
        }
    }
    found
}

fn path_of(store: &BackingStore) -> Option<&Path> {
    let source = store.source.as_ref()?;
    source.file.as_deref().or(source.dev.as_deref())
}

/// The files that a domain's disks write to.
fn tops(def: &DomainDef, pools: &[PoolView]) -> BTreeSet<PathBuf> {
    def.devices.disks.iter().filter_map(|disk| place(disk, pools)).collect()
}
