//! Going on from a saved state.
//!
//! ```text
//! intent ─▶ VMM built, paused ─▶ managed save: put aside ─▶ resumed ─▶ removed
//!             └ before this: the guest is still in the file ┘ after: it is not
//! ```
//! A file that the user named stays: it is his. Its disks change as soon as the guest runs, so it
//! is refused a second time.

use std::fs::File;
use std::path::PathBuf;

use broker::Broker;
use serde::{Deserialize, Serialize};
use vmm_protocol::control::Request;
use xml::DomainDef;

use super::actor::{Actor, blocking};
use super::handle::Start;
use super::{ShutOff, State};
use crate::error::{Code, Error};
use crate::saved::Saved;
use crate::translate;

/// A saved state that a start takes up.
#[derive(Debug, Clone)]
pub(crate) struct FromSaved {
    pub file: std::sync::Arc<File>,
    pub def: DomainDef,
    pub platform: u16,
    pub intent: RestoreIntent,
}

/// In the record of a domain that has not run since it was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestoreIntent {
    /// What is gone once the guest runs.
    pub managed: Option<PathBuf>,
    /// It is to run.
    pub run: bool,
    /// The file cannot be taken up any more: the guest may have run.
    #[serde(default)]
    pub used: bool,
}

impl FromSaved {
    /// Checked, so far as the host's disks go. `run`: else as the file says.
    pub(crate) fn new(
        broker: &dyn Broker,
        saved: Saved,
        def: Option<DomainDef>,
        run: Option<bool>,
        is_managed: bool,
        force: bool,
    ) -> Result<Self, Error> {
        if !force {
            saved.description.images.iter().try_for_each(|mark| mark.check(broker))?;
        }
        let def = match def {
            Some(def) => def,
            None => saved.description.def()?,
        };
        let intent = RestoreIntent {
            managed: is_managed.then(|| saved.path.clone()),
            run: run.unwrap_or(saved.description.running),
            used: false,
        };
        let platform = saved.description.platform;
        Ok(Self { file: std::sync::Arc::new(saved.file), def, platform, intent })
    }
}

/// What a managed save is called from the moment on that the guest may run.
fn aside(path: &std::path::Path) -> PathBuf {
    path.with_extension("used")
}

impl Actor {
    /// At the start of the daemon, where there is no VMM that may need it: what is left of a save or
    /// a restore that the host's end broke off goes.
    pub(super) async fn tidy_managed_save(&mut self) {
        let (node, path) = (self.node.clone(), self.node.managed_save(self.uuid));
        let tidied = blocking(move || {
            for left in [aside(&path), path.with_extension("partial")] {
                node.remove_own_saved(&left)?;
            }
            Ok(())
        });
        if let Err(error) = tidied.await {
            tracing::error!(domain = self.name, error = %error.chain(), "a file is left");
        }
    }

    pub(super) async fn open_managed_save(&self, how: Start) -> Result<FromSaved, Error> {
        let (node, path) = (self.node.clone(), self.node.managed_save(self.uuid));
        let name = self.name.clone();
        let opened = blocking(move || {
            let saved = Saved::open(&*node.broker, &path)?;
            let run = how.paused.then_some(false);
            let mut from = FromSaved::new(&*node.broker, saved, None, run, true, how.force)?;
            // It may have been renamed meanwhile.
            translate::rename(&mut from.def, &name)?;
            Ok(from)
        });
        opened.await.map_err(|error| {
            let text = format!(
                "domain {:?} cannot go on from its saved state: {} (start --force-boot drops that \
                 state)",
                self.name, error.message
            );
            Error::new(error.code, text)
        })
    }

    pub(super) async fn drop_managed_save(&mut self) -> Result<(), Error> {
        let (node, path) = (self.node.clone(), self.node.managed_save(self.uuid));
        blocking(move || Ok(node.broker.remove_saved(&path)?)).await?;
        self.managed_save = false;
        if self.state() == State::ShutOff(ShutOff::Saved) {
            self.stopped = ShutOff::Unknown;
        }
        Ok(())
    }

    pub(super) async fn redefine_managed_save(
        &mut self,
        def: Option<DomainDef>,
        running: Option<bool>,
    ) -> Result<(), Error> {
        if !self.managed_save {
            let text = format!("domain {:?} has no managed save", self.name);
            return Err(Error::new(Code::NotFound, text));
        }
        let (node, path) = (self.node.clone(), self.node.managed_save(self.uuid));
        blocking(move || redefine(Saved::open(&*node.broker, &path)?, def, running)).await
    }

    /// The machine is built, and waits. From here on it is this one that lives.
    pub(super) async fn go_on_restored(&mut self) -> Result<(), Error> {
        let Some(mut intent) = self.run.as_ref().and_then(|run| run.record.restoring.clone())
        else {
            return Ok(());
        };
        if let Some(path) = intent.managed.clone()
            && !intent.used
        {
            let node = self.node.clone();
            let put = blocking(move || {
                if node.broker.is_there(&path)? {
                    node.broker.rename_saved(&path, &aside(&path))?;
                }
                Ok(())
            });
            if let Err(error) = put.await {
                return Err(self.give_up(error).await);
            }
            self.managed_save = false;
        }
        intent.used = true;
        if let Some(run) = &mut self.run {
            run.record.restoring = Some(intent.clone());
        }
        self.keep_record().await;
        if intent.run {
            self.tell(Request::Resume).await?;
        }
        self.end_restore(&intent).await;
        if let Some(run) = &mut self.run {
            run.record.restoring = None;
        }
        self.keep_record().await;
        self.refresh().await;
        self.have_clock_set().await;
        Ok(())
    }

    /// A guest that runs for the first time since it was saved has its agent set its clock.
    pub(super) async fn have_clock_set(&mut self) {
        let runs = matches!(self.state(), State::Running(_));
        let Some(run) = self.run.as_mut().filter(|run| runs && run.record.clock_stands) else {
            return;
        };
        run.record.clock_stands = false;
        if crate::agent::has_channel(&run.live.def)
            && let Ok(handle) = self.node.find(&super::DomainRef::Uuid(self.uuid))
        {
            tokio::spawn(crate::agent::set_after_restore(handle));
        }
        self.keep_record().await;
    }

    /// An earlier daemon died between building the machine and letting it run.
    pub(super) async fn settle_restore(&mut self) {
        if let Err(error) = self.go_on_restored().await {
            tracing::error!(domain = self.name, error = %error.chain(), "does not go on");
        }
    }

    /// The guest runs, or its VMM has ended: it is in the file only if it never could run.
    pub(super) async fn end_restore(&mut self, intent: &RestoreIntent) {
        let Some(path) = intent.managed.clone() else { return };
        let (node, used) = (self.node.clone(), intent.used);
        let settled = blocking(move || match used {
            true => Ok(node.broker.remove_saved(&aside(&path))?),
            false if node.broker.is_there(&aside(&path))? => {
                Ok(node.broker.rename_saved(&aside(&path), &path)?)
            }
            false => Ok(()),
        });
        if let Err(error) = settled.await {
            tracing::error!(domain = self.name, error = %error.chain(), "a used state is left");
        }
        self.look_for_managed_save().await;
    }
}

/// Give a saved guest another definition, or another state to go on in.
pub(crate) fn redefine(
    mut saved: Saved,
    def: Option<DomainDef>,
    running: Option<bool>,
) -> Result<(), Error> {
    let mut description = saved.description.clone();
    if let Some(def) = def {
        if def.uuid != Some(description.uuid) || *def.name != *description.name {
            let text = format!(
                "{} is a saved state of domain {:?} ({}), and stays one: name and UUID cannot be \
                 changed",
                saved.path.display(),
                description.name,
                description.uuid
            );
            return Err(Error::new(Code::InvalidArgument, text));
        }
        description.xml = def.to_xml();
    }
    description.running = running.unwrap_or(description.running);
    saved.rewrite(description)
}
