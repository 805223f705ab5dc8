//! Verbs of volumes, and of jobs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct Volume {
    /// vol name, key or path
    pub(crate) vol: String,
    /// pool name or uuid
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VolPool {
    /// volume key or path
    pub(crate) vol: String,
    /// return the pool uuid rather than pool name
    #[arg(long)]
    pub(crate) uuid: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolList {
    /// pool name or uuid
    pub(crate) pool: String,
    /// display extended details for volumes
    #[arg(long)]
    pub(crate) details: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolInfo {
    #[command(flatten)]
    pub(crate) of: Volume,
    /// sizes are represented in bytes rather than pretty units
    #[arg(long)]
    pub(crate) bytes: bool,
    /// return the physical size of the volume in allocation field
    #[arg(long)]
    pub(crate) physical: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolCreate {
    /// pool name or uuid
    pub(crate) pool: String,
    /// file containing an XML vol description
    pub(crate) file: PathBuf,
    /// preallocate metadata (for qcow2 instead of full allocation)
    #[arg(long)]
    pub(crate) prealloc_metadata: bool,
    /// validate the XML against the schema (always done)
    #[arg(long)]
    pub(crate) validate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolCreateAs {
    /// pool name or uuid
    pub(crate) pool: String,
    /// name of the volume
    pub(crate) name: String,
    /// size of the vol, as scaled integer (default bytes)
    pub(crate) capacity: String,
    /// initial allocation size, as scaled integer (default bytes)
    #[arg(long, value_name = "SIZE")]
    pub(crate) allocation: Option<String>,
    /// file format type raw,bochs,qcow,qcow2,qed,vmdk
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// the backing volume if taking a snapshot
    #[arg(long, value_name = "VOL")]
    pub(crate) backing_vol: Option<String>,
    /// format of backing volume if taking a snapshot
    #[arg(long, value_name = "FORMAT")]
    pub(crate) backing_vol_format: Option<String>,
    /// preallocate metadata (for qcow2 instead of full allocation)
    #[arg(long)]
    pub(crate) prealloc_metadata: bool,
    /// print XML document, but don't define/create
    #[arg(long)]
    pub(crate) print_xml: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolCreateFrom {
    /// pool name or uuid
    pub(crate) pool: String,
    /// file containing an XML vol description
    pub(crate) file: PathBuf,
    /// input vol name or path
    pub(crate) vol: String,
    /// pool name or uuid of the input volume's pool
    #[arg(long, value_name = "POOL")]
    pub(crate) inputpool: Option<String>,
    /// preallocate metadata (for qcow2 instead of full allocation)
    #[arg(long)]
    pub(crate) prealloc_metadata: bool,
    /// use btrfs COW lightweight copy (done wherever it can be)
    #[arg(long)]
    pub(crate) reflink: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolClone {
    /// orig vol name or path
    pub(crate) vol: String,
    /// clone name
    pub(crate) newname: String,
    /// pool name or uuid
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// preallocate metadata (for qcow2 instead of full allocation)
    #[arg(long)]
    pub(crate) prealloc_metadata: bool,
    /// use btrfs COW lightweight copy
    #[arg(long)]
    pub(crate) reflink: bool,
    /// make a qcow2 image on top of the original, which must not change from then on
    #[arg(long, conflicts_with = "reflink")]
    pub(crate) overlay: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolDelete {
    #[command(flatten)]
    pub(crate) of: Volume,
}

#[derive(Debug, Args)]
pub(crate) struct VolResize {
    /// vol name, key or path
    pub(crate) vol: String,
    /// new capacity for the vol, as scaled integer (default bytes)
    pub(crate) capacity: String,
    /// pool name or uuid
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// allocate the new capacity, rather than leaving it sparse
    #[arg(long)]
    pub(crate) allocate: bool,
    /// use capacity as a delta to current size, rather than the new size
    #[arg(long)]
    pub(crate) delta: bool,
    /// allow the resize to shrink the volume
    #[arg(long)]
    pub(crate) shrink: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolTransfer {
    /// vol name, key or path
    pub(crate) vol: String,
    /// file
    pub(crate) file: PathBuf,
    /// pool name or uuid
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// volume offset to begin at, as scaled integer (default bytes)
    #[arg(long, value_name = "SIZE")]
    pub(crate) offset: Option<String>,
    /// amount of data, as scaled integer (default bytes)
    #[arg(long, value_name = "SIZE")]
    pub(crate) length: Option<String>,
    /// preserve sparseness of volume (always done)
    #[arg(long)]
    pub(crate) sparse: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolWipe {
    #[command(flatten)]
    pub(crate) of: Volume,
    /// perform selected wiping algorithm: zero, random, trim, nnsa, dod, bsi, gutmann, schneier, pfitzner7, pfitzner33
    #[arg(long, value_name = "NAME")]
    pub(crate) algorithm: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// List jobs: those that run, and the latest of those that have ended
    List,
    /// Show how far a job has come, until it has ended
    Watch {
        /// The job's id, or the beginning of it
        job: String,
    },
    /// Stop a job; what it had half made is removed
    Abort {
        /// The job's id, or the beginning of it
        job: String,
    },
}
