//! `manor run-domain`: the process of one guest. Started by the broker, never by a person.

use std::ffi::OsString;
use std::process::ExitCode;

/// Everything it needs comes on open descriptors; see `vmm::process`.
pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    vmm::process::run_domain(arguments)
}
