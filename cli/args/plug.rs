//! Verbs that attach, detach and update devices.

use std::path::PathBuf;

use clap::Args;

/// Which definition a device comes into or leaves.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Where {
    /// make live change persistent
    #[arg(long, conflicts_with_all = ["config", "current"])]
    pub(crate) persistent: bool,
    #[command(flatten)]
    pub(crate) affects: super::Affects,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceFile {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// XML file; - reads stdin
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) place: Where,
}

#[derive(Debug, Args)]
pub(crate) struct DetachDeviceAlias {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// device alias
    pub(crate) alias: String,
    #[command(flatten)]
    pub(crate) affects: super::Affects,
}

#[derive(Debug, Args)]
pub(crate) struct AttachDisk {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// source of disk device, or a volume's name with --source-pool
    pub(crate) source: String,
    /// target of disk device
    pub(crate) target: String,
    /// pool that the source is a volume of
    #[arg(long, value_name = "POOL")]
    pub(crate) source_pool: Option<String>,
    /// target bus of disk device
    #[arg(long, default_value = "virtio")]
    pub(crate) targetbus: String,
    /// format of the image: raw, qcow2 …
    #[arg(long, value_name = "FORMAT")]
    pub(crate) subdriver: Option<String>,
    /// I/O thread to be used
    #[arg(long, value_name = "NUMBER")]
    pub(crate) iothread: Option<u32>,
    /// cache mode of disk device
    #[arg(long)]
    pub(crate) cache: Option<String>,
    /// io policy of disk device
    #[arg(long)]
    pub(crate) io: Option<String>,
    /// discard policy of disk device
    #[arg(long)]
    pub(crate) discard: Option<String>,
    /// target device type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// mode of device reading and writing: readonly or shareable
    #[arg(long)]
    pub(crate) mode: Option<String>,
    /// type of source (block|file)
    #[arg(long, value_name = "TYPE")]
    pub(crate) sourcetype: Option<String>,
    /// serial of disk device
    #[arg(long)]
    pub(crate) serial: Option<String>,
    /// print XML document rather than attach the disk
    #[arg(long)]
    pub(crate) print_xml: bool,
    #[command(flatten)]
    pub(crate) place: Where,
}

#[derive(Debug, Args)]
pub(crate) struct AttachInterface {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// network interface type: network, bridge, direct, ethernet or user
    #[arg(value_name = "TYPE")]
    pub(crate) kind: String,
    /// source of network interface: the network or the bridge
    pub(crate) source: Option<String>,
    /// target network name
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// MAC address
    #[arg(long)]
    pub(crate) mac: Option<String>,
    /// model type
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// print XML document rather than attach the interface
    #[arg(long)]
    pub(crate) print_xml: bool,
    #[command(flatten)]
    pub(crate) place: Where,
}

#[derive(Debug, Args)]
pub(crate) struct DetachDisk {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// target of disk device
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) place: Where,
}

#[derive(Debug, Args)]
pub(crate) struct DetachInterface {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// network interface type
    #[arg(value_name = "TYPE")]
    pub(crate) kind: String,
    /// MAC address; needed where there are several interfaces of the type
    #[arg(long)]
    pub(crate) mac: Option<String>,
    #[command(flatten)]
    pub(crate) place: Where,
}
