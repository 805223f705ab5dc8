//! Verbs of snapshots.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Clone, Copy, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct HowMade {
    /// take snapshot but create no metadata
    #[arg(long)]
    pub(crate) no_metadata: bool,
    /// halt domain after snapshot is created
    #[arg(long)]
    pub(crate) halt: bool,
    /// capture disk state but not vm state
    #[arg(long)]
    pub(crate) disk_only: bool,
    /// reuse any existing external files
    #[arg(long)]
    pub(crate) reuse_external: bool,
    /// quiesce guest's file systems
    #[arg(long)]
    pub(crate) quiesce: bool,
    /// require atomic operation (always done)
    #[arg(long)]
    pub(crate) atomic: bool,
    /// take a live snapshot: the guest runs while most of its memory is kept
    #[arg(long)]
    pub(crate) live: bool,
    /// validate the XML against the schema (always done)
    #[arg(long)]
    pub(crate) validate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotCreate {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// domain snapshot XML
    pub(crate) xmlfile: Option<PathBuf>,
    /// redefine metadata for existing snapshot
    #[arg(long)]
    pub(crate) redefine: bool,
    /// with redefine, set current snapshot
    #[arg(long, requires = "redefine")]
    pub(crate) current: bool,
    #[command(flatten)]
    pub(crate) how: HowMade,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotCreateAs {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// name of snapshot
    pub(crate) name: Option<String>,
    /// description of snapshot
    pub(crate) description: Option<String>,
    /// print XML document rather than create
    #[arg(long)]
    pub(crate) print_xml: bool,
    /// memory attributes: [file=]name[,snapshot=type]
    #[arg(long, value_name = "SPEC")]
    pub(crate) memspec: Option<String>,
    /// disk attributes: disk[,snapshot=type][,driver=type][,stype=type][,file=name]
    #[arg(long, value_name = "SPEC")]
    pub(crate) diskspec: Vec<String>,
    #[command(flatten)]
    pub(crate) how: HowMade,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct SnapshotList {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// add a column showing parent snapshot
    #[arg(long, conflicts_with_all = ["tree", "roots"])]
    pub(crate) parent: bool,
    /// list only snapshots without parents
    #[arg(long, conflicts_with_all = ["tree", "from", "current"])]
    pub(crate) roots: bool,
    /// list only snapshots without children
    #[arg(long, conflicts_with_all = ["tree", "no_leaves"])]
    pub(crate) leaves: bool,
    /// list only snapshots that are not leaves (with children)
    #[arg(long, conflicts_with = "tree")]
    pub(crate) no_leaves: bool,
    /// list only snapshots that have metadata that would prevent undefine
    #[arg(long)]
    pub(crate) metadata: bool,
    /// list only snapshots that have no metadata managed by libvirt (there are none)
    #[arg(long)]
    pub(crate) no_metadata: bool,
    /// filter by snapshots taken while inactive
    #[arg(long)]
    pub(crate) inactive: bool,
    /// filter by snapshots taken while active (full system snapshots)
    #[arg(long)]
    pub(crate) active: bool,
    /// filter by disk-only snapshots
    #[arg(long)]
    pub(crate) disk_only: bool,
    /// filter by internal snapshots
    #[arg(long)]
    pub(crate) internal: bool,
    /// filter by external snapshots
    #[arg(long)]
    pub(crate) external: bool,
    /// list snapshots in a tree
    #[arg(long)]
    pub(crate) tree: bool,
    /// limit list to children of given snapshot
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) from: Option<String>,
    /// limit list to children of current snapshot
    #[arg(long, conflicts_with = "from")]
    pub(crate) current: bool,
    /// with --from, list all descendants
    #[arg(long)]
    pub(crate) descendants: bool,
    /// list snapshot names only
    #[arg(long, conflicts_with_all = ["tree", "parent"])]
    pub(crate) name: bool,
    /// list snapshots in topological order, children after their parents
    #[arg(long)]
    pub(crate) topological: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotOne {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// snapshot name
    #[arg(required_unless_present = "current", conflicts_with = "current")]
    pub(crate) snapshotname: Option<String>,
    /// operate on the current snapshot
    #[arg(long)]
    pub(crate) current: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotDumpxml {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// snapshot name
    pub(crate) snapshotname: String,
    /// include security sensitive information in XML dump
    #[arg(long)]
    pub(crate) security_info: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotCurrent {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// list the name, rather than the full xml
    #[arg(long)]
    pub(crate) name: bool,
    /// include security sensitive information in XML dump
    #[arg(long)]
    pub(crate) security_info: bool,
    /// name of existing snapshot to make current
    #[arg(conflicts_with = "name")]
    pub(crate) snapshotname: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotEdit {
    #[command(flatten)]
    pub(crate) one: SnapshotOne,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct SnapshotRevert {
    #[command(flatten)]
    pub(crate) one: SnapshotOne,
    /// after reverting, change state to running
    #[arg(long, conflicts_with = "paused")]
    pub(crate) running: bool,
    /// after reverting, change state to paused
    #[arg(long)]
    pub(crate) paused: bool,
    /// try harder on risky reverts
    #[arg(long)]
    pub(crate) force: bool,
    /// re-initialize NVRAM from its pristine template
    #[arg(long)]
    pub(crate) reset_nvram: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotDelete {
    #[command(flatten)]
    pub(crate) one: SnapshotOne,
    /// delete snapshot and all children
    #[arg(long, conflicts_with = "children_only")]
    pub(crate) children: bool,
    /// delete children but not snapshot
    #[arg(long)]
    pub(crate) children_only: bool,
    /// delete only metadata, leaving contents behind
    #[arg(long)]
    pub(crate) metadata: bool,
}
