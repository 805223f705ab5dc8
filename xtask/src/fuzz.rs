//! `cargo xtask fuzz`: the targets of fuzz/, each for a while. Needs cargo-fuzz and a nightly
//! toolchain.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use manor_tests::paths;

#[derive(Args)]
pub(crate) struct Fuzz {
    /// Only these targets (default: all)
    targets: Vec<String>,
    /// How long to feed each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

pub(crate) fn run(fuzz: &Fuzz) -> anyhow::Result<ExitCode> {
    let known = known()?;
    if let Some(unknown) = fuzz.targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no fuzz target {unknown:?}; there are {}", known.join(", "));
    }
    let targets = if fuzz.targets.is_empty() { &known } else { &fuzz.targets };
    let mut failed = Vec::new();
    for target in targets {
        println!("==> {target}, {} seconds", fuzz.seconds);
        let status = Command::new("cargo")
            .current_dir(paths::workspace())
            .args(["+nightly", "fuzz", "run", target])
            .args(directories(target)?)
            .args(["--", "-print_final_stats=1", "-timeout=10"])
            .arg(format!("-max_total_time={}", fuzz.seconds))
            // Set by the cargo that runs this; the other one must find its own.
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO")
            .status()
            .context("cannot run cargo")?;
        if !status.success() {
            failed.push(target.as_str());
        }
    }
    println!("{} fuzz targets, {} failed {}", targets.len(), failed.len(), failed.join(", "));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where inputs that reach something new are kept, and those that a target begins with.
fn directories(target: &str) -> anyhow::Result<Vec<PathBuf>> {
    let fuzz = paths::workspace().join("fuzz");
    let corpus = fuzz.join("corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("cannot create {corpus:?}"))?;
    let seeds = fuzz.join("seeds").join(target);
    Ok([Some(corpus), seeds.is_dir().then_some(seeds)].into_iter().flatten().collect())
}

fn known() -> anyhow::Result<Vec<String>> {
    let dir = paths::workspace().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {dir:?}"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}
