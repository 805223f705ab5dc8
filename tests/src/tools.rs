//! Small programs of Debian that tests speak to: fetched where the machine does not have them.

use crate::apt::Apt;
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
pub fn passt() -> anyhow::Result<Passt> {
    let tree =
        paths::made_once("passt-tree", |tree| Apt::open()?.unpack_closure(&["passt"], None, tree))?;
    Ok(Passt { program: tree.join("usr/bin/passt"), tree })
}

pub struct Passt {
    pub program: std::path::PathBuf,
    tree: std::path::PathBuf,
}

impl Passt {
    /// Its loader and its C library, and where they belong.
    pub fn libraries(&self) -> [(std::path::PathBuf, &'static str); 2] {
        let lib = self.tree.join("lib/x86_64-linux-gnu");
        [
            (lib.join("ld-linux-x86-64.so.2"), "/lib64/ld-linux-x86-64.so.2"),
            (lib.join("libc.so.6"), "/lib/x86_64-linux-gnu/libc.so.6"),
        ]
    }
}
