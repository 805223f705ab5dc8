//! Disk images for the testbed, made without privilege or loop devices.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt::{Apt, run};
use crate::paths;
use crate::tree::Program;

/// Packages with all they need as one ext4 image, read-only use intended.
pub fn of_packages(name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let mke2fs = mke2fs()?;
    let dir = paths::made_once(name, |dir| {
        let tree = dir.join("tree");
        std::fs::create_dir(&tree)?;
        Apt::open()?.unpack_closure(packages, None, &tree)?;
        let mut command = mke2fs.command();
        command.args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d"]);
        run(command.arg(&tree).arg(dir.join("image")).arg("2G"))?;
        paths::remove(&tree)
    })?;
    Ok(dir.join("image"))
}

/// An empty ext4 file system in a sparse file.
pub fn empty(path: &Path, size: &str) -> anyhow::Result<()> {
    let mut command = mke2fs()?.command();
    command.args(["-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1"]);
    run(command.arg(path).arg(size))
}

/// A copy to write to. It shares blocks with the image where the file system can, and holes stay
/// holes where it cannot.
pub fn copy(image: &Path, to: &Path) -> anyhow::Result<()> {
    run(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(image).arg(to))
}

/// A tree as an ext4 image, root's own whoever runs this.
pub fn of_tree(tree: &Path, image: &Path, size: &str) -> anyhow::Result<()> {
    let mut command = mke2fs()?.command();
    command.args(["-q", "-F", "-t", "ext4", "-m", "0", "-E", "root_owner=0:0", "-d"]);
    run(command.arg(tree).arg(image).arg(size))
}

/// A tree as an ext4 file system inside an image, from byte `at`, `size` long.
pub fn into_partition(
    tree: &Path,
    image: &Path,
    label: &str,
    at: u64,
    size: u64,
) -> anyhow::Result<()> {
    let mut command = mke2fs()?.command();
    command.args(["-q", "-F", "-t", "ext4", "-m", "0", "-L", label, "-d"]).arg(tree);
    command.args(["-E", &format!("root_owner=0:0,offset={at}")]);
    run(command.arg(image).arg(format!("{}k", size / 1024)))
}

/// Most machines have it, some only where ordinary users do not look.
fn mke2fs() -> anyhow::Result<Program> {
    for name in ["mke2fs", "/sbin/mke2fs", "/usr/sbin/mke2fs"] {
        if Command::new(name).arg("-V").output().is_ok() {
            return Ok(Program::installed(name));
        }
    }
    let tree = paths::made_once("e2fsprogs", |tree| {
        Apt::open()?.unpack_closure(&["e2fsprogs"], None, tree)
    })?;
    Ok(Program::in_tree(&tree, "sbin/mke2fs"))
}
