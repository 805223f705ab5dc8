//! Verbs of block jobs.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct Blockcommit {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// fully-qualified path or target of disk
    pub(crate) path: String,
    /// bandwidth limit in MiB/s
    #[arg(long)]
    pub(crate) bandwidth: Option<u64>,
    /// path of base file to commit into (default bottom of chain)
    #[arg(long)]
    pub(crate) base: Option<String>,
    /// use backing file of top as base
    #[arg(long, conflicts_with = "base")]
    pub(crate) shallow: bool,
    /// path of top file to commit from (default top of chain)
    #[arg(long)]
    pub(crate) top: Option<String>,
    /// trigger two-stage active commit of top file
    #[arg(long)]
    pub(crate) active: bool,
    /// delete files that were successfully committed
    #[arg(long)]
    pub(crate) delete: bool,
    /// implies --active --wait, pivot when commit is synced
    #[arg(long, conflicts_with = "keep_overlay")]
    pub(crate) pivot: bool,
    /// implies --active --wait, end the job when commit is synced
    #[arg(long)]
    pub(crate) keep_overlay: bool,
    /// keep the backing chain relatively referenced
    #[arg(long)]
    pub(crate) keep_relative: bool,
    #[command(flatten)]
    pub(crate) waits: Waits,
}

#[derive(Debug, Args)]
pub(crate) struct Blockpull {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// fully-qualified path or target of disk
    pub(crate) path: String,
    /// bandwidth limit in MiB/s
    #[arg(long)]
    pub(crate) bandwidth: Option<u64>,
    /// path of backing file in chain for a partial pull
    #[arg(long)]
    pub(crate) base: Option<String>,
    /// keep the backing chain relatively referenced
    #[arg(long, requires = "base")]
    pub(crate) keep_relative: bool,
    #[command(flatten)]
    pub(crate) waits: Waits,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct Blockcopy {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// fully-qualified path or target of source disk
    pub(crate) path: String,
    /// path of the copy to create
    #[arg(value_name = "DEST")]
    pub(crate) dest_place: Option<String>,
    /// path of the copy to create
    #[arg(long, value_name = "DEST", conflicts_with = "dest_place")]
    pub(crate) dest: Option<String>,
    /// file with a <disk> that says where the copy is: also on an NBD server
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dest_place", "dest", "format"])]
    pub(crate) xml: Option<PathBuf>,
    /// bandwidth limit in MiB/s
    #[arg(long)]
    pub(crate) bandwidth: Option<u64>,
    /// make the copy share a backing chain
    #[arg(long)]
    pub(crate) shallow: bool,
    /// reuse existing destination
    #[arg(long)]
    pub(crate) reuse_external: bool,
    /// format of the destination file
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// the copy job is not persisted (always so)
    #[arg(long)]
    pub(crate) transient_job: bool,
    /// the copy job forces guest writes to be synchronously written to the destination (always so)
    #[arg(long)]
    pub(crate) synchronous_writes: bool,
    /// implies --wait, pivot when mirroring starts
    #[arg(long, conflicts_with = "finish")]
    pub(crate) pivot: bool,
    /// implies --wait, quit when mirroring starts
    #[arg(long)]
    pub(crate) finish: bool,
    #[command(flatten)]
    pub(crate) waits: Waits,
}

/// How long a verb takes.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct Waits {
    /// wait for job to complete (or, of two stages, to be synced)
    #[arg(long)]
    pub(crate) wait: bool,
    /// with --wait, display the progress
    #[arg(long)]
    pub(crate) verbose: bool,
    /// with --wait, abort if the job exceeds timeout (in seconds)
    #[arg(long)]
    pub(crate) timeout: Option<u64>,
    /// with --wait, don't wait for cancel to finish (it is finished at once)
    #[arg(long = "async")]
    pub(crate) r#async: bool,
    /// the bandwidth limit is in bytes/s rather than MiB/s
    #[arg(long)]
    pub(crate) bytes: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct Blockjob {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// fully-qualified path or target of disk
    pub(crate) path: String,
    /// abort the active job on the specified disk
    #[arg(long)]
    pub(crate) abort: bool,
    /// don't wait for --abort to complete (it is complete at once)
    #[arg(long = "async")]
    pub(crate) r#async: bool,
    /// conclude and pivot a copy or commit job
    #[arg(long)]
    pub(crate) pivot: bool,
    /// get active job information for the specified disk
    #[arg(long, conflicts_with_all = ["abort", "pivot"])]
    pub(crate) info: bool,
    /// get/set bandwidth in bytes rather than MiB/s
    #[arg(long)]
    pub(crate) bytes: bool,
    /// implies --info; output details rather than human summary
    #[arg(long, conflicts_with_all = ["abort", "pivot"])]
    pub(crate) raw: bool,
    /// set the bandwidth limit in MiB/s
    #[arg(long, conflicts_with_all = ["abort", "pivot", "info", "raw"])]
    pub(crate) bandwidth: Option<u64>,
}
