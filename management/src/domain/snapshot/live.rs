//! A snapshot of a guest that runs or waits: its memory, and its disks at the same moment.

use std::fs::File;
use std::path::PathBuf;

use broker::{SavedAct, Sharing};
use vmm_protocol::config::{Cache, Fd, ImageFormat, Layer};
use vmm_protocol::control::{DiskSwap, MAX_FILES, Request, SwapLayer};
use xml::device::disk::Disk;

use super::create::{Plan, partial};
use crate::domain::actor::{Actor, blocking};
use crate::domain::launch::name_holder;
use crate::domain::save::{Save, SaveFormat, SaveIntent, commit_file, explain, passed_on};
use crate::domain::{Paused, State};
use crate::error::{Code, Error};
use crate::jobs::Progress;
use crate::snapshots::place;
use crate::translate;
use crate::translate::machine_devices::cache;

impl Actor {
    pub(super) async fn snapshot_running(
        &mut self,
        plan: &Plan,
        progress: &Progress,
    ) -> Result<(), Error> {
        let memory = plan.snapshot.memory().is_some();
        // Disks alone are exchanged at one moment by the VMM itself.
        let stops = (memory || plan.snapshot.kept.variables.is_some()) && plan.work.resume;
        let kept = match plan.snapshot.memory().cloned() {
            Some(path) => Some(self.make_memory_file(plan, path).await?),
            None => None,
        };
        let copied = match &kept {
            Some(kept) if plan.live && stops => {
                let copied = self.copy_memory(&kept.file, progress).await;
                not_cancelled(progress)?;
                copied.map_err(|error| explain(error, &kept.path))?
            }
            _ => false,
        };
        if stops {
            self.tell(Request::Pause).await?;
            self.enter(State::Paused(if memory { Paused::Save } else { Paused::User }));
            self.publish();
        }
        if let Some(kept) = kept {
            self.write_memory(kept, copied, progress).await?;
        }
        self.keep_variables(plan).await?;
        if !plan.work.internal.is_empty() {
            self.keep_inside(plan).await?;
        }
        if !plan.switches.is_empty() {
            self.change_work(|work| work.swapping = true).await?;
            self.swap_disks(plan).await?;
        }
        if stops {
            self.tell(Request::Resume).await?;
            self.refresh().await;
        }
        if !plan.switches.is_empty() {
            let switches = plan.switches.clone();
            self.change_live(|def| crate::snapshots::switch(def, &switches)).await;
        }
        Ok(())
    }

    /// As that of a saved guest, which waits for it.
    async fn make_memory_file(&mut self, plan: &Plan, path: PathBuf) -> Result<MemoryFile, Error> {
        let save = Save {
            file: Some(path.clone()),
            def: None,
            running: Some(plan.work.resume),
            bypass_cache: false,
            with_host: false,
            // It is mapped by whoever goes back to it.
            format: Some(SaveFormat::Raw),
        };
        let mut intent = self.plan_save(&save)?;
        intent.partial = partial(&path);
        let left = intent.partial.clone();
        let (node, wanted) = (self.node.clone(), path.clone());
        blocking(move || {
            if node.broker.is_there(&wanted)? {
                let text = format!("{} is there already; name another file", wanted.display());
                return Err(Error::new(Code::Exists, text));
            }
            Ok(())
        })
        .await?;
        self.change_work(|work| work.files.push(left)).await?;
        let (node, partial) = (self.node.clone(), intent.partial.clone());
        let in_new_dir = plan.snapshot.kept.memory.is_some();
        let file = blocking(move || {
            let act = SavedAct::Create { path: partial, in_new_dir };
            Ok(File::from(node.broker.saved_file(act)?))
        })
        .await?;
        Ok(MemoryFile { file, path, intent })
    }

    /// All of it, or what is left where most was copied.
    async fn write_memory(
        &mut self,
        kept: MemoryFile,
        copied: bool,
        progress: &Progress,
    ) -> Result<(), Error> {
        let written = match copied {
            true => self.have_written(Request::SaveRest, Vec::new(), progress).await,
            false => self.have_written(Request::Save, vec![passed_on(&kept.file)?], progress).await,
        };
        written.map_err(|error| explain(error, &kept.path))?;
        not_cancelled(progress)?;
        let (node, def) = (self.node.clone(), self.running()?.live.def.clone());
        blocking(move || commit_file(&node, &kept.intent, &kept.file, &def)).await
    }

    /// Snapshots inside the images, all of one moment: the guest waits for its memory to be kept.
    async fn keep_inside(&mut self, plan: &Plan) -> Result<(), Error> {
        let ids = self.ids_of(&plan.work.internal)?;
        let date = plan.snapshot.def.creation_time.and_then(|time| u64::try_from(time).ok());
        let (name, date) = (plan.work.name.clone(), date.unwrap_or_default());
        self.tell(Request::SnapshotDisks { ids, name, date }).await
    }

    /// What the VMM calls the disks that have these images on top.
    pub(super) fn ids_of(&self, images: &[PathBuf]) -> Result<Vec<String>, Error> {
        let def = translate::with_aliases(&self.running()?.live.def);
        let pools = self.active_pools();
        let has = |disk: &&Disk| place(disk, &pools).is_some_and(|path| images.contains(&path));
        Ok(def.devices.disks.iter().filter(has).filter_map(|disk| disk.alias.clone()).collect())
    }

    /// All of them at one moment, or none. What a disk was made of stays below its overlay.
    async fn swap_disks(&mut self, plan: &Plan) -> Result<(), Error> {
        let def = translate::with_aliases(&self.running()?.live.def);
        let (node, switches) = (self.node.clone(), plan.switches.clone());
        let neighbours = node.processes();
        let (swaps, files) = blocking(move || {
            let (mut swaps, mut files) = (Vec::new(), Vec::new());
            for switch in &switches {
                let disk = def.devices.disks.iter().find(|disk| disk.target.dev == switch.disk);
                let gone = || {
                    let text = format!("there is no disk {:?} any more", switch.disk);
                    Error::new(Code::DeviceNotFound, text)
                };
                let disk = disk.ok_or_else(gone)?;
                let id = disk.alias.clone().ok_or_else(gone)?;
                let mode = cache(disk.driver.as_ref().and_then(|driver| driver.cache));
                let direct = matches!(mode, Cache::None | Cache::Directsync);
                let opened = node.broker.open_image(&switch.to, false, direct, Sharing::Exclusive);
                // Far below any limit of files.
                let at = i32::try_from(files.len()).unwrap_or(i32::MAX);
                files.push(name_holder(opened, &neighbours)?);
                let overlay = Layer {
                    format: ImageFormat::Qcow2,
                    file: Fd(at),
                    data_file: None,
                    extents: Vec::new(),
                };
                let kept = (0..depth(disk)).map(SwapLayer::Kept);
                let layers = std::iter::once(SwapLayer::New(overlay)).chain(kept).collect();
                swaps.push(DiskSwap { id, layers });
            }
            Ok((swaps, files))
        })
        .await?;
        if files.len() > MAX_FILES {
            let text = format!("more than {MAX_FILES} disks cannot go on in overlays at once");
            return Err(Error::new(Code::Unsupported, text));
        }
        self.tell_with(Request::SwapDisks { swaps }, files).await
    }
}

/// Where the memory of a snapshot goes.
struct MemoryFile {
    file: File,
    path: PathBuf,
    intent: SaveIntent,
}

fn not_cancelled(progress: &Progress) -> Result<(), Error> {
    match progress.is_cancelled() {
        true => Err(Error::new(Code::InvalidState, "the snapshot was cancelled")),
        false => Ok(()),
    }
}

/// Of how many images a running domain's disk is made.
fn depth(disk: &Disk) -> u16 {
    let (mut depth, mut below) = (1, disk.backing_store.as_ref());
    while let Some(store) = below.filter(|store| store.kind.is_some()) {
        depth += 1;
        below = store.backing_store.as_deref();
    }
    depth
}
