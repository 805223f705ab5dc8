//! Verbs about who may do what, and who did.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// How many of the last records
    #[arg(short = 'n', long, value_name = "NUM", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) lines: u32,
    /// Go on with those to come
    #[arg(short, long)]
    pub(crate) follow: bool,
}
