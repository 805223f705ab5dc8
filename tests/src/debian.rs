//! Debian 12 as the emulated host's root: systemd as PID 1, D-Bus, udev, and what a fresh server
//! has at least. Packages are unpacked without their maintainer scripts; what those would have
//! done and a running system needs is done here.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::apt::Apt;
use crate::testbed::{Options, Testbed};
use crate::{disk, paths};

/// The instance that the tests of this root share, one after another.
pub const HOST: &str = "systemd";
/// How long it outlives the last of them, should nobody stop it.
const IDLE: Duration = Duration::from_secs(300);

const PACKAGES: [&str; 24] = [
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "dbus",
    "debianutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "iproute2",
    "kmod",
    "libc-bin",
    "mawk",
    "mount",
    "passwd",
    "procps",
    "sed",
    "systemd",
    "systemd-sysv",
    "tar",
    "udev",
    "util-linux",
];

/// Says with what rules below it was made.
const VERSION: u32 = 1;
/// Sparse: what is not written takes no room.
const SIZE: &str = "4G";

/// Directories that became links into /usr; packages of Debian 12 still ship files in both.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Of no use where nobody reads.
const LEFT_OUT: [&str; 5] =
    ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/i18n", "usr/share/perl"];

/// The shared instance, booted when the first asks.
pub fn host() -> anyhow::Result<Testbed> {
    Testbed::up(&Options {
        root: Some(root()?),
        memory_mib: 2048,
        idle: IDLE,
        ..Options::named(HOST)
    })
}

/// The image of the root file system.
pub fn root() -> anyhow::Result<PathBuf> {
    let dir = paths::made_once(&format!("debian-root-{VERSION}"), |dir| {
        let tree = dir.join("tree");
        fs::create_dir(&tree)?;
        Apt::open()?.unpack_closure(&PACKAGES, None, &tree)?;
        finish(&tree)?;
        disk::of_tree(&tree, &dir.join("image"), SIZE)?;
        paths::remove(&tree)
    })?;
    Ok(dir.join("image"))
}

fn finish(tree: &Path) -> anyhow::Result<()> {
    for name in MERGED {
        let (from, into) = (tree.join(name), tree.join("usr").join(name));
        merge(&from, &into).with_context(|| format!("cannot merge /{name} into /usr"))?;
        symlink(format!("usr/{name}"), from)?;
    }
    for name in LEFT_OUT {
        paths::remove(&tree.join(name))?;
    }
    for database in ["passwd", "group"] {
        let master = tree.join(format!("usr/share/base-passwd/{database}.master"));
        fs::copy(master, tree.join("etc").join(database))?;
    }
    fs::copy(tree.join("usr/share/libc-bin/nsswitch.conf"), tree.join("etc/nsswitch.conf"))?;
    symlink("/proc/self/mounts", tree.join("etc/mtab"))?;
    symlink("mawk", tree.join("usr/bin/awk"))?;
    for (path, text) in [
        ("etc/hostname", "testbed\n"),
        ("etc/hosts", "127.0.0.1 localhost testbed\n"),
        // With an identity of its own it is not a first boot, which would enable every unit.
        ("etc/machine-id", "6d616e6f720000000000000000000001\n"),
        // Nothing here survives a crash that one would want to read.
        ("etc/systemd/journald.conf", "[Journal]\nStorage=volatile\n"),
    ] {
        fs::write(tree.join(path), text).with_context(|| format!("cannot write {path}"))?;
    }
    // A terminal nobody sits at.
    symlink("/dev/null", tree.join("etc/systemd/system/getty.target"))?;
    Ok(())
}

/// Moves everything below `from` to its place below `into`.
fn merge(from: &Path, into: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(into)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = into.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            merge(&entry.path(), &to)?;
        } else {
            fs::rename(entry.path(), &to)?;
        }
    }
    Ok(fs::remove_dir(from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_the_files_of_both_sides() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for file in ["lib/a/one", "lib/b", "usr/lib/a/two", "usr/lib/c"] {
            fs::create_dir_all(path(file).parent().unwrap()).unwrap();
            fs::write(path(file), file).unwrap();
        }
        merge(&path("lib"), &path("usr/lib")).unwrap();
        assert!(!path("lib").exists());
        for (file, text) in [("a/one", "lib/a/one"), ("a/two", "usr/lib/a/two"), ("b", "lib/b")] {
            assert_eq!(fs::read_to_string(path("usr/lib").join(file)).unwrap(), text);
        }
    }
}
