//! The firmware that is installed on this host: where its packages say their images are.
//!
//! Descriptors are found as QEMU and libvirt find them: the names of all directories together in
//! alphabetical order, a file in an earlier directory hiding those of the same name in later ones,
//! an empty file hiding without replacing.

mod descriptor;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use vmm_protocol::config::Machine;

use crate::config;
use descriptor::{Descriptor, FlashMode, Mapping};

/// Far more than any descriptor has.
const LARGEST: u64 = 64 << 10;

/// Looked through anew at each question: packages come and go while the daemon runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installed {
    config: config::Firmware,
}

/// UEFI firmware in flash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Efi {
    pub code: PathBuf,
    /// Fresh variables; none where the firmware keeps none.
    pub template: Option<PathBuf>,
}

impl Installed {
    pub(crate) fn new(config: config::Firmware) -> Self {
        Self { config }
    }

    /// The BIOS that a machine starts without being told of any firmware.
    pub(crate) fn bios(&self, machine: Machine) -> Option<PathBuf> {
        let described = self.descriptors().find_map(|found| match &found.mapping {
            Mapping::Memory { filename } if found.offers("bios", machine) => Some(filename.clone()),
            _ => None,
        });
        let named = || self.config.bios.iter().find(|path| path.is_file()).cloned();
        described.filter(|path| path.is_file()).or_else(named)
    }

    /// The file of this name among the host's option ROMs.
    pub(crate) fn option_rom(&self, name: &str) -> Option<PathBuf> {
        let mut places = self.config.option_roms.iter().map(|dir| dir.join(name));
        places.find(|path| path.is_file())
    }

    /// The first UEFI firmware that this VMM can run for `machine`.
    pub(crate) fn efi(&self, machine: Machine, stateless: bool) -> Option<Efi> {
        self.descriptors().filter(|found| found.offers("uefi", machine)).find_map(|found| {
            let efi = found.flash(stateless)?;
            efi.code.is_file().then_some(efi)
        })
    }

    /// What fresh variables for the firmware in `code` are made from.
    pub(crate) fn template_for(&self, code: &Path) -> Option<PathBuf> {
        let known = self.descriptors().find_map(|found| match found.mapping {
            Mapping::Flash { executable, template, .. } if executable.filename == code => template,
            _ => None,
        });
        known.map(|template| template.filename)
    }

    fn descriptors(&self) -> impl Iterator<Item = Descriptor> + use<> {
        let mut files = BTreeMap::new();
        for dir in self.config.descriptors.iter().rev() {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            files.extend(
                entries
                    .map(|entry| (entry.file_name(), entry.path()))
                    .filter(|(_, path)| path.extension().is_some_and(|ending| ending == "json")),
            );
        }
        files.into_values().filter_map(|path| read(&path))
    }
}

/// For the fuzz target: what a descriptor says is understood or passed over, and whoever asks for firmware gets images
/// with names.
pub(crate) fn weigh(text: &[u8]) {
    let Ok(found) = serde_json::from_slice::<Descriptor>(text) else { return };
    for machine in [Machine::Q35, Machine::Pc, Machine::Microvm] {
        for stateless in [false, true] {
            if found.offers("uefi", machine)
                && let Some(efi) = found.clone().flash(stateless)
            {
                assert_eq!(efi.template.is_none(), stateless, "{efi:?}");
            }
        }
    }
}

/// One that is not understood is passed over: others may do.
fn read(path: &Path) -> Option<Descriptor> {
    let mut text = Vec::new();
    let opened = fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut text));
    if let Err(error) = opened {
        tracing::warn!(path = %path.display(), %error, "a firmware descriptor cannot be read");
        return None;
    }
    if text.is_empty() {
        return None;
    }
    serde_json::from_slice(&text)
        .inspect_err(|error| {
            tracing::warn!(path = %path.display(), %error, "a firmware descriptor is not understood");
        })
        .ok()
}

impl Descriptor {
    /// Whether a guest on `machine` can be given this, without system management mode.
    fn offers(&self, interface: &str, machine: Machine) -> bool {
        // As QEMU names the newest version of each.
        let name = match machine {
            Machine::Q35 => "pc-q35-10.0",
            Machine::Pc => "pc-i440fx-10.0",
            Machine::Microvm => "microvm",
        };
        self.interfaces.iter().any(|kind| kind == interface)
            && self.targets.iter().any(|target| target.fits(name))
            && !self.features.iter().any(|feature| feature == "requires-smm")
    }

    fn flash(self, stateless: bool) -> Option<Efi> {
        let Mapping::Flash { executable, template, mode } = self.mapping else { return None };
        let template = match (mode, stateless) {
            (FlashMode::Split, false) => Some(template?),
            (FlashMode::Split | FlashMode::Stateless, true) => None,
            _ => return None,
        };
        let raw = executable.format == "raw" && template.as_ref().is_none_or(|t| t.format == "raw");
        raw.then(|| Efi { code: executable.filename, template: template.map(|t| t.filename) })
    }
}
