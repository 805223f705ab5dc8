//! Small programs of Debian that tests speak to: fetched where the machine does not have them.

use std::path::PathBuf;

use crate::apt::{Apt, Release};
use crate::paths;
use crate::tree::Program;

/// nft(8), which shows the packet filter's rules as everybody else sees them.
pub fn nft() -> anyhow::Result<Program> {
    let installed = Program::installed("nft");
    if runs(&installed, "--version") {
        return Ok(installed);
    }
    let tree = paths::made_once("nftables", |tree| {
        Apt::open()?.unpack_closure(&["nftables"], None, tree)
    })?;
    let unpacked = Program::in_tree(&tree, "usr/sbin/nft");
    anyhow::ensure!(runs(&unpacked, "--version"), "the unpacked nft does not run");
    Ok(unpacked)
}

/// A static busybox: a shell with a DHCP client and a resolver that are not ours.
pub fn busybox() -> anyhow::Result<Program> {
    let installed = Program::installed("/bin/busybox");
    if runs(&installed, "true") {
        return Ok(installed);
    }
    let tree = paths::made_once("busybox", |tree| Apt::open()?.unpack(&["busybox-static"], tree))?;
    let unpacked = Program::installed(&tree.join("bin/busybox").display().to_string());
    anyhow::ensure!(runs(&unpacked, "true"), "the unpacked busybox does not run");
    Ok(unpacked)
}

/// ISC's DHCP client, of both families.
pub fn dhclient() -> anyhow::Result<Program> {
    fetched("isc-dhcp-client", "sbin/dhclient", "--version")
}

/// dig(1).
pub fn dig() -> anyhow::Result<Program> {
    fetched("bind9-dnsutils", "usr/bin/dig", "-v")
}

/// iperf3(1), which measures how much passes.
pub fn iperf3() -> anyhow::Result<Program> {
    fetched("iperf3", "usr/bin/iperf3", "--version")
}

/// nc(1) that knows unix sockets.
pub fn netcat() -> anyhow::Result<Program> {
    fetched("netcat-openbsd", "bin/nc.openbsd", "-h")
}

/// gdb(1), without what it is extended by.
pub fn gdb() -> anyhow::Result<Program> {
    let installed = Program::installed("gdb");
    if runs(&installed, "--version") {
        return Ok(installed);
    }
    let tree = paths::made_once("gdb-minimal", |tree| {
        Apt::open()?.unpack_closure(&["gdb-minimal"], None, tree)
    })?;
    let unpacked = Program::in_tree(&tree, "usr/bin/gdb");
    anyhow::ensure!(runs(&unpacked, "--version"), "the unpacked gdb does not run");
    Ok(unpacked)
}

/// With its libraries, where it is not installed.
fn fetched(package: &str, path: &str, version: &str) -> anyhow::Result<Program> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let installed = Program::installed(name);
    if runs(&installed, version) {
        return Ok(installed);
    }
    let tree =
        paths::made_once(package, |tree| Apt::open()?.unpack_closure(&[package], None, tree))?;
    let unpacked = Program::in_tree(&tree, path);
    anyhow::ensure!(runs(&unpacked, version), "the unpacked {name} does not run");
    Ok(unpacked)
}

fn runs(program: &Program, word: &str) -> bool {
    program.command().arg(word).output().is_ok_and(|output| output.status.success())
}

/// passt(1), the network of interfaces of type='user', and what it is linked with, as they lie in a tree.
/// That of Debian 12 runs with the libraries of every machine the tests run on, and gives a slow guest
/// bytes twice; that of Debian 13 does not, and needs its own.
pub fn passt(release: Release) -> anyhow::Result<Passt> {
    let tree = paths::made_once(&format!("passt-tree{}", release.suffix()), |tree| {
        Apt::of(release)?.unpack_closure(&["passt"], None, tree)
    })?;
    Ok(Passt { program: tree.join("usr/bin/passt"), tree })
}

pub struct Passt {
    pub program: PathBuf,
    tree: PathBuf,
}

impl Passt {
    /// Its loader and its C library, and where they belong.
    pub fn libraries(&self) -> [(PathBuf, &'static str); 2] {
        // Where /lib is /usr/lib, packages have them there.
        let lib = ["usr/lib", "lib"].map(|lib| self.tree.join(lib).join("x86_64-linux-gnu"));
        let has_them = |lib: &&PathBuf| lib.join("libc.so.6").exists();
        let lib = lib.iter().find(has_them).unwrap_or(&lib[0]);
        [
            (lib.join("ld-linux-x86-64.so.2"), "/lib64/ld-linux-x86-64.so.2"),
            (lib.join("libc.so.6"), "/lib/x86_64-linux-gnu/libc.so.6"),
        ]
    }
}
