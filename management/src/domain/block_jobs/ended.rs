//! What becomes of block jobs: they are ready, or have ended, and their domain's disk is another one. Also where
//! another daemon, or a connection that is gone, would have heard of it.

use tokio::sync::oneshot;
use vmm_protocol::block_job::{BlockJobPhase, BlockJobStatus};
use vmm_protocol::control::Request;

use super::super::actor::Actor;
use super::super::block_job_watch::watch;
use super::super::disk_chain::{self, ChainNode};
use super::super::media::position;
use super::super::{DomainRef, clean, plug};
use super::{BlockJobIntent, read};
use crate::events::{BlockJobChange, EventKind};
use crate::journal::Origin;

impl Actor {
    /// The VMM says what became of a job. Whoever ended it has heard it before, unless that was
    /// another daemon.
    pub(in crate::domain) async fn on_block_job(
        &mut self,
        said: BlockJobStatus,
        origin: Option<Origin>,
    ) {
        let intent = self.run.as_ref().and_then(|run| run.record.block_jobs.get(&said.id));
        let Some(intent) = intent.cloned() else { return };
        if said.phase == BlockJobPhase::Running {
            return;
        }
        // It may be late, and speak of an earlier job of this disk: what the guest uses, the VMM knows.
        let now = match self.ask_block_jobs().await {
            Ok(jobs) => jobs.into_iter().find(|job| job.id == said.id),
            Err(error) => {
                // It is asked again when it is met again.
                tracing::warn!(domain = self.name, error = %error.chain(), "the end of a block job is not known");
                None
            }
        };
        match now.map(|job| job.phase) {
            None | Some(BlockJobPhase::Running) => {}
            Some(BlockJobPhase::Ready) if said.phase == BlockJobPhase::Ready => {
                self.block_job_is_ready(&said.id).await;
                self.tell_block_job(&intent, BlockJobChange::Ready, origin);
            }
            Some(BlockJobPhase::Ready) => {}
            Some(phase) => self.block_job_ended(&said.id, &phase, origin).await,
        }
    }

    async fn block_job_is_ready(&mut self, alias: &str) {
        let intent = self.run.as_mut().and_then(|run| run.record.block_jobs.get_mut(alias));
        if let Some(intent) = intent.filter(|intent| !intent.ready) {
            intent.ready = true;
            self.show_block_jobs().await;
        }
    }

    /// The live definition shows what disks are copied to.
    pub(super) async fn show_block_jobs(&mut self) {
        if let Some(run) = &self.run {
            let def = run.live.def.clone();
            self.show_live(def).await;
        }
    }

    fn tell_block_job(
        &self,
        intent: &BlockJobIntent,
        change: BlockJobChange,
        origin: Option<Origin>,
    ) {
        self.announce(self.block_job_event(intent, change), origin);
    }

    fn block_job_event(&self, intent: &BlockJobIntent, change: BlockJobChange) -> EventKind {
        let run = self.run.as_ref();
        let live = run.and_then(|run| {
            position(&run.live.def, &intent.target).map(|at| &run.live.def.devices.disks[at])
        });
        let path = live.and_then(|disk| disk_chain::nodes(disk)[0].path().cloned());
        EventKind::BlockJob {
            disk: clean(&intent.target),
            path: path.map(|path| path.display().to_string()),
            kind: intent.kind,
            change,
        }
    }

    pub(super) async fn block_job_ended(
        &mut self,
        alias: &str,
        phase: &BlockJobPhase,
        origin: Option<Origin>,
    ) {
        let intent = self.run.as_ref().and_then(|run| run.record.block_jobs.get(alias).cloned());
        let Some(intent) = intent else { return };
        let change = match phase {
            BlockJobPhase::Running | BlockJobPhase::Ready => return,
            BlockJobPhase::Completed => BlockJobChange::Completed,
            BlockJobPhase::Cancelled => BlockJobChange::Cancelled,
            BlockJobPhase::Failed { error } => BlockJobChange::Failed { error: clean(error) },
        };
        let completed = change == BlockJobChange::Completed;
        if !completed {
            self.take_back_pivot(alias).await;
        }
        self.note_merged_or_say(&intent, completed).await;
        // libvirt tells of a job by the image that the disk had when it began.
        let told = self.block_job_event(&intent, change.clone());
        if let Some(run) = &mut self.run {
            run.record.block_jobs.remove(alias);
        }
        match read(&intent.after) {
            Ok(after) if completed => {
                let nodes = disk_chain::nodes(&after);
                let target = &intent.target;
                self.change_live(|def| {
                    let Some(at) = position(def, target) else { return };
                    let disk = &mut def.devices.disks[at];
                    // That which the domain was started from has no aliases.
                    match disk.alias {
                        Some(_) => disk_chain::show(disk, &nodes),
                        None => disk_chain::start_with(disk, &nodes),
                    }
                })
                .await;
                self.forget_stored_chain(target, &nodes).await;
            }
            Ok(_) => self.show_block_jobs().await,
            Err(error) => {
                tracing::error!(domain = self.name, error = %error.chain(), "what a block job made of a disk cannot be read");
            }
        }
        // Whoever hears of it finds the disk as it is now.
        self.announce(told, origin);
        if let Err(error) = self.tell(Request::DismissBlockJob { id: alias.to_owned() }).await {
            tracing::warn!(domain = self.name, error = %error.chain(), "the VMM keeps word of a block job");
        }
        if completed {
            self.remove_images(intent.remove).await;
        }
        if let Some(ended) = self.block_jobs.remove(alias) {
            // Whoever watches it may be gone.
            let _ = ended.send(change);
        }
    }

    /// A stored definition that says what lies below its image says what was.
    async fn forget_stored_chain(&mut self, target: &str, nodes: &[ChainNode]) {
        let Some(old) = self.definition.clone() else { return };
        let Some(at) = position(&old.def, target) else { return };
        let disk = &old.def.devices.disks[at];
        let own = disk_chain::nodes(disk);
        let same = own.first().and_then(ChainNode::path) == nodes.first().and_then(ChainNode::path);
        if !same || own.len() < 2 {
            return;
        }
        let mut def = old.def.clone();
        def.devices.disks[at].backing_store = None;
        if let Err(error) = self.put(plug::next(&old.stored, &def), def).await {
            tracing::error!(domain = self.name, error = %error.chain(), "the definition names images that are no part of its disk");
        }
    }

    /// Jobs that were there when the connection was lost, or another daemon stopped.
    pub(in crate::domain) async fn settle_block_jobs(&mut self) {
        if let Some(partial) = self.run.as_ref().and_then(|run| run.record.making.clone()) {
            self.remove_images(vec![partial]).await;
            if let Err(error) = self.set_making(None) {
                tracing::warn!(domain = self.name, error = %error.chain(), "cannot update the record");
            }
        }
        let known = self.run.as_ref().map(|run| run.record.block_jobs.clone()).unwrap_or_default();
        if known.is_empty() {
            return;
        }
        let Ok(jobs) = self.ask_block_jobs().await else { return };
        for (alias, intent) in known {
            match jobs.iter().find(|job| job.id == alias) {
                Some(job) => {
                    // A pivot that was meant and did not come: it is asked for again by whoever wants it.
                    if !job.phase.has_ended() {
                        self.take_back_pivot(&alias).await;
                        self.note_merged_or_say(&intent, false).await;
                    }
                    if job.phase == BlockJobPhase::Ready {
                        self.block_job_is_ready(&alias).await;
                    }
                    self.block_job_ended(&alias, &job.phase, None).await;
                    // The deletion of a snapshot looks after its own.
                    let watched = self.block_jobs.contains_key(&alias) || intent.deletes.is_some();
                    if !job.phase.has_ended() && !watched {
                        self.watch_block_job(&alias, &intent);
                    }
                }
                // It never began.
                None => {
                    if let Err(error) = self.intend_block_job(&alias, None) {
                        tracing::warn!(domain = self.name, error = %error.chain(), "cannot update the record");
                    }
                }
            }
        }
    }

    /// It is a job of this daemon, too.
    fn watch_block_job(&mut self, alias: &str, intent: &BlockJobIntent) {
        let Ok(handle) = self.node.find(&DomainRef::Uuid(self.uuid)) else { return };
        let (ended, hear) = oneshot::channel();
        let watched = watch(&self.node.jobs, handle, &intent.target, intent.kind, hear);
        match watched {
            Ok(_) => drop(self.block_jobs.insert(alias.to_owned(), ended)),
            Err(error) => tracing::warn!(error = %error.chain(), "a block job goes on unwatched"),
        }
    }
}
