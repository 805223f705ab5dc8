//! Verbs that compare a domain with a definition, and make it so.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// file containing an XML domain description; - reads stdin
    pub(crate) file: PathBuf,
    /// domain name, id or uuid, if not the one that the file names
    #[arg(long)]
    pub(crate) domain: Option<String>,
}
