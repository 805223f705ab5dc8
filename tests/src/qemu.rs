//! QEMU as the emulation below the testbed, and as the peer inside it.

mod cr8;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

pub use cr8::Unmendable;

use crate::apt::{Apt, BACKPORTS};
use crate::tree::Program;
use crate::{disk, paths};

/// TCG of 7.2 crashes the emulated host's kernel now and then under life-cycle work.
const OLDEST: u32 = 10;

const NAME: &str = "qemu-system-x86_64";
const PROGRAM: &str = "usr/bin/qemu-system-x86_64";
const DATA: [&str; 3] = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];

/// For the testbed: the installed one where it is new enough, else Debian's backport.
pub fn emulator() -> anyhow::Result<Program> {
    let installed = Program::installed(NAME);
    if version(&installed).is_ok_and(|version| version >= OLDEST) {
        return Ok(installed);
    }
    let unpacked = in_tree(&backport()?);
    let version = version(&unpacked).context("the unpacked QEMU does not run")?;
    if version < OLDEST {
        bail!("Debian offered QEMU {version}, and the testbed needs {OLDEST}");
    }
    Ok(unpacked)
}

/// For a testbed whose guests start by UEFI firmware: Debian's backport, mended.
pub fn mended() -> anyhow::Result<Program> {
    let tree = backport()?;
    let dir = paths::made_once("qemu-mended-1", |dir| {
        let program = dir.join(NAME);
        fs::write(&program, cr8::mended(fs::read(tree.join(PROGRAM))?)?)?;
        Ok(fs::set_permissions(&program, Permissions::from_mode(0o755))?)
    })?;
    Ok(of_tree(&tree, &dir.join(NAME)))
}

fn backport() -> anyhow::Result<PathBuf> {
    paths::made_once("qemu", |tree| {
        Apt::open()?.unpack_closure(&["qemu-system-x86"], Some(BACKPORTS), tree)
    })
}

/// Debian's stable QEMU as a disk for the testbed; [`in_tree`] of its mount point runs it.
pub fn peer() -> anyhow::Result<PathBuf> {
    disk::of_packages("peer-qemu", &["qemu-system-x86"])
}

/// qemu-img and qemu-io: what they say of an image is what counts.
pub struct ImageTools {
    pub img: Program,
    pub io: Program,
}

pub fn image_tools() -> anyhow::Result<ImageTools> {
    let [img, io] = ["qemu-img", "qemu-io"].map(Program::installed);
    if version(&img).is_ok() && version(&io).is_ok() {
        return Ok(ImageTools { img, io });
    }
    let tree = paths::made_once("qemu-utils", |tree| {
        Apt::open()?.unpack_closure(&["qemu-utils"], None, tree)
    })?;
    let [img, io] =
        ["usr/bin/qemu-img", "usr/bin/qemu-io"].map(|path| Program::in_tree(&tree, path));
    version(&img).context("the unpacked qemu-img does not run")?;
    Ok(ImageTools { img, io })
}

/// The NBD server that other programs are measured by.
pub fn nbd_server() -> anyhow::Result<Program> {
    // It tells its version in other words than its sisters.
    let runs = |program: &Program| {
        let output = program.command().arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    };
    let installed = Program::installed("qemu-nbd");
    if runs(&installed) {
        return Ok(installed);
    }
    let tree = paths::made_once("qemu-utils", |tree| {
        Apt::open()?.unpack_closure(&["qemu-utils"], None, tree)
    })?;
    let unpacked = Program::in_tree(&tree, "usr/bin/qemu-nbd");
    anyhow::ensure!(runs(&unpacked), "the unpacked qemu-nbd does not run");
    Ok(unpacked)
}

pub fn in_tree(tree: &Path) -> Program {
    of_tree(tree, &tree.join(PROGRAM))
}

/// A program with the libraries and data of the tree.
fn of_tree(tree: &Path, program: &Path) -> Program {
    let data = DATA.iter().flat_map(|dir| ["-L".into(), tree.join(dir).display().to_string()]);
    Program::of_tree(tree, program).with(data)
}

fn version(qemu: &Program) -> anyhow::Result<u32> {
    let output = qemu.command().arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_once("version ")
        .and_then(|(_, rest)| rest.split('.').next()?.parse().ok())
        .with_context(|| {
            format!("no version in {text:?} {}", String::from_utf8_lossy(&output.stderr))
        })
}
