//! Verbs of saved states.

use std::path::PathBuf;

use api::types::SaveFormat;
use clap::{Args, ValueEnum};

/// How memory lies in the file of a saved guest.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Packing {
    /// format of the saved memory: raw (mapped on restore) or zstd (smaller, read on restore)
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) image_format: Option<ImageFormat>,
    /// the same as --image-format zstd
    #[arg(long, conflicts_with = "image_format")]
    pub(crate) compress: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImageFormat {
    Raw,
    Zstd,
}

impl Packing {
    pub(crate) fn format(self) -> Option<SaveFormat> {
        match self.image_format {
            _ if self.compress => Some(SaveFormat::Zstd),
            Some(ImageFormat::Zstd) => Some(SaveFormat::Zstd),
            Some(ImageFormat::Raw) => Some(SaveFormat::Raw),
            None => None,
        }
    }
}

/// In which state a saved guest goes on.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct GoesOn {
    /// set domain to be running on restore
    #[arg(long)]
    pub(crate) running: bool,
    /// set domain to be paused on restore
    #[arg(long, conflicts_with = "running")]
    pub(crate) paused: bool,
}

impl GoesOn {
    pub(crate) fn running(self) -> Option<bool> {
        match (self.running, self.paused) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Save {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// where to save the data
    pub(crate) file: PathBuf,
    /// avoid file system cache when saving
    #[arg(long)]
    pub(crate) bypass_cache: bool,
    /// filename containing updated XML for the target
    #[arg(long, value_name = "FILE")]
    pub(crate) xml: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) goes_on: GoesOn,
    #[command(flatten)]
    pub(crate) packing: Packing,
    /// display the progress of save (always done on a terminal)
    #[arg(long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CloneDomain {
    /// domain name, id or uuid; with --from-save: a saved state file
    pub(crate) domain: String,
    /// name of the twin; of several: NAME-1, NAME-2 and so on
    pub(crate) name: String,
    /// make it from a saved state file, which stays as it is
    #[arg(long)]
    pub(crate) from_save: bool,
    /// how many to make
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) count: Option<u32>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct Dump {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// where to dump the core
    pub(crate) file: PathBuf,
    /// dump domain's memory only (always done: as an ELF core)
    #[arg(long)]
    pub(crate) memory_only: bool,
    /// perform a live core dump
    #[arg(long)]
    pub(crate) live: bool,
    /// crash the domain after core dump
    #[arg(long, conflicts_with = "live")]
    pub(crate) crash: bool,
    /// reset the domain after core dump
    #[arg(long, conflicts_with_all = ["live", "crash"])]
    pub(crate) reset: bool,
    /// specify the format of memory-only dump: elf
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// display the progress of dump (always done on a terminal)
    #[arg(long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// the state to restore
    pub(crate) file: PathBuf,
    /// avoid file system cache when restoring (memory stays in the file until it is used)
    #[arg(long)]
    pub(crate) bypass_cache: bool,
    /// filename containing updated XML for the target
    #[arg(long, value_name = "FILE")]
    pub(crate) xml: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) goes_on: GoesOn,
    /// go on also over disks that have changed since
    #[arg(long)]
    pub(crate) force: bool,
    /// read all memory first, and compare its checksums
    #[arg(long)]
    pub(crate) verify: bool,
    /// re-initialize NVRAM from its pristine template
    #[arg(long)]
    pub(crate) reset_nvram: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Managedsave {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// avoid file system cache when saving
    #[arg(long)]
    pub(crate) bypass_cache: bool,
    #[command(flatten)]
    pub(crate) goes_on: GoesOn,
    #[command(flatten)]
    pub(crate) packing: Packing,
    /// display the progress of save (always done on a terminal)
    #[arg(long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ManagedsaveDefine {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// filename containing updated XML for the target
    pub(crate) xml: PathBuf,
    #[command(flatten)]
    pub(crate) goes_on: GoesOn,
}

#[derive(Debug, Args)]
pub(crate) struct ManagedsaveEdit {
    /// domain name, id or uuid
    pub(crate) domain: String,
    #[command(flatten)]
    pub(crate) goes_on: GoesOn,
}

#[derive(Debug, Args)]
pub(crate) struct SavedDump {
    /// domain name, id or uuid; of a file: its name
    pub(crate) of: String,
    /// include security sensitive information in XML dump
    #[arg(long)]
    pub(crate) security_info: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SaveImage {
    /// saved state file
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SaveImageDefine {
    /// saved state file
    pub(crate) file: PathBuf,
    /// filename containing updated XML for the target
    pub(crate) xml: PathBuf,
    #[command(flatten)]
    pub(crate) goes_on: GoesOn,
}

#[derive(Debug, Args)]
pub(crate) struct SaveImageEdit {
    /// saved state file
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) goes_on: GoesOn,
}
