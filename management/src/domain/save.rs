//! Saving a running domain: its state goes into a file, and it goes away.
//!
//! ```text
//! intent in the record ─▶ partial file ─▶ paused ─▶ VMM writes ─▶ described ─▶ renamed ─▶ VMM ends
//!        └────────────── before this: undone, and the guest runs on ──────────────┘
//! ```
//! The file's name is the decision. Whoever finds an intent and the file under its name lets the
//! VMM end; whoever finds an intent and no file lets the guest run on. A VMM that died when it had
//! written everything leaves a partial file that is whole: it gets its name then. So the guest is
//! never in both places, and in neither only if its VMM died while it wrote.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker::{BrokerError, SavedAct};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use uuid::Uuid;
use vmm_protocol::control::{Reply, Request};
use vmm_protocol::saved::Body;
use xml::DomainDef;

use super::actor::{Actor, Link, blocking, vmm_error};
use super::{Paused, ShutOff, State};
use crate::control::Vmm;
use crate::error::{Code, Error};
use crate::jobs::Progress;
use crate::registry::Node;
use crate::saved::{Description, Saved, beside, check_target, marks};

/// Memory goes to a disk as fast as that takes it.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// How often progress is asked for.
const LOOK: Duration = Duration::from_millis(100);
const TOLD: Duration = Duration::from_secs(5);
/// From a connection that ends to a process that does.
const GONE: Duration = Duration::from_millis(500);

/// How a domain is to be saved.
#[derive(Debug, Clone)]
pub(crate) struct Save {
    /// None: where its next start looks.
    pub file: Option<PathBuf>,
    /// Another definition to go on with.
    pub def: Option<Box<DomainDef>>,
    /// Whether it is to run when it goes on; none: if it runs now.
    pub running: Option<bool>,
    /// Leave nothing of it in the host's page cache.
    pub bypass_cache: bool,
    /// It goes on by itself when the host was booted.
    pub with_host: bool,
    /// None: as the daemon is configured.
    pub format: Option<SaveFormat>,
}

/// How memory lies in the file of a saved guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SaveFormat {
    /// As it is, with holes where it is zero: it is mapped by who goes on.
    #[default]
    Raw,
    /// In fewer bytes, and read as a whole by who goes on.
    Zstd,
}

/// In the record: a save is under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SaveIntent {
    pub partial: PathBuf,
    pub path: PathBuf,
    /// The guest ran before, and does again if nothing comes of this.
    pub resume: bool,
    pub description: Box<Description>,
}

impl Node {
    /// Where the saved state lies that the next start of a domain takes up.
    pub(crate) fn managed_save(&self, uuid: Uuid) -> PathBuf {
        self.config.state_dir.join("save").join(format!("{uuid}.save"))
    }

    /// Whether there is a saved state of the daemon's own at this path. Its directory can usually be seen from
    /// here, and then no other process is asked.
    pub(crate) fn may_have(&self, saved: &Path) -> Result<bool, BrokerError> {
        match saved.symlink_metadata() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(_) => self.broker.is_there(saved),
        }
    }

    /// Durable afterwards; none there is no error.
    pub(crate) fn remove_own_saved(&self, saved: &Path) -> Result<(), BrokerError> {
        if self.may_have(saved)? { self.broker.remove_saved(saved) } else { Ok(()) }
    }
}

impl Actor {
    pub(super) async fn save(&mut self, save: Save, progress: Arc<Progress>) -> Result<(), Error> {
        let intent = self.plan_save(&save)?;
        let target = intent.path.clone();
        if save.file.is_some() {
            let node = self.node.clone();
            blocking(move || check_target(&*node.broker, &target)).await?;
        }
        self.set_saving(Some(intent.clone())).await?;
        let saved = self.write_saved(&intent, &save, &progress).await;
        if let Err(error) = saved {
            if error.code == Code::VmmUnreachable && self.wait_end(GONE).await {
                // Whatever it had written by then.
                self.on_end().await;
                return if self.stopped == ShutOff::Saved { Ok(()) } else { Err(error) };
            }
            self.give_up_save(&intent).await;
            return Err(error);
        }
        // From here on it is saved, whatever happens.
        self.end_saved().await
    }

    /// That its state can be had now; whether it runs comes back.
    pub(super) fn may_be_saved(&self) -> Result<bool, Error> {
        let run = self.running()?;
        let runs = match self.state() {
            State::Running(_) => true,
            State::Paused(Paused::User | Paused::Save | Paused::IoError | Paused::Watchdog) => {
                false
            }
            State::Unknown => return Err(self.unreachable()),
            state => {
                let text = format!(
                    "domain {:?} is {}: it can be saved or cloned while it runs or is suspended",
                    self.name,
                    state.name()
                );
                return Err(Error::new(Code::InvalidState, text));
            }
        };
        if run.record.medium.is_some() || !run.record.plugs.is_empty() {
            let text = format!(
                "domain {:?} has a device that comes or goes; save or clone it when that is done",
                self.name
            );
            return Err(Error::new(Code::Busy, text));
        }
        Ok(runs)
    }

    pub(super) fn plan_save(&self, save: &Save) -> Result<SaveIntent, Error> {
        let run = self.running()?;
        let resume = self.may_be_saved()?;
        let token = Uuid::new_v4();
        let (path, partial) = match &save.file {
            Some(path) => (path.clone(), beside(path, token)),
            None => {
                self.stored("its state cannot be kept for a next start; save it to a file")?;
                let path = self.node.managed_save(self.uuid);
                (path.clone(), path.with_extension("partial"))
            }
        };
        let mut def = match &save.def {
            Some(def) => (**def).clone(),
            None => run.live.def.clone(),
        };
        def.forget_run();
        let description = Box::new(Description {
            version: Description::VERSION,
            token,
            uuid: self.uuid,
            name: self.name.clone(),
            platform: run.record.platform,
            saved: jiff::Timestamp::now(),
            running: save.running.unwrap_or(resume),
            xml: def.to_xml(),
            images: Vec::new(),
            with_host: save.with_host,
        });
        Ok(SaveIntent { partial, path, resume, description })
    }

    /// Up to and including the file's name.
    async fn write_saved(
        &mut self,
        intent: &SaveIntent,
        save: &Save,
        progress: &Progress,
    ) -> Result<(), Error> {
        let (node, path, managed) =
            (self.node.clone(), intent.partial.clone(), save.file.is_none());
        let file = blocking(move || {
            if managed {
                // Of a save that broke off when the host did.
                node.broker.remove_saved(&path)?;
            }
            let act = SavedAct::Create { path, in_new_dir: managed };
            Ok(File::from(node.broker.saved_file(act)?))
        });
        let file = file.await?;
        if intent.resume {
            self.tell(Request::Pause).await?;
            self.enter(State::Paused(Paused::Save));
            self.publish();
        }
        let copy = passed_on(&file)?;
        let request = match save.format.unwrap_or(self.node.config.domains.save_image_format) {
            SaveFormat::Raw => Request::Save,
            SaveFormat::Zstd => Request::SavePacked,
        };
        self.have_written(request, vec![copy], progress)
            .await
            .map_err(|error| explain(error, &intent.path))?;
        if progress.is_cancelled() {
            return Err(Error::new(Code::InvalidState, "the save was cancelled"));
        }
        let (node, commit, bypass) = (self.node.clone(), intent.clone(), save.bypass_cache);
        let def = self.running()?.live.def.clone();
        blocking(move || {
            if bypass {
                let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
            }
            commit_file(&node, &commit, &file, &def)
        })
        .await
    }

    /// Until the VMM has everything on disk. A destroy that comes meanwhile ends it.
    pub(super) async fn have_written(
        &mut self,
        request: Request,
        files: Vec<OwnedFd>,
        progress: &Progress,
    ) -> Result<(), Error> {
        let Link::Up { vmm, .. } = &self.running()?.link else { return Err(self.unreachable()) };
        let vmm = vmm.clone();
        let saving = vmm.tell_with(request, files, LONGEST);
        tokio::pin!(saving);
        let mut cancelled = false;
        let result = loop {
            tokio::select! {
                biased;
                destroy = self.destroys.recv(), if self.destroy.is_none() => {
                    self.destroy = destroy;
                    progress.cancel();
                }
                result = &mut saving => break result,
                () = sleep(LOOK) => {}
            }
            if progress.is_cancelled() && !cancelled {
                cancelled = true;
                let _ = vmm.tell(Request::CancelSave, TOLD).await;
            } else {
                look(&vmm, progress).await;
            }
        };
        result.map_err(|error| vmm_error(&self.name, error))
    }

    /// Have memory copied into `file` while the guest runs; [`Request::SaveRest`] takes it from there. False
    /// where that cannot be, and the guest has to wait for all of it: the file is empty again.
    pub(super) async fn copy_memory(
        &mut self,
        file: &File,
        progress: &Progress,
    ) -> Result<bool, Error> {
        let copied = self.have_written(Request::CopyMemory, vec![passed_on(file)?], progress).await;
        match copied {
            Ok(()) => Ok(true),
            // Not all writes can be known; or the VMM is of an earlier version.
            Err(error)
                if matches!(error.code, Code::InvalidState | Code::VmmFailed)
                    && !progress.is_cancelled() =>
            {
                let domain = &self.name;
                tracing::info!(domain, error = %error.chain(), "it waits for its memory to be kept");
                file.set_len(0).map_err(|source| {
                    Error::new(Code::HostFailure, "a file cannot be emptied").with_source(source)
                })?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Undo a save that came to nothing: the guest runs on.
    pub(super) async fn give_up_save(&mut self, intent: &SaveIntent) {
        let (node, partial) = (self.node.clone(), intent.partial.clone());
        // First the file: a guest that runs again must not be in it.
        if let Err(error) = blocking(move || Ok(node.broker.remove_saved(&partial)?)).await {
            tracing::error!(domain = self.name, error = %error.chain(), "a partial file is left");
        }
        if intent.resume
            && self.destroy.is_none()
            && let Err(error) = self.tell(Request::Resume).await
        {
            tracing::error!(domain = self.name, error = %error.chain(), "cannot be resumed");
            return;
        }
        self.refresh().await;
        if let Err(error) = self.set_saving(None).await {
            tracing::warn!(domain = self.name, error = %error.chain(), "cannot update the record");
        }
    }

    /// The file has its name: the VMM is to go.
    async fn end_saved(&mut self) -> Result<(), Error> {
        if let Some(Link::Up { vmm, .. }) = self.run.as_ref().map(|run| &run.link) {
            let vmm = vmm.clone();
            let _ = vmm.tell(Request::Destroy, TOLD).await;
        }
        if !self.wait_end(TOLD).await {
            self.kill().await?;
        }
        self.on_end().await;
        Ok(())
    }

    /// Written down before anything is done, and before anything else is.
    async fn set_saving(&mut self, intent: Option<SaveIntent>) -> Result<(), Error> {
        let dir = self.node.run_dir(self.uuid);
        let Some(run) = &mut self.run else { return Ok(()) };
        run.record.saving = intent;
        let written = run.record.write(&dir);
        if written.is_err() {
            run.record.saving = None;
        }
        written.map_err(|source| {
            let text = format!("cannot write the domain's record in {}", dir.display());
            Error::new(Code::HostFailure, text).with_source(source)
        })
    }

    /// An earlier daemon died while it saved this domain, whose VMM lives.
    pub(super) async fn settle_save(&mut self) {
        let Some(intent) = self.run.as_ref().and_then(|run| run.record.saving.clone()) else {
            return;
        };
        let (node, asked) = (self.node.clone(), intent.clone());
        let saved = blocking(move || Ok(has_its_name(&node, &asked))).await.unwrap_or(false);
        if saved {
            tracing::info!(domain = self.name, "was saved before this daemon came");
            if let Err(error) = Box::pin(self.end_saved()).await {
                tracing::error!(domain = self.name, error = %error.chain(), "does not end");
            }
            return;
        }
        tracing::warn!(domain = self.name, "its save was interrupted: the guest runs on");
        let _ = self.tell(Request::CancelSave).await;
        self.give_up_save(&intent).await;
    }

    /// The VMM has ended with a save under way. Whether the guest is in the file.
    pub(super) async fn finish_save(&mut self, intent: &SaveIntent, live: &DomainDef) -> bool {
        let (node, intent, live) = (self.node.clone(), intent.clone(), live.clone());
        let finished = blocking(move || finish(&node, &intent, &live)).await;
        let saved = match finished {
            Ok(saved) => saved,
            Err(error) => {
                tracing::error!(domain = self.name, error = %error.chain(), "a save is not finished");
                false
            }
        };
        self.look_for_managed_save().await;
        saved
    }

    /// Whether the next start has a saved state to take up.
    pub(super) async fn look_for_managed_save(&mut self) {
        let path = self.node.managed_save(self.uuid);
        let node = self.node.clone();
        let there = blocking(move || Ok(node.broker.is_there(&path)?)).await;
        self.managed_save = there.unwrap_or(self.managed_save);
    }
}

async fn look(vmm: &Vmm, progress: &Progress) {
    if let Ok(Reply::Progress { done, total }) = vmm.ask(Request::SaveProgress, TOLD).await
        && total > 0
    {
        progress.set_total(total);
        let _ = progress.at(done);
    }
}

/// For the VMM, which has its own descriptor of it.
pub(super) fn passed_on(file: &File) -> Result<OwnedFd, Error> {
    file.try_clone().map(OwnedFd::from).map_err(|source| {
        Error::new(Code::HostFailure, "a file cannot be passed on").with_source(source)
    })
}

/// What the VMM says of a file that it knows by descriptor only.
pub(super) fn explain(error: Error, path: &Path) -> Error {
    let full = error.message.contains("No space left") || error.message.contains("os error 28");
    let code = if full { Code::NoSpace } else { error.code };
    let what = if full { "; the guest goes on, and nothing is left of the file" } else { "" };
    Error::new(code, format!("{} cannot be written: {}{what}", path.display(), error.message))
}

/// Describe a file that the VMM is done with, and give it its name.
pub(super) fn commit_file(
    node: &Node,
    intent: &SaveIntent,
    file: &File,
    live: &DomainDef,
) -> Result<(), Error> {
    let pools: Vec<_> = node.pools.views().into_iter().filter(|pool| pool.active).collect();
    let mut description = (*intent.description).clone();
    description.images = marks(&*node.broker, live, &pools);
    description.write(file, &intent.path)?;
    node.broker.rename_saved(&intent.partial, &intent.path)?;
    Ok(())
}

fn has_its_name(node: &Node, intent: &SaveIntent) -> bool {
    let found = Saved::open(&*node.broker, &intent.path);
    found.is_ok_and(|saved| saved.description.token == intent.description.token)
}

/// Once the VMM is gone. What it could still write to is written again: the description, so that it
/// is ours, and what the disks are like now that nobody writes to them.
fn finish(node: &Node, intent: &SaveIntent, live: &DomainDef) -> Result<bool, Error> {
    let open = |path: &Path| node.broker.saved_file(SavedAct::Open { path: path.to_owned() });
    if has_its_name(node, intent) {
        let mut saved = Saved::open(&*node.broker, &intent.path)?;
        let pools: Vec<_> = node.pools.views().into_iter().filter(|pool| pool.active).collect();
        let mut description = (*intent.description).clone();
        description.images = marks(&*node.broker, live, &pools);
        if let Err(error) = saved.rewrite(description) {
            tracing::warn!(error = %error.chain(), "a saved guest keeps an earlier description");
        }
        return Ok(true);
    }
    let Ok(file) = open(&intent.partial).map(File::from) else { return Ok(false) };
    if Body::read(&file).is_ok() {
        commit_file(node, intent, &file, live)?;
        return Ok(true);
    }
    node.broker.remove_saved(&intent.partial)?;
    Ok(false)
}
