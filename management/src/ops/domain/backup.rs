//! Backups of running domains, and the checkpoints that they begin at.

use std::time::Duration;

use xml::{BackupDef, CheckpointDef};

use crate::agent;
use crate::auth::{Access, Subject};
use crate::domain::actor::blocking;
use crate::domain::backup::{
    CheckpointChange, NewBackup, backup_xml, checkpoint_xml, describe, watch,
};
use crate::domain::handle::Act;
use crate::domain::{CheckpointView, Children, DomainRef};
use crate::error::{Code, Error};
use crate::jobs::Job;
use crate::manager::{Context, Operation};
use crate::translate::invalid;

const LONGEST: Duration = Duration::from_secs(60);

fn checkpoint(text: &str) -> Result<CheckpointDef, Error> {
    CheckpointDef::parse(text).map(|parsed| parsed.value).map_err(invalid)
}

/// Back up disks of a running domain as they are now (virDomainBackupBegin).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginBackup {
    pub domain: DomainRef,
    /// `<domainbackup>`.
    pub xml: String,
    /// `<domaincheckpoint>`, made at the same moment.
    pub checkpoint: Option<String>,
    /// Targets of a push are there already.
    pub reuse: bool,
}

impl Operation for BeginBackup {
    /// Which ends with the backup; one that is pulled ends when it is aborted.
    type Output = Job;
    const NAME: &'static str = "domain.backup-begin";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Job, Error> {
        let handle = cx.find(&self.domain)?;
        let view = handle.view();
        let Some(live) = view.live else {
            let text = format!("domain {:?} is not running", view.name);
            return Err(Error::new(Code::InvalidState, text));
        };
        let def = BackupDef::parse(&self.xml).map(|parsed| parsed.value).map_err(invalid)?;
        let checkpoint = self.checkpoint.as_deref().map(checkpoint).transpose()?;
        let backup = NewBackup { def, checkpoint, reuse: self.reuse };
        handle.act(Act::BeginBackup(Box::new(backup)), LONGEST).await?;
        let vmm = handle.view().vmm.ok_or_else(|| {
            let text = format!("the VMM of domain {:?} does not answer", view.name);
            Error::new(Code::VmmUnreachable, text)
        })?;
        watch(cx.node.clone(), view.name, live.run_dir.clone(), vmm).await
    }
}

/// What the backup that is under way was asked for (virDomainBackupGetXMLDesc).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpBackup {
    pub domain: DomainRef,
}

impl Operation for DumpBackup {
    type Output = String;
    const NAME: &'static str = "domain.backup-xml";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let view = cx.find(&self.domain)?.view();
        blocking(move || backup_xml(&view)).await
    }
}

/// Record from now on what is written to the disks of a running domain
/// (virDomainCheckpointCreateXML).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateCheckpoint {
    pub domain: DomainRef,
    /// `<domaincheckpoint>`; none: of all disks, named by the time.
    pub xml: Option<String>,
    /// Only what is known of it: its bitmaps are there already.
    pub redefine: bool,
    /// And see whether they are.
    pub validate: bool,
    /// The guest's agent holds its file systems still meanwhile.
    pub quiesce: bool,
}

impl Operation for CreateCheckpoint {
    type Output = CheckpointView;
    const NAME: &'static str = "domain.checkpoint-create";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<CheckpointView, Error> {
        let handle = cx.find(&self.domain)?;
        let def = self.xml.as_deref().map(checkpoint).transpose()?.unwrap_or_default();
        let name = def.name.clone();
        if self.quiesce && self.redefine {
            let text = "file systems are held still (quiesce) for a checkpoint that is made, not for \
                        one that is defined anew";
            return Err(Error::new(Code::InvalidArgument, text));
        }
        if self.validate && !self.redefine {
            let text = "what is validated is a checkpoint that is defined anew (redefine)";
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let change = match self.redefine {
            true => CheckpointChange::Redefine { def: Box::new(def), validate: self.validate },
            false => CheckpointChange::Create(Box::new(def)),
        };
        if self.quiesce {
            agent::freeze_until_thawed(&handle).await?;
        }
        let done = handle.act(Act::ChangeCheckpoints(change), LONGEST).await;
        if self.quiesce {
            // Also when it came to nothing.
            let thawed = agent::thaw(&handle).await;
            done.and(thawed.map(drop))?;
        } else {
            done?;
        }
        let chain = read(cx, &self.domain).await?;
        let views = describe(&chain);
        let made = match name {
            Some(name) => views.into_iter().find(|view| view.name == name),
            None => views.into_iter().next_back(),
        };
        made.ok_or_else(|| Error::new(Code::NotFound, "the checkpoint was deleted meanwhile"))
    }
}

/// Forget a checkpoint; its parent has recorded what it had (virDomainCheckpointDelete).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteCheckpoint {
    pub domain: DomainRef,
    pub name: String,
    pub children: Children,
    /// Its bitmaps stay.
    pub metadata_only: bool,
}

impl Operation for DeleteCheckpoint {
    type Output = ();
    const NAME: &'static str = "domain.checkpoint-delete";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let Self { domain, name, children, metadata_only } = self;
        let change = CheckpointChange::Delete { name, children, metadata_only };
        cx.find(&domain)?.act(Act::ChangeCheckpoints(change), LONGEST).await
    }
}

/// The oldest first (virDomainListAllCheckpoints).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListCheckpoints {
    pub domain: DomainRef,
}

impl Operation for ListCheckpoints {
    type Output = Vec<CheckpointView>;
    const NAME: &'static str = "domain.checkpoint-list";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<CheckpointView>, Error> {
        Ok(describe(&read(cx, &self.domain).await?))
    }
}

/// One of them in full (virDomainCheckpointGetXMLDesc).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpCheckpoint {
    pub domain: DomainRef,
    pub name: String,
    /// Without the domain's definition.
    pub no_domain: bool,
    /// With what was written since.
    pub size: bool,
}

impl Operation for DumpCheckpoint {
    type Output = String;
    const NAME: &'static str = "domain.checkpoint-xml";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let view = cx.find(&self.domain)?.view();
        let chain = read(cx, &self.domain).await?;
        checkpoint_xml(&view, &chain, &self.name, !self.no_domain, self.size).await
    }
}

async fn read(
    cx: &Context,
    domain: &DomainRef,
) -> Result<Vec<crate::checkpoints::Checkpoint>, Error> {
    let (node, uuid) = (cx.node.clone(), cx.find(domain)?.uuid);
    blocking(move || node.checkpoints.read(uuid)).await
}
