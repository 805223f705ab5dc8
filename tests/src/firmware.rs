//! Firmware for guests, from Debian's packages.

use std::path::PathBuf;

use crate::apt::Apt;
use crate::{Testbed, paths};

/// OVMF: its code and a template of its variables.
pub fn ovmf() -> anyhow::Result<[PathBuf; 2]> {
    let tree = paths::made_once("ovmf", |tree| Apt::open()?.unpack(&["ovmf"], tree))?;
    Ok(["CODE", "VARS"].map(|part| tree.join(format!("usr/share/OVMF/OVMF_{part}_4M.fd"))))
}

/// SeaBIOS, as QEMU's boards have it.
pub fn seabios() -> anyhow::Result<PathBuf> {
    let tree = paths::made_once("seabios", |tree| Apt::open()?.unpack(&["seabios"], tree))?;
    Ok(tree.join("usr/share/seabios/bios-256k.bin"))
}

/// The option ROM of virtio network cards, with an image for a BIOS and one for UEFI.
pub fn ipxe() -> anyhow::Result<PathBuf> {
    let tree = paths::made_once("ipxe", |tree| Apt::open()?.unpack(&["ipxe-qemu"], tree))?;
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
