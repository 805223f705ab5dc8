//! `cargo deny` against deny.toml; installed into the target directory where it is missing.

use std::path::PathBuf;
use std::process::Command;

use manor_tests::paths;

use super::report::Report;

const VERSION: &str = "0.20.2";

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    let program = match find(report)? {
        Ok(program) => program,
        Err(reason) => {
            report.skipped("deny", &reason);
            return Ok(());
        }
    };
    let mut command = Command::new(program);
    command.current_dir(paths::workspace());
    // Advisories would need a database from the network.
    command.args(["--log-level", "error", "check", "--hide-inclusion-graph"]);
    report.check("deny", command.args(["bans", "licenses", "sources"]))
}

/// The program, or why there is none.
fn find(report: &Report) -> anyhow::Result<Result<PathBuf, String>> {
    let runs = |path: &PathBuf| {
        Command::new(path).arg("--version").output().is_ok_and(|o| o.status.success())
    };
    let installed = PathBuf::from("cargo-deny");
    let root = paths::target().join("tools");
    let ours = root.join("bin/cargo-deny");
    for program in [installed, ours.clone()] {
        if runs(&program) {
            return Ok(Ok(program));
        }
    }
    report.announce("installing cargo-deny (once, some minutes)");
    let mut install = super::cargo(&["install", "cargo-deny", "--version", VERSION, "--locked"]);
    // Built without optimisation: it runs for a second, and compiles for minutes.
    install.args(["--debug", "--quiet", "--root"]).arg(&root);
    install.arg("--target-dir").arg(root.join("build"));
    let done = super::status(&mut install)? && runs(&ours);
    paths::remove(&root.join("build"))?;
    Ok(if done { Ok(ours) } else { Err(format!("cargo-deny {VERSION} cannot be installed")) })
}
