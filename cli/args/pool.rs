//! Verbs of storage pools.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Pool {
    /// pool name or uuid
    pub(crate) pool: String,
}

#[derive(Debug, Args)]
pub(crate) struct PoolAutostart {
    /// pool name or uuid
    pub(crate) pool: String,
    /// disable autostarting
    #[arg(long)]
    pub(crate) disable: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PoolBuild {
    /// pool name or uuid
    pub(crate) pool: String,
    /// do not overwrite any existing data (none ever is)
    #[arg(long)]
    pub(crate) no_overwrite: bool,
    /// overwrite any existing data
    #[arg(long)]
    pub(crate) overwrite: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PoolStart {
    /// pool name or uuid
    pub(crate) pool: String,
    /// build the pool as normal
    #[arg(long)]
    pub(crate) build: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PoolDefine {
    /// file containing an XML pool description
    pub(crate) file: PathBuf,
    /// validate the XML against the schema (always done)
    #[arg(long)]
    pub(crate) validate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PoolCreate {
    /// file containing an XML pool description
    pub(crate) file: PathBuf,
    /// build the pool as normal
    #[arg(long)]
    pub(crate) build: bool,
    /// validate the XML against the schema (always done)
    #[arg(long)]
    pub(crate) validate: bool,
}

/// What a pool's definition is made from.
#[derive(Debug, Args)]
pub(crate) struct PoolAs {
    /// name of the pool
    pub(crate) name: String,
    /// type of the pool
    #[arg(value_name = "TYPE")]
    pub(crate) kind: String,
    /// source-host for underlying storage
    #[arg(long, value_name = "HOST")]
    pub(crate) source_host: Option<String>,
    /// source path for underlying storage
    #[arg(long, value_name = "PATH")]
    pub(crate) source_path: Option<String>,
    /// source device for underlying storage
    #[arg(long, value_name = "DEVICE")]
    pub(crate) source_dev: Option<String>,
    /// source name for underlying storage
    #[arg(long, value_name = "NAME")]
    pub(crate) source_name: Option<String>,
    /// target for underlying storage
    #[arg(long, value_name = "PATH")]
    pub(crate) target: Option<String>,
    /// format for underlying storage
    #[arg(long, value_name = "FORMAT")]
    pub(crate) source_format: Option<String>,
    /// print XML document, but don't define/create
    #[arg(long)]
    pub(crate) print_xml: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PoolDefineAs {
    #[command(flatten)]
    pub(crate) definition: PoolAs,
}

#[derive(Debug, Args)]
pub(crate) struct PoolCreateAs {
    #[command(flatten)]
    pub(crate) definition: PoolAs,
    /// build the pool as normal
    #[arg(long)]
    pub(crate) build: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PoolDumpxml {
    /// pool name or uuid
    pub(crate) pool: String,
    /// show inactive defined XML
    #[arg(long)]
    pub(crate) inactive: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PoolInfo {
    /// pool name or uuid
    pub(crate) pool: String,
    /// Return pool info in bytes
    #[arg(long)]
    pub(crate) bytes: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct PoolList {
    /// list inactive pools
    #[arg(long)]
    pub(crate) inactive: bool,
    /// list inactive & active pools
    #[arg(long)]
    pub(crate) all: bool,
    /// list transient pools
    #[arg(long)]
    pub(crate) transient: bool,
    /// list persistent pools
    #[arg(long)]
    pub(crate) persistent: bool,
    /// list pools with autostart enabled
    #[arg(long)]
    pub(crate) autostart: bool,
    /// list pools with autostart disabled
    #[arg(long)]
    pub(crate) no_autostart: bool,
    /// only list pool of specified type(s) (if supported)
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// display extended details for pools
    #[arg(long)]
    pub(crate) details: bool,
    /// list UUID of active pools
    #[arg(long)]
    pub(crate) uuid: bool,
    /// list name of active pools
    #[arg(long)]
    pub(crate) name: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FindStoragePoolSources {
    /// type of storage pool sources to find: logical
    #[arg(value_name = "TYPE")]
    pub(crate) kind: String,
}
