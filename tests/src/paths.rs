//! Where the harness keeps what it fetches and builds.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

/// The checkout this harness was built from.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    let dir = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace().join(dir)
}

/// Packages, trees and images. `MANOR_TESTBED_DIR` lets several checkouts share one.
pub fn testbed() -> PathBuf {
    std::env::var_os("MANOR_TESTBED_DIR").map_or_else(|| target().join("testbed"), PathBuf::from)
}

/// Makes the directory `name` below [`testbed`] unless it is there. It appears whole or not at
/// all, and is made once however many processes ask: `fill` gets an empty directory beside it.
pub fn made_once(
    name: &str,
    fill: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let whole = testbed().join(name);
    if whole.exists() {
        return Ok(whole);
    }
    let _lock = lock(&testbed().join("lock"))?;
    if whole.exists() {
        return Ok(whole);
    }
    let partial = testbed().join(format!("{name}.partial"));
    remove(&partial)?;
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {partial:?}"))?;
    fill(&partial).with_context(|| format!("cannot prepare {whole:?}"))?;
    fs::rename(&partial, &whole).with_context(|| format!("cannot name {whole:?}"))?;
    Ok(whole)
}

pub fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {dir:?}"))
        }
        _ => Ok(()),
    }
}

/// Waits for an exclusive lock; dropping the file releases it.
pub fn lock(path: &Path) -> anyhow::Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {parent:?}"))?;
    }
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {path:?}"))?;
    flock(&file, FlockOperation::LockExclusive).with_context(|| format!("cannot lock {path:?}"))?;
    Ok(file)
}

/// Names contents in file names and caches; not for anything an adversary writes.
pub fn hash(contents: &[u8]) -> u64 {
    use std::hash::Hasher as _;
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(contents);
    hasher.finish()
}
