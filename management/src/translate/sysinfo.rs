//! `<sysinfo>`: what SMBIOS and fw_cfg tell the guest, beside what the machine itself tells.

use std::path::Path;

use uuid::Uuid;
use vmm_protocol::config::{Fd, FwCfgContent, FwCfgFile, Smbios, SmbiosStrings};
use xml::DomainDef;
use xml::domain::os::{FwCfgEntry, SmbiosMode, Sysinfo, SysinfoBlock, SysinfoField, SysinfoKind};

use super::report::Report;

/// What QEMU's fw_cfg has room for, without its zero byte.
const LONGEST_NAME: usize = 55;

pub(super) fn check(def: &DomainDef, report: &mut Report<'_>) {
    let host = def.os.smbios == Some(SmbiosMode::Host);
    report.refuse_if(host, "/domain/os/smbios/@mode", "the SMBIOS tables of the host; use sysinfo");
    let told = def.sysinfos.iter().any(|info| info.kind == SysinfoKind::Smbios);
    if def.os.smbios == Some(SmbiosMode::Sysinfo) && !told {
        let message = "mode='sysinfo' needs a <sysinfo type='smbios'>";
        report.invalid("/domain/os/smbios/@mode", message);
    }
    for (number, info) in (1..).zip(&def.sysinfos) {
        let path = format!("/domain/sysinfo[{number}]");
        check_uuid(def, info, &path, report);
        for (number, entry) in (1..).zip(&info.entries) {
            check_entry(entry, &format!("{path}/entry[{number}]"), report);
        }
    }
}

/// As libvirt: the two places must not tell of different machines.
fn check_uuid(def: &DomainDef, info: &Sysinfo, path: &str, report: &mut Report<'_>) {
    let Some(text) = uuid_text(info) else { return };
    let said = text.trim().parse::<Uuid>().ok();
    if said.is_none() || def.uuid.is_some_and(|own| said != Some(own)) {
        let message = format!("the UUID {text:?} is not that of the domain in <uuid>");
        report.invalid(&format!("{path}/system"), message);
    }
}

/// The domain's UUID, if it is said here alone.
pub(super) fn uuid(def: &DomainDef) -> Option<Uuid> {
    def.sysinfos.iter().find_map(uuid_text)?.trim().parse().ok()
}

fn uuid_text(info: &Sysinfo) -> Option<&str> {
    let mut entries = info.system.iter().flat_map(|block| &block.entries);
    entries.find(|entry| entry.name == SysinfoField::Uuid)?.value.as_deref()
}

fn check_entry(entry: &FwCfgEntry, path: &str, report: &mut Report<'_>) {
    let name = &entry.name;
    if !name.starts_with("opt/") || name.len() > LONGEST_NAME || !name.is_ascii() {
        let message =
            format!("the name {name:?} must begin with 'opt/' and have at most 55 letters");
        report.invalid(&format!("{path}/@name"), message);
    }
    let filled = entry.value.as_ref().is_some_and(|value| !value.is_empty());
    if filled == entry.file.is_some() {
        report.invalid(path, "the entry holds either a text or the contents of a file='…'");
    }
}

/// What SMBIOS says; libvirt's default is that `<sysinfo>` alone changes nothing.
pub(super) fn smbios(def: &DomainDef) -> Smbios {
    let wanted = def.os.smbios == Some(SmbiosMode::Sysinfo);
    let told = def.sysinfos.iter().find(|info| wanted && info.kind == SysinfoKind::Smbios);
    let Some(info) = told else { return Smbios::default() };
    let block = |block: &Option<SysinfoBlock>| block.as_ref().map(strings).unwrap_or_default();
    Smbios {
        bios: block(&info.bios),
        system: block(&info.system),
        base_boards: info.base_boards.iter().map(strings).collect(),
        chassis: block(&info.chassis),
        oem_strings: info.oem_strings.iter().flat_map(|strings| strings.entries.clone()).collect(),
    }
}

fn strings(block: &SysinfoBlock) -> SmbiosStrings {
    let mut strings = SmbiosStrings::default();
    for entry in &block.entries {
        let place = match entry.name {
            SysinfoField::Vendor => &mut strings.vendor,
            SysinfoField::Version => &mut strings.version,
            SysinfoField::Date => &mut strings.date,
            SysinfoField::Release => &mut strings.release,
            SysinfoField::Manufacturer => &mut strings.manufacturer,
            SysinfoField::Product => &mut strings.product,
            SysinfoField::Serial => &mut strings.serial,
            SysinfoField::Sku => &mut strings.sku,
            SysinfoField::Family => &mut strings.family,
            SysinfoField::Asset => &mut strings.asset,
            SysinfoField::Location => &mut strings.location,
            // The domain's own, which is told anyway.
            SysinfoField::Uuid => continue,
        };
        place.clone_from(&entry.value);
    }
    strings
}

/// Files that the guest is to find in fw_cfg and that come from the host, in the definition's order.
pub(crate) fn files(def: &DomainDef) -> impl Iterator<Item = &Path> {
    entries(def).filter_map(|entry| entry.file.as_deref())
}

/// What the guest finds in fw_cfg; `open` are the files of [`files`].
pub(super) fn fw_cfg(def: &DomainDef, open: &[Fd]) -> Vec<FwCfgFile> {
    let mut open = open.iter();
    entries(def)
        .filter_map(|entry| {
            let content = match &entry.file {
                Some(_) => FwCfgContent::File(*open.next()?),
                None => FwCfgContent::Text(entry.value.clone().unwrap_or_default()),
            };
            Some(FwCfgFile { name: entry.name.clone(), content })
        })
        .collect()
}

fn entries(def: &DomainDef) -> impl Iterator<Item = &FwCfgEntry> {
    let told = def.sysinfos.iter().filter(|info| info.kind == SysinfoKind::FwCfg);
    told.flat_map(|info| &info.entries)
}
