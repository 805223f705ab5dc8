//! Firmware for guests, from Debian's packages.

use std::path::PathBuf;

use crate::apt::{Apt, Release};
use crate::{Testbed, paths};

/// OVMF: its code and a template of its variables.
pub fn ovmf() -> anyhow::Result<[PathBuf; 2]> {
    ovmf_of(Release::default())
}

pub fn ovmf_of(release: Release) -> anyhow::Result<[PathBuf; 2]> {
    let tree = package("ovmf", release)?;
    Ok(["CODE", "VARS"].map(|part| tree.join(format!("usr/share/OVMF/OVMF_{part}_4M.fd"))))
}

/// OVMF with code and variables in one image.
pub fn ovmf_whole(release: Release) -> anyhow::Result<PathBuf> {
    Ok(package("ovmf", release)?.join("usr/share/ovmf/OVMF.fd"))
}

/// SeaBIOS, as QEMU's boards have it.
pub fn seabios() -> anyhow::Result<PathBuf> {
    seabios_of(Release::default())
}

pub fn seabios_of(release: Release) -> anyhow::Result<PathBuf> {
    Ok(package("seabios", release)?.join("usr/share/seabios/bios-256k.bin"))
}

fn package(name: &str, release: Release) -> anyhow::Result<PathBuf> {
    let tree = format!("{name}{}", release.suffix());
    paths::made_once(&tree, |tree| Apt::of(release)?.unpack(&[name], tree))
}

/// The option ROM of virtio network cards, with an image for a BIOS and one for UEFI.
pub fn ipxe() -> anyhow::Result<PathBuf> {
    let tree = package("ipxe-qemu", Release::default())?;
    Ok(tree.join("usr/lib/ipxe/qemu/efi-virtio.rom"))
}

/// Put it all into the emulated host, where test programs cannot fetch it: below `dir`, which is
/// their `MANOR_TESTBED_DIR`.
pub fn put_inside(host: &Testbed, dir: &str) -> anyhow::Result<()> {
    for file in [seabios()?, ipxe()?] {
        let name = file.strip_prefix(paths::testbed())?.display();
        host.put(&file, &format!("{dir}/{name}"))?;
    }
    Ok(())
}
