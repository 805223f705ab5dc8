//! An image becomes one with the one below it beneath a guest that has both open: by a block job of
//! its VMM, which the deletion of a snapshot waits for.
//!
//! ```text
//! deletion intended ─▶ block job ─▶ guest's own image: both the same ─▶ merge done ─▶ pivot ─┐
//!                          └─────── one between: its link is changed ─▶ merge done ──────────┴▶ next
//! ```
//! That a merge is done is written down before the guest writes to the lower image: from then on
//! nothing may go there from the upper one, whoever dies.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tokio::sync::oneshot;

use crate::domain::actor::Actor;
use crate::domain::block_jobs::{BlockJobIntent, BlockJobSpec, Deletes};
use crate::domain::disk_chain;
use crate::error::{Code, Error};
use crate::events::BlockJobChange;
use crate::snapshots::{DeleteWork, Merge, Work, place};

/// A merge that a block job does.
#[derive(Debug)]
pub(crate) struct UnderWay {
    /// Of the disk: `vda`
    pub target: String,
    pub ended: oneshot::Receiver<BlockJobChange>,
}

/// Where the images of a merge are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// The guest has none of them.
    Closed,
    /// The upper one is this image of a disk, counted from the guest's own, and the lower one the next.
    Beneath { target: String, at: usize },
}

impl Actor {
    /// Every file that the disks of a running guest are made of.
    pub(super) fn open_images(&self) -> BTreeSet<PathBuf> {
        self.open_chains().into_iter().flat_map(|(_, images)| images).collect()
    }

    /// The images of each disk, the guest's own first.
    fn open_chains(&self) -> Vec<(String, Vec<PathBuf>)> {
        let Some(run) = &self.run else { return Vec::new() };
        let pools = self.active_pools();
        let chain = |disk: &xml::device::disk::Disk| {
            let below = disk_chain::nodes(disk).into_iter().skip(1);
            let below = below.filter_map(|node| node.path().cloned());
            (disk.target.dev.clone(), place(disk, &pools).into_iter().chain(below).collect())
        };
        run.live.def.devices.disks.iter().map(chain).collect()
    }

    /// Refused where the images are open, and not as a block job wants them.
    pub(super) fn stand(&self, snapshot: &str, merge: &Merge) -> Result<Stand, Error> {
        stand(&self.open_chains(), merge).ok_or_else(|| {
            let text = format!(
                "snapshot {snapshot:?} of domain {:?} cannot be deleted while its guest runs: {} \
                 would become one with {} beneath disk {}, where others lie on them; shut it down \
                 first, or forget the snapshot alone (--metadata)",
                self.name,
                merge.from.display(),
                merge.into.display(),
                merge.disk
            );
            Error::new(Code::InvalidState, text)
        })
    }

    /// Have the next merge done that has to do with images of the guest, if there is one.
    pub(super) async fn merge_beneath_guest(
        &mut self,
        work: &DeleteWork,
    ) -> Result<Option<UnderWay>, Error> {
        for merge in &work.merges {
            if let Some((alias, target)) = self.job_of(&work.name, merge) {
                return self.take_over(&work.name, alias, target).map(Some);
            }
            if merge.done {
                continue;
            }
            if let Stand::Beneath { target, at } = self.stand(&work.name, merge)? {
                return self.merge_beneath(&work.name, merge, target, at).await.map(Some);
            }
        }
        Ok(None)
    }

    async fn merge_beneath(
        &mut self,
        snapshot: &str,
        merge: &Merge,
        target: String,
        at: usize,
    ) -> Result<UnderWay, Error> {
        let name = |path: &PathBuf| {
            path.to_str().map(str::to_owned).ok_or_else(|| {
                let text = format!("the name of image {} is no text", path.display());
                Error::new(Code::Unsupported, text)
            })
        };
        let spec = BlockJobSpec::Commit {
            base: Some(name(&merge.into)?),
            top: if at == 0 { None } else { Some(name(&merge.from)?) },
            shallow: false,
            active: at == 0,
            // When nothing names them any more.
            delete: false,
            relative: false,
        };
        let deletes = Deletes { snapshot: snapshot.to_owned(), image: merge.from.clone() };
        let (tell, ended) = oneshot::channel();
        self.start_block_job(&target, spec, 0, tell, Some(deletes)).await?;
        Ok(UnderWay { target, ended })
    }

    /// A block job that there is already: another daemon began it.
    fn take_over(
        &mut self,
        snapshot: &str,
        alias: String,
        target: String,
    ) -> Result<UnderWay, Error> {
        if self.block_jobs.get(&alias).is_some_and(|watched| !watched.is_closed()) {
            return Err(self.being_deleted(snapshot));
        }
        let (tell, ended) = oneshot::channel();
        self.block_jobs.insert(alias, tell);
        Ok(UnderWay { target, ended })
    }

    /// The block jobs that the deletion of this snapshot has: aliases of disks, and what is written down.
    fn jobs_of<'a>(
        &'a self,
        snapshot: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a BlockJobIntent, &'a Deletes)> {
        let jobs = self.run.iter().flat_map(|run| &run.record.block_jobs);
        let deletions = jobs.filter_map(|(alias, it)| Some((alias, it, it.deletes.as_ref()?)));
        deletions.filter(move |(_, _, deletes)| deletes.snapshot == snapshot)
    }

    /// The alias and the target of the disk on which a block job does this merge.
    fn job_of(&self, snapshot: &str, merge: &Merge) -> Option<(String, String)> {
        let mut jobs = self.jobs_of(snapshot);
        let (alias, intent, _) = jobs.find(|(_, _, deletes)| deletes.image == merge.from)?;
        Some((alias.clone(), intent.target.clone()))
    }

    /// Whether somebody waits for a block job of this deletion.
    pub(super) fn is_being_deleted(&self, snapshot: &str) -> bool {
        let watched = |alias| self.block_jobs.get(alias).is_some_and(|it| !it.is_closed());
        self.jobs_of(snapshot).any(|(alias, _, _)| watched(alias))
    }

    pub(super) fn being_deleted(&self, snapshot: &str) -> Error {
        let text = format!(
            "snapshot {snapshot:?} of domain {:?} is being deleted (see job list)",
            self.name
        );
        Error::new(Code::Busy, text)
    }

    /// Both images hold the same, and only the lower one is written to from now on; or not so.
    pub(in crate::domain) async fn note_merged(
        &mut self,
        intent: &BlockJobIntent,
        done: bool,
    ) -> Result<(), Error> {
        let Some(Deletes { snapshot, image }) = &intent.deletes else { return Ok(()) };
        let mut set = self.snapshots();
        let Some(Work::Delete(work)) = &mut set.work else { return Ok(()) };
        let mut merges = work.merges.iter_mut().filter(|_| work.name == *snapshot);
        let Some(merge) = merges.find(|merge| merge.from == *image) else { return Ok(()) };
        if std::mem::replace(&mut merge.done, done) == done {
            return Ok(());
        }
        self.put_snapshots(set).await
    }

    /// The same, where nobody waits for it.
    pub(in crate::domain) async fn note_merged_or_say(
        &mut self,
        intent: &BlockJobIntent,
        done: bool,
    ) {
        if let Err(error) = self.note_merged(intent, done).await {
            tracing::error!(
                domain = self.name,
                error = %error.chain(),
                "what became of an image of a snapshot is not written down"
            );
        }
    }

    /// Whether a deletion has to do with images of the guest, and so is not ended at once.
    pub(super) fn is_beneath_guest(&self, work: &DeleteWork) -> bool {
        let open = self.open_images();
        work.merges.iter().any(|merge| open.contains(&merge.from))
            || self.jobs_of(&work.name).next().is_some()
    }

    /// A deletion that another daemon began is a job of this one: also if its block job has ended since.
    pub(in crate::domain) fn go_on_deleting(&self) {
        let Some(Work::Delete(work)) = self.snapshots().work else { return };
        if self.is_being_deleted(&work.name) {
            return;
        }
        let Ok(handle) = self.node.find(&crate::domain::DomainRef::Uuid(self.uuid)) else { return };
        let begun = super::deletion::begin(&self.node, handle, super::Delete::one(&work.name));
        if let Err(error) = begun {
            tracing::warn!(error = %error.chain(), snapshot = work.name, "stays half deleted");
        }
    }
}

/// None: some of the images are open, and a block job would not do.
fn stand(chains: &[(String, Vec<PathBuf>)], merge: &Merge) -> Option<Stand> {
    let touches = |image: &PathBuf| {
        *image == merge.from || *image == merge.into || merge.above.contains(image)
    };
    let mut touched = chains.iter().filter(|(_, images)| images.iter().any(touches));
    let Some((target, images)) = touched.next() else { return Some(Stand::Closed) };
    let at = images.iter().position(|image| *image == merge.from)?;
    let above = at.checked_sub(1).map(|at| &images[at]);
    // Whatever else lies on the guest's own image, would see it change.
    let alone = at > 0 || merge.above.is_empty();
    let fits = touched.next().is_none()
        && alone
        && images.get(at + 1) == Some(&merge.into)
        && images.iter().filter(|image| merge.above.contains(image)).eq(above);
    fits.then(|| Stand::Beneath { target: target.clone(), at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chains(disks: &[(&str, &[&str])]) -> Vec<(String, Vec<PathBuf>)> {
        let images = |images: &[&str]| images.iter().map(PathBuf::from).collect();
        disks.iter().map(|(target, of)| ((*target).to_owned(), images(of))).collect()
    }

    fn merge(from: &str, into: &str, above: &[&str]) -> Merge {
        Merge {
            disk: "vda".to_owned(),
            from: from.into(),
            into: into.into(),
            format: "qcow2".to_owned(),
            above: above.iter().map(PathBuf::from).collect(),
            done: false,
        }
    }

    #[test]
    fn a_block_job_takes_neighbours_of_one_disk_and_nothing_else() {
        let open = chains(&[("vda", &["c", "b", "a"]), ("vdb", &["z", "y"])]);
        let beneath = |at| Some(Stand::Beneath { target: "vda".to_owned(), at });
        for (images, expected) in [
            (merge("c", "b", &[]), beneath(0)),
            (merge("b", "a", &["c"]), beneath(1)),
            // A branch that the guest does not have is linked anew afterwards.
            (merge("b", "a", &["c", "d"]), beneath(1)),
            (merge("f", "e", &["g"]), Some(Stand::Closed)),
            // On the guest's own image lies another.
            (merge("c", "b", &["d"]), None),
            (merge("c", "a", &[]), None),
            (merge("d", "c", &[]), None),
            (merge("b", "a", &["c", "z"]), None),
            (merge("b", "a", &[]), None),
        ] {
            assert_eq!(stand(&open, &images), expected, "{images:?}");
        }
    }
}
