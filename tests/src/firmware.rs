//! Firmware for guests, from Debian's packages.

use std::path::PathBuf;

use crate::apt::Apt;
use crate::paths;

/// SeaBIOS, as QEMU's boards have it.
pub fn seabios() -> anyhow::Result<PathBuf> {
    let tree = paths::made_once("seabios", |tree| Apt::open()?.unpack(&["seabios"], tree))?;
    Ok(tree.join("usr/share/seabios/bios-256k.bin"))
}
