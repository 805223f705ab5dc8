//! Making, deleting and telling of checkpoints.

use vmm_protocol::backup::BitmapStatus;
use vmm_protocol::control::{Reply, Request};
use xml::checkpoint::{CheckpointDisk, CheckpointDisks, CheckpointKind, CheckpointParent};
use xml::{CheckpointDef, DomainDef};

use super::chain;
use super::plan::{alias, find};
use super::watch::TOLD;
use crate::checkpoints::{self, Checkpoint};
use crate::domain::actor::Actor;
use crate::domain::handle::View;
use crate::error::{Code, Error};
use crate::translate;

/// A checkpoint, as callers are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointView {
    pub name: String,
    pub parent: Option<String>,
    /// Seconds since 1970.
    pub created: u64,
    pub description: Option<String>,
    /// Writes are recorded in it.
    pub current: bool,
}

/// Which of the checkpoints after it go, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Children {
    Stay,
    /// With it.
    Too,
    /// Instead of it.
    Only,
}

#[derive(Debug)]
pub(crate) enum CheckpointChange {
    Create(Box<CheckpointDef>),
    /// What is known of it alone: its bitmaps are there already. Whether they are is looked at if that is wanted.
    Redefine {
        def: Box<CheckpointDef>,
        validate: bool,
    },
    Delete {
        name: String,
        children: Children,
        /// Its bitmaps stay.
        metadata_only: bool,
    },
}

pub(crate) fn describe(chain: &[Checkpoint]) -> Vec<CheckpointView> {
    let view = |(at, it): (usize, &Checkpoint)| CheckpointView {
        name: it.name.clone(),
        parent: at.checked_sub(1).map(|parent| chain[parent].name.clone()),
        created: it.created,
        description: it.description.clone(),
        current: at + 1 == chain.len(),
    };
    chain.iter().enumerate().map(view).collect()
}

impl Actor {
    pub(in crate::domain) async fn change_checkpoints(
        &mut self,
        change: CheckpointChange,
    ) -> Result<(), Error> {
        let chain = self.chain().await?;
        match change {
            CheckpointChange::Create(wanted) => self.create_checkpoint(*wanted, chain).await,
            CheckpointChange::Redefine { def, validate } => {
                self.redefine_checkpoint(*def, validate, chain).await
            }
            CheckpointChange::Delete { name, children, metadata_only } => {
                self.delete_checkpoints(&name, children, metadata_only, chain).await
            }
        }
    }

    async fn create_checkpoint(
        &mut self,
        wanted: CheckpointDef,
        before: Vec<Checkpoint>,
    ) -> Result<(), Error> {
        let def = self.recorded_def()?;
        let new = chain::new(wanted, &def, &before, jiff::Timestamp::now().as_second())?;
        let changes = chain::begin(&new, &def, &before, &self.bitmaps().await?)?;
        // First it is known: one without bitmaps is deleted like any other.
        self.keep_chain([before.clone(), vec![new]].concat()).await?;
        let told = self.change_bitmaps(changes).await;
        if let Err(error) = &told
            && !matches!(error.code, Code::Timeout | Code::VmmUnreachable)
        {
            self.keep_chain(before).await?;
        }
        told
    }

    /// For what was known elsewhere, or is known otherwise: the description.
    async fn redefine_checkpoint(
        &mut self,
        wanted: CheckpointDef,
        validate: bool,
        mut chain: Vec<Checkpoint>,
    ) -> Result<(), Error> {
        let missing = |what: &str| {
            let text = format!("a checkpoint that is defined anew needs <{what}>");
            Error::new(Code::InvalidXml, text)
        };
        let name = wanted.name.ok_or_else(|| missing("name"))?;
        let disks = wanted.disks.all.into_iter().map(|disk| {
            let recorded = disk.checkpoint != Some(CheckpointKind::No);
            let bitmap = recorded.then(|| disk.bitmap.unwrap_or_else(|| name.clone()));
            checkpoints::CheckpointDisk { disk: disk.name, bitmap }
        });
        let disks: Vec<_> = disks.collect();
        let old = chain.iter().position(|checkpoint| checkpoint.name == name);
        let known = old.map(|at| chain[at].clone());
        let new = Checkpoint {
            description: wanted.description,
            created: wanted
                .creation_time
                .or(known.as_ref().map(|it| it.created))
                .ok_or_else(|| missing("creationTime"))?,
            disks: match (&known, disks.is_empty()) {
                (Some(known), true) => known.disks.clone(),
                (None, true) => return Err(missing("disks")),
                (_, false) => disks,
            },
            domain: match (wanted.domain, known) {
                (Some(domain), _) => crate::ops::without_secrets(domain).to_xml(),
                (None, Some(known)) => known.domain,
                (None, None) => return Err(missing("domain")),
            },
            name,
        };
        if validate {
            self.check_bitmaps(&new).await?;
        }
        match (old, wanted.parent) {
            (Some(at), _) => chain[at] = new,
            (None, Some(parent)) => {
                let at = chain::position(&chain, &parent.name)?;
                chain.insert(at + 1, new);
            }
            (None, None) => chain.insert(0, new),
        }
        if chain.len() > checkpoints::MOST {
            let text = format!("a domain has at most {} checkpoints", checkpoints::MOST);
            return Err(Error::new(Code::InvalidState, text));
        }
        self.keep_chain(chain).await
    }

    /// Of a checkpoint that is defined anew: the disks have the bitmaps that it names, and these can be relied on.
    async fn check_bitmaps(&self, new: &Checkpoint) -> Result<(), Error> {
        let (def, there) = (self.recorded_def()?, self.bitmaps().await?);
        for it in &new.disks {
            let Some(bitmap) = &it.bitmap else { continue };
            let id = alias(find(&def, &it.disk)?);
            let found = there.iter().find(|there| there.disk == id && there.name == *bitmap);
            let why = match found {
                Some(found) if found.inconsistent => "was in use when its image was last closed",
                Some(_) => continue,
                None => "is not there",
            };
            let text = format!(
                "checkpoint {:?}: bitmap {bitmap:?} of disk {} {why}; make another checkpoint, and a full backup",
                new.name, it.disk
            );
            return Err(Error::new(Code::InvalidState, text));
        }
        Ok(())
    }

    async fn delete_checkpoints(
        &mut self,
        name: &str,
        children: Children,
        metadata_only: bool,
        mut chain: Vec<Checkpoint>,
    ) -> Result<(), Error> {
        let at = chain::position(&chain, name)?;
        let (first, end) = match children {
            Children::Stay => (at, at + 1),
            Children::Too => (at, chain.len()),
            Children::Only => (at + 1, chain.len()),
        };
        // The youngest first: each leaves what it had to its parent.
        for at in (first..end).rev() {
            if !metadata_only {
                let def = self.recorded_def()?;
                let changes = chain::delete(&chain, at, &def, &self.bitmaps().await?);
                self.change_bitmaps(changes).await?;
            }
            chain.remove(at);
            self.keep_chain(chain.clone()).await?;
        }
        Ok(())
    }
}

/// One of them as libvirt shows it; `size`: with what was written since.
pub(crate) async fn checkpoint_xml(
    view: &View,
    chain: &[Checkpoint],
    name: &str,
    with_domain: bool,
    size: bool,
) -> Result<String, Error> {
    let at = chain::position(chain, name)?;
    let checkpoint = &chain[at];
    let there = if size { Some(written(view, chain, at).await?) } else { None };
    let disk = |it: &checkpoints::CheckpointDisk| {
        let known =
            there.as_ref().and_then(|sizes| sizes.iter().find(|(disk, _)| *disk == it.disk));
        CheckpointDisk {
            name: it.disk.clone(),
            checkpoint: Some(match &it.bitmap {
                Some(_) => CheckpointKind::Bitmap,
                None => CheckpointKind::No,
            }),
            bitmap: it.bitmap.clone(),
            size: known.map(|(_, bytes)| *bytes),
        }
    };
    // One that cannot be read any more was of another version of this program.
    let domain = DomainDef::parse_stored(&checkpoint.domain).ok().map(|parsed| parsed.value);
    let parent = at.checked_sub(1).map(|at| CheckpointParent { name: chain[at].name.clone() });
    let def = CheckpointDef {
        name: Some(checkpoint.name.clone()),
        description: checkpoint.description.clone(),
        parent,
        creation_time: Some(checkpoint.created),
        disks: CheckpointDisks { all: checkpoint.disks.iter().map(disk).collect() },
        domain: domain.filter(|_| with_domain),
    };
    Ok(def.to_xml())
}

/// Bytes of each disk that were written since a checkpoint, at most: bitmaps may overlap.
async fn written(
    view: &View,
    chain: &[Checkpoint],
    at: usize,
) -> Result<Vec<(String, u64)>, Error> {
    let (Some(live), Some(vmm)) = (&view.live, &view.vmm) else {
        let text = format!("domain {:?} does not run: sizes are known while it does", view.name);
        return Err(Error::new(Code::InvalidState, text));
    };
    let there: Vec<BitmapStatus> = match vmm.ask(Request::ListBitmaps, TOLD).await {
        Ok(Reply::Bitmaps(bitmaps)) => bitmaps,
        Ok(_) => Vec::new(),
        Err(error) => return Err(crate::domain::actor::vmm_error(&view.name, error)),
    };
    let def = translate::with_aliases(&live.def);
    let mut sizes = Vec::new();
    for it in &chain[at].disks {
        let (Ok(disk), Ok(names)) =
            (find(&def, &it.disk), chain::since(chain, &chain[at].name, &it.disk))
        else {
            continue;
        };
        let id = alias(disk);
        let own = there.iter().filter(|it| it.disk == id && names.contains(&it.name));
        sizes.push((it.disk.clone(), own.map(|it| it.dirty).sum()));
    }
    Ok(sizes)
}
