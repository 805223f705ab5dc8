//! The words of `manor image`: qemu-img's where it has them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use image::Format;

use super::size::Size;

/// look at, make, copy and mend disk images
#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Check an image for contradictions and lost space
    Check(Check),
    /// Copy an image into another format
    Convert(Convert),
    /// Make an empty image
    Create(Create),
    /// Say what an image is
    Info(Info),
    /// Say which parts of an image hold data, and where
    Map(Map),
    /// Make an image larger
    Resize(Resize),
    /// List, make, apply and delete snapshots inside a qcow2 image
    #[command(subcommand)]
    Snapshot(Snapshot),
}

/// An image that is there.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// the image file or block device
    #[arg(value_name = "FILE")]
    pub(crate) path: PathBuf,
    /// its format; else what its first bytes say
    #[arg(short, long, value_name = "FORMAT", value_parser = format)]
    pub(crate) format: Option<Format>,
    /// look at it even while a guest writes to it: what is shown may be half old, half new
    #[arg(short = 'U', long)]
    pub(crate) force_share: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) source: Source,
    /// the images below it, too
    #[arg(long)]
    pub(crate) backing_chain: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Map {
    #[command(flatten)]
    pub(crate) source: Source,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) source: Source,
    /// mend what is found
    #[arg(long, value_name = "WHAT")]
    pub(crate) repair: Option<Repair>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Repair {
    /// give lost space back
    Leaks,
    /// everything that can be mended
    All,
}

#[derive(Debug, Args)]
pub(crate) struct Resize {
    #[command(flatten)]
    pub(crate) source: Source,
    /// bytes, or with K, M, G, T; '+10G' adds to what there is
    #[arg(value_name = "[+]SIZE", allow_hyphen_values = true)]
    pub(crate) size: String,
    /// cut off what lies behind the new end (raw images only)
    #[arg(long)]
    pub(crate) shrink: bool,
}

/// snapshots that lie in the image itself
#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// List the snapshots of an image
    List(SnapshotList),
    /// Keep the disk as it is now
    Create(SnapshotOf),
    /// Make the disk what a snapshot has; what was written since is lost
    Apply(SnapshotOf),
    /// Forget a snapshot
    Delete(SnapshotOf),
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotList {
    #[command(flatten)]
    pub(crate) source: Source,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotOf {
    #[command(flatten)]
    pub(crate) source: Source,
    /// the snapshot's name; where it is there already, its ID does as well
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// the image to make
    #[arg(value_name = "FILE")]
    pub(crate) path: PathBuf,
    /// bytes, or with K, M, G, T; else as large as the backing image
    pub(crate) size: Option<Size>,
    #[arg(short, long, value_name = "FORMAT", default_value = "raw", value_parser = format)]
    pub(crate) format: Format,
    /// options of the format
    #[arg(short, value_name = "NAME=VALUE,…")]
    pub(crate) options: Vec<String>,
    #[command(flatten)]
    pub(crate) backing: Backing,
}

/// What the new image lies on.
#[derive(Debug, Args)]
pub(crate) struct Backing {
    /// image that shows through where this one has nothing
    #[arg(short, long, value_name = "FILE")]
    pub(crate) backing: Option<String>,
    /// format of the backing image
    #[arg(short = 'F', long, value_name = "FORMAT", requires = "backing", value_parser = format)]
    pub(crate) backing_format: Option<Format>,
}

#[derive(Debug, Args)]
pub(crate) struct Convert {
    #[command(flatten)]
    pub(crate) source: Source,
    /// the image to make
    #[arg(value_name = "TARGET")]
    pub(crate) target: PathBuf,
    /// format of the target
    #[arg(short = 'O', long, value_name = "FORMAT", default_value = "raw", value_parser = format)]
    pub(crate) output_format: Format,
    /// options of the target's format
    #[arg(short, value_name = "NAME=VALUE,…")]
    pub(crate) options: Vec<String>,
    /// copy the disk as this internal snapshot has it
    #[arg(short = 'l', long, value_name = "NAME")]
    pub(crate) snapshot: Option<String>,
    #[command(flatten)]
    pub(crate) backing: Backing,
    /// show how far it has come, also where there is no terminal
    #[arg(short, long)]
    pub(crate) progress: bool,
}

fn format(name: &str) -> Result<Format, image::UnknownFormat> {
    name.parse()
}
