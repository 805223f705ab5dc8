//! One domain without a daemon: `manor run FILE.xml`.

use std::path::PathBuf;

use vmm_protocol::exit::ExitReason;

use crate::error::{Code, Error, Problem};

/// How to run a domain in the foreground.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The definition.
    pub xml: String,
    /// Where the control socket and the locks lie meanwhile.
    pub run_dir: PathBuf,
    pub seccomp: bool,
}

/// Run a domain with its first console on stdin and stdout until the guest ends. A terminal is
/// put into raw mode meanwhile; `^]` destroys the guest. `warn` is told what is left out.
pub async fn run(options: Options, warn: impl FnMut(&Problem) + Send) -> Result<ExitReason, Error> {
    let _ = (options, warn);
    std::future::ready(Err(Error::new(Code::Unsupported, "this operation is being built"))).await
}
