//! Programs of this workspace that go into the emulated host: static, optimised, built by cargo
//! when asked for (a no-op when nothing changed).

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::paths;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "quick";

/// The `manor` binary. `MANOR_BINARY` names another one, to test what was shipped.
pub fn manor_binary() -> anyhow::Result<PathBuf> {
    built("manor", "manor", "MANOR_BINARY", false)
}

/// The same, with cargo's progress on the terminal.
pub fn build_manor() -> anyhow::Result<PathBuf> {
    built("manor", "manor", "MANOR_BINARY", true)
}

pub(crate) fn agent_binary() -> anyhow::Result<PathBuf> {
    built("manor-testbed-agent", "manor-testbed-agent", "MANOR_TESTBED_AGENT", false)
}

fn built(package: &str, binary: &str, overriding: &str, progress: bool) -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os(overriding) {
        return Ok(path.into());
    }
    let made = paths::target().join(TARGET).join(PROFILE).join(binary);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(paths::workspace())
        .args(["build", "--profile", PROFILE, "--target", TARGET])
        .args(["--package", package, "--bin", binary]);
    // A test run by cargo inherits variables that would make this build differ from the last.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    if progress {
        let status = command.status().context("cannot run cargo")?;
        if !status.success() {
            bail!("cannot build {package}");
        }
        return Ok(made);
    }
    let output = command.arg("--quiet").output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cannot build {package}:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(made)
}
