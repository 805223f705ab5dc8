//! Verbs of backups and checkpoints.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct BackupBegin {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// domain backup XML (without: every disk, pushed beside its image)
    pub(crate) backupxml: Option<PathBuf>,
    /// domain checkpoint XML, of a checkpoint at the same moment
    pub(crate) checkpointxml: Option<PathBuf>,
    /// reuse files provided by caller
    #[arg(long)]
    pub(crate) reuse_external: bool,
    /// wait until it is done, and display its progress
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointCreate {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// domain checkpoint XML (without: of every disk, named by the time)
    pub(crate) xmlfile: Option<PathBuf>,
    /// redefine metadata for existing checkpoint
    #[arg(long)]
    pub(crate) redefine: bool,
    /// validate the redefined checkpoint
    #[arg(long, requires = "redefine")]
    pub(crate) redefine_validate: bool,
    /// quiesce guest's file systems
    #[arg(long, conflicts_with = "redefine")]
    pub(crate) quiesce: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointCreateAs {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// name of checkpoint
    pub(crate) name: Option<String>,
    /// description of checkpoint
    pub(crate) description: Option<String>,
    /// print XML document rather than create
    #[arg(long)]
    pub(crate) print_xml: bool,
    /// quiesce guest's file systems
    #[arg(long)]
    pub(crate) quiesce: bool,
    /// disk attributes: disk[,checkpoint=type][,bitmap=name]
    #[arg(long, value_name = "SPEC")]
    pub(crate) diskspec: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointList {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// add a column showing parent checkpoint
    #[arg(long)]
    pub(crate) parent: bool,
    /// list checkpoint names only
    #[arg(long)]
    pub(crate) name: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Checkpoint {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// checkpoint name
    pub(crate) checkpoint: String,
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointDumpxml {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// checkpoint name
    pub(crate) checkpoint: String,
    /// exclude <domain> from XML
    #[arg(long)]
    pub(crate) no_domain: bool,
    /// include backup size estimate in XML dump
    #[arg(long)]
    pub(crate) size: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointDelete {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// checkpoint name
    pub(crate) checkpoint: String,
    /// delete checkpoint and all children
    #[arg(long)]
    pub(crate) children: bool,
    /// delete children but not checkpoint
    #[arg(long, conflicts_with = "children")]
    pub(crate) children_only: bool,
    /// delete only the metadata: its bitmaps stay
    #[arg(long)]
    pub(crate) metadata: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Domjobinfo {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// return statistics of a recently completed job
    #[arg(long)]
    pub(crate) completed: bool,
}
