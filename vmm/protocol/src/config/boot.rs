//! What the guest starts with, and what firmware tells it of its machine.

use serde::{Deserialize, Serialize};

use super::Fd;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Boot {
    /// Load a kernel directly: bzImage or ELF.
    Kernel { kernel: Fd, initrd: Option<Fd>, cmdline: String },
    /// Start at the reset vector of a firmware, which finds the rest by itself.
    Firmware(Firmware),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// The image that ends at 4 GiB: SeaBIOS, or OVMF's code with or without its variables.
    pub image: Fd,
    /// Flash below `image` for the firmware's variables. What the guest writes is written here.
    pub variables: Option<Fd>,
    /// Offer a boot menu for this long, milliseconds.
    pub menu: Option<u16>,
    /// What boot code prints by BIOS calls appears on the first serial port, too.
    pub serial_text: bool,
}

/// Strings of SMBIOS structures (libvirt's `<sysinfo type='smbios'>`); what is absent keeps its
/// default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Smbios {
    /// Type 0: vendor, version, date, release (`MAJOR.MINOR`).
    pub bios: SmbiosStrings,
    /// Type 1: manufacturer, product, version, serial, sku, family.
    pub system: SmbiosStrings,
    /// Type 2, one structure each: manufacturer, product, version, serial, asset, location.
    pub base_boards: Vec<SmbiosStrings>,
    /// Type 3: manufacturer, version, serial, asset, sku.
    pub chassis: SmbiosStrings,
    /// Type 11.
    pub oem_strings: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmbiosStrings {
    pub vendor: Option<String>,
    pub version: Option<String>,
    pub date: Option<String>,
    pub release: Option<String>,
    pub manufacturer: Option<String>,
    pub product: Option<String>,
    pub serial: Option<String>,
    pub sku: Option<String>,
    pub family: Option<String>,
    pub asset: Option<String>,
    pub location: Option<String>,
}

/// A file in fw_cfg (libvirt's `<sysinfo type='fwcfg'>`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FwCfgFile {
    /// `opt/…`, at most 55 bytes.
    pub name: String,
    pub content: FwCfgContent,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FwCfgContent {
    Text(String),
    File(Fd),
}
