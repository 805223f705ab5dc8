//! Save domains and go on from what was saved.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use xml::DomainDef;

use super::define::act_on_claimed;
use super::query::without_secrets;
use crate::auth::{Access, Subject};
use crate::domain::actor::blocking;
use crate::domain::handle::{Act, Start};
use crate::domain::restore::{FromSaved, redefine};
use crate::domain::save::{Save, SaveFormat};
use crate::domain::{DomainId, DomainRef};
use crate::error::{Code, Error};
use crate::jobs::Job;
use crate::manager::{Context, Operation};
use crate::saved::Saved;
use crate::translate::{self, NewIds};

/// As long as memory takes to its disk.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

fn about(file: &Path) -> Subject<'_> {
    Subject::Other("saved state", file.to_string_lossy())
}

/// Save a running domain into a file, and end it (virDomainSaveParams).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveDomain {
    pub domain: DomainRef,
    /// Absolute.
    pub file: PathBuf,
    /// Another definition to go on with: what the guest sees must be the same.
    pub xml: Option<String>,
    /// Whether it is to run when it goes on; none: if it runs now.
    pub running: Option<bool>,
    /// Leave nothing of it in the host's page cache.
    pub bypass_cache: bool,
    /// None: as the daemon is configured.
    pub format: Option<SaveFormat>,
}

impl Operation for SaveDomain {
    type Output = Job;
    const NAME: &'static str = "domain.save";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Job, Error> {
        let view = cx.find(&self.domain)?.view();
        let def = definition(cx, self.xml.as_deref(), (view.uuid, &view.name))?;
        let save = Save {
            file: Some(self.file),
            def: def.map(Box::new),
            running: self.running,
            bypass_cache: self.bypass_cache,
            with_host: false,
            format: self.format,
        };
        start_save(cx, &self.domain, "domain-save", save).await
    }
}

/// Save a running domain for its next start, and end it (virDomainManagedSave).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedSave {
    pub domain: DomainRef,
    /// Whether it is to run when it goes on; none: if it runs now.
    pub running: Option<bool>,
    /// Leave nothing of it in the host's page cache.
    pub bypass_cache: bool,
    /// The host goes down: the guest goes on by itself when it is back, marked for autostart or not.
    pub with_host: bool,
    /// None: as the daemon is configured.
    pub format: Option<SaveFormat>,
}

impl Operation for ManagedSave {
    type Output = Job;
    const NAME: &'static str = "domain.managed-save";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Job, Error> {
        let Self { running, bypass_cache, with_host, format, .. } = self.clone();
        let save = Save { file: None, def: None, running, bypass_cache, with_host, format };
        start_save(cx, &self.domain, "domain-managed-save", save).await
    }
}

/// Whether it can be saved at all is told at once; how it went, by the job.
async fn start_save(
    cx: &Context,
    domain: &DomainRef,
    kind: &'static str,
    save: Save,
) -> Result<Job, Error> {
    let handle = cx.find(domain)?;
    let view = handle.view();
    if view.live.is_none() {
        let text = format!("domain {:?} is not running", view.name);
        return Err(Error::new(Code::InvalidState, text));
    }
    let (jobs, name) = (cx.node.jobs.clone(), view.name);
    blocking(move || {
        jobs.start(kind, name, 0, move |progress| async move {
            handle.act(Act::Save(Box::new(save), progress), LONGEST).await
        })
    })
    .await
}

/// Another definition for a domain that stays who it is.
fn definition(
    cx: &Context,
    xml: Option<&str>,
    (uuid, name): (uuid::Uuid, &str),
) -> Result<Option<DomainDef>, Error> {
    let Some(xml) = xml else { return Ok(None) };
    let def = translate::define(xml, &mut NewIds, &cx.host())?.def;
    if def.uuid != Some(uuid) || &*def.name != name {
        let text = format!("the definition is not of domain {name:?} ({uuid}), which it is for");
        return Err(Error::new(Code::InvalidArgument, text));
    }
    Ok(Some(def))
}

/// A saved definition for those who look.
fn shown(xml: String, secure: bool) -> Result<String, Error> {
    if secure {
        return Ok(xml);
    }
    let def = DomainDef::parse_stored(&xml).map_err(translate::invalid)?.value;
    Ok(without_secrets(def).to_xml())
}

/// Forget what was saved for a domain's next start (virDomainManagedSaveRemove).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropManagedSave {
    pub domain: DomainRef,
}

impl Operation for DropManagedSave {
    type Output = ();
    const NAME: &'static str = "domain.managed-save.drop";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        cx.act(&self.domain, Act::DropManagedSave).await
    }
}

/// The definition that a managed save goes on with (virDomainManagedSaveGetXMLDesc).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpManagedSave {
    pub domain: DomainRef,
    /// With its secrets.
    pub secure: bool,
}

impl Operation for DumpManagedSave {
    type Output = String;
    const NAME: &'static str = "domain.managed-save.xml";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let view = cx.find(&self.domain)?.view();
        if !view.managed_save {
            let text = format!("domain {:?} has no managed save", view.name);
            return Err(Error::new(Code::NotFound, text));
        }
        let saved = open(cx, cx.node.managed_save(view.uuid)).await?;
        shown(saved.description.xml, self.secure)
    }
}

/// Replace it (virDomainManagedSaveDefineXML), or in which state it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefineManagedSave {
    pub domain: DomainRef,
    pub xml: Option<String>,
    pub running: Option<bool>,
}

impl Operation for DefineManagedSave {
    type Output = ();
    const NAME: &'static str = "domain.managed-save.define";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let view = cx.find(&self.domain)?.view();
        let def = definition(cx, self.xml.as_deref(), (view.uuid, &view.name))?;
        cx.act(&self.domain, Act::RedefineManagedSave(def.map(Box::new), self.running)).await
    }
}

/// Go on from a file (virDomainRestoreParams).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreDomain {
    /// Absolute.
    pub file: PathBuf,
    /// Another definition to go on with: what the guest sees must be the same.
    pub xml: Option<String>,
    /// Whether it is to run; none: as it was saved.
    pub running: Option<bool>,
    /// Go on also over disks that have changed since.
    pub force: bool,
    /// Read all memory first, and compare its checksums.
    pub verify: bool,
    /// Make the firmware's variables anew.
    pub reset_variables: bool,
}

impl Operation for RestoreDomain {
    type Output = DomainId;
    const NAME: &'static str = "domain.restore";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.file)
    }

    async fn run(self, cx: &Context) -> Result<DomainId, Error> {
        let saved = open(cx, self.file).await?;
        let (uuid, name) = (saved.description.uuid, saved.description.name.clone());
        let def = definition(cx, self.xml.as_deref(), (uuid, &name))?;
        let (verify, running, force) = (self.verify, self.running, self.force);
        let node = cx.node.clone();
        let from = blocking(move || {
            if verify {
                saved.check(&Default::default())?;
            }
            FromSaved::new(&*node.broker, saved, def, running, false, force)
        })
        .await?;
        let domain = DomainId { uuid, name };
        let how = Start { reset_variables: self.reset_variables, ..Start::default() };
        let start = || Act::Start {
            def: Some(Box::new(from.def.clone())),
            seed: None,
            how,
            from: Some(Box::new(from.clone())),
        };
        act_on_claimed(cx, &domain, start).await?;
        Ok(domain)
    }
}

async fn open(cx: &Context, path: PathBuf) -> Result<Saved, Error> {
    let node = cx.node.clone();
    blocking(move || Saved::open(&*node.broker, &path)).await
}

/// The definition in a saved state (virDomainSaveImageGetXMLDesc), with all its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpSaved {
    /// Absolute.
    pub file: PathBuf,
    /// With its secrets.
    pub secure: bool,
}

impl Operation for DumpSaved {
    type Output = String;
    const NAME: &'static str = "saved.xml";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.file)
    }

    async fn run(self, cx: &Context) -> Result<String, Error> {
        shown(open(cx, self.file).await?.description.xml, self.secure)
    }
}

/// Replace it (virDomainSaveImageDefineXML), or in which state it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefineSaved {
    /// Absolute.
    pub file: PathBuf,
    pub xml: Option<String>,
    pub running: Option<bool>,
}

impl Operation for DefineSaved {
    type Output = ();
    const NAME: &'static str = "saved.define";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.file)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let saved = open(cx, self.file).await?;
        let (uuid, name) = (saved.description.uuid, saved.description.name.clone());
        let def = definition(cx, self.xml.as_deref(), (uuid, &name))?;
        let running = self.running;
        blocking(move || redefine(saved, def, running)).await
    }
}

/// Read all memory of a saved state and compare its checksums, which is a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckSaved {
    /// Absolute.
    pub file: PathBuf,
}

impl Operation for CheckSaved {
    type Output = Job;
    const NAME: &'static str = "saved.check";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.file)
    }

    async fn run(self, cx: &Context) -> Result<Job, Error> {
        let object = self.file.display().to_string();
        let saved = Arc::new(open(cx, self.file).await?);
        let jobs = cx.node.jobs.clone();
        blocking(move || {
            jobs.start("saved-check", object, 0, move |progress| async move {
                blocking(move || saved.check(&progress)).await
            })
        })
        .await
    }
}
