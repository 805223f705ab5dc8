//! One firmware descriptor: a JSON file by which a package says what its images are and where
//! (QEMU's `docs/interop/firmware.json`). Only what decides is read; the rest may be anything.

use std::path::PathBuf;

use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Descriptor {
    #[serde(rename = "interface-types")]
    pub(super) interfaces: Vec<String>,
    pub(super) mapping: Mapping,
    pub(super) targets: Vec<Target>,
    #[serde(default)]
    pub(super) features: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "device", rename_all = "lowercase")]
pub(super) enum Mapping {
    Flash {
        executable: FlashFile,
        #[serde(rename = "nvram-template")]
        template: Option<FlashFile>,
        #[serde(default)]
        mode: FlashMode,
    },
    Memory {
        filename: PathBuf,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct FlashFile {
    pub(super) filename: PathBuf,
    pub(super) format: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FlashMode {
    /// Code, which is shared, and variables, of which each guest has its own.
    #[default]
    Split,
    /// Both in one file, which would have to be copied for each guest.
    Combined,
    /// Variables are forgotten.
    Stateless,
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Target {
    architecture: String,
    machines: Vec<String>,
}

impl Target {
    /// Machines are named by patterns such as `pc-q35-*`.
    pub(super) fn fits(&self, machine: &str) -> bool {
        let named = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => machine.starts_with(start),
            None => machine == pattern,
        };
        self.architecture == "x86_64" && self.machines.iter().any(named)
    }
}
