//! Verbs that exchange media of drives, and resize disks.

use clap::Args;

use super::Affects;

#[derive(Debug, Args)]
pub(crate) struct ChangeMedia {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// Fully-qualified path or target of disk device
    pub(crate) path: String,
    /// source of the media
    pub(crate) source: Option<String>,
    /// Eject the media
    #[arg(long, conflicts_with_all = ["insert", "update"])]
    pub(crate) eject: bool,
    /// Insert the media
    #[arg(long, conflicts_with = "update")]
    pub(crate) insert: bool,
    /// Update the media
    #[arg(long)]
    pub(crate) update: bool,
    #[command(flatten)]
    pub(crate) affects: Affects,
    /// force media changing
    #[arg(long)]
    pub(crate) force: bool,
    /// source media is a block device
    #[arg(long)]
    pub(crate) block: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Blockresize {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// Fully-qualified path of block device
    pub(crate) path: String,
    /// New size of the block device, as scaled integer (default KiB)
    pub(crate) size: String,
}

#[derive(Debug, Args)]
pub(crate) struct Domblkthreshold {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// device to set threshold for: a target (vda), or an image below (vda[2])
    pub(crate) dev: String,
    /// threshold as a scaled number (default: bytes); 0: no more
    pub(crate) threshold: String,
}
