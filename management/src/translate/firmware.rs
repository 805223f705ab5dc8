//! Which firmware a guest without a kernel of its own starts with. What is chosen for the user is
//! chosen at define and stored, so that a guest finds the same firmware, and its variables, again.

use std::path::{Path, PathBuf};

use vmm_protocol::config::Machine;
use xml::device::video::{VideoModel, VideoModelType};
use xml::domain::os::{Firmware, FirmwareFeatureName, LoaderFormat, LoaderKind, Os};
use xml::{DomainDef, YesNo};

use super::board_of;
use super::report::Report;
use crate::firmware::Installed;
use crate::host::Driver;

/// Milliseconds that SeaBIOS shows its menu for if it is not told.
const MENU: u16 = 2500;

/// What a definition is completed from.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub firmware: Installed,
    /// Where the variables of guests are kept that name no place for them.
    pub variables: PathBuf,
    /// Where the definition's cloud-init seed lies, if it is to have one.
    pub seeds: Option<PathBuf>,
    pub driver: Driver,
}

/// What of `<os>` can be had.
pub(super) fn check(def: &DomainDef, report: &mut Report<'_>) {
    let os = &def.os;
    if os.kernel.is_some() {
        let both = "firmware beside a kernel, which is started directly; remove one of the two";
        report.refuse_if(os.firmware.is_some(), "/domain/os/@firmware", both);
        report.refuse_if(os.loader.is_some(), "/domain/os/loader", both);
        report.refuse_if(os.nvram.is_some(), "/domain/os/nvram", both);
        return;
    }
    if board_of(def) == Machine::Microvm {
        let message =
            "a microvm has no firmware: it starts a kernel directly, and no <kernel> is named";
        report.missing("/domain/os", message);
    }
    for (path, present) in [("initrd", os.initrd.is_some()), ("cmdline", os.cmdline.is_some())] {
        if present {
            report.invalid(&format!("/domain/os/{path}"), format!("a <{path}> without a <kernel>"));
        }
    }
    check_features(os, report);
    check_loader(os, report);
    check_variables(os, report);
}

fn check_features(os: &Os, report: &mut Report<'_>) {
    for (number, feature) in (1..).zip(os.firmware_features.iter().flat_map(|f| &f.features)) {
        if feature.enabled == YesNo::Yes {
            let path = format!("/domain/os/firmware/feature[{number}]");
            let what = match feature.name {
                FirmwareFeatureName::SecureBoot => "Secure Boot",
                FirmwareFeatureName::EnrolledKeys => "Secure Boot's enrolled keys",
            };
            report.refuse(
                &path,
                format!("{what}: it needs system management mode; say enabled='no'"),
            );
        }
    }
}

fn check_loader(os: &Os, report: &mut Report<'_>) {
    let Some(loader) = &os.loader else { return };
    let at = |name: &str| format!("/domain/os/loader/{name}");
    let secure = loader.secure == Some(YesNo::Yes);
    report.refuse_if(secure, &at("@secure"), "Secure Boot: it needs system management mode");
    let qcow2 = loader.format == Some(LoaderFormat::Qcow2);
    report.refuse_if(qcow2, &at("@format"), "firmware in qcow2; convert it to raw");
    let writable = loader.kind == Some(LoaderKind::Pflash) && loader.read_only == Some(YesNo::No);
    let split =
        "firmware code that the guest may write; use readonly='yes', and <nvram> for variables";
    report.refuse_if(writable, &at("@readonly"), split);
    if loader.path.is_none() && os.firmware.is_none() {
        report.missing(
            "/domain/os/loader",
            "name the firmware image, or ask for one: <os firmware='efi'>",
        );
    }
}

fn check_variables(os: &Os, report: &mut Report<'_>) {
    let Some(variables) = &os.nvram else { return };
    let qcow2 = [variables.format, variables.template_format].contains(&Some(LoaderFormat::Qcow2));
    report.refuse_if(qcow2, "/domain/os/nvram", "firmware variables in qcow2; convert them to raw");
    let stateless = os.loader.as_ref().is_some_and(|l| l.stateless == Some(YesNo::Yes));
    if stateless {
        report.invalid(
            "/domain/os/nvram",
            "variables of a firmware that is to keep none (stateless='yes')",
        );
    } else if os.firmware != Some(Firmware::Efi) && !is_flash(os) {
        let message = "variables are kept in flash: write <loader readonly='yes' type='pflash'>";
        report.invalid("/domain/os/nvram", message);
    }
}

fn is_flash(os: &Os) -> bool {
    os.loader.as_ref().is_some_and(|loader| loader.kind == Some(LoaderKind::Pflash))
}

/// Choose what was left open.
pub(super) fn complete(def: &mut DomainDef, host: &Host, report: &mut Report<'_>) {
    if def.os.kernel.is_some() {
        return;
    }
    let machine = board_of(def);
    let stateless =
        def.os.loader.as_ref().is_some_and(|loader| loader.stateless == Some(YesNo::Yes));
    let named = def.os.loader.as_ref().and_then(|loader| loader.path.clone());
    match (def.os.firmware, named) {
        (Some(Firmware::Efi), None) => {
            let Some(found) = host.firmware.efi(machine, stateless) else {
                return report.refuse("/domain/os/@firmware", no_efi());
            };
            let loader = def.os.loader.get_or_insert_default();
            loader.read_only = Some(YesNo::Yes);
            loader.kind = Some(LoaderKind::Pflash);
            loader.path = Some(found.code);
            if let Some(template) = found.template {
                def.os.nvram.get_or_insert_default().template.get_or_insert(template);
            }
        }
        (_, Some(code)) if is_flash(&def.os) && !stateless => {
            if let Some(loader) = &mut def.os.loader {
                loader.read_only = Some(YesNo::Yes);
            }
            if let Some(template) = host.firmware.template_for(&code) {
                def.os.nvram.get_or_insert_default().template.get_or_insert(template);
            }
        }
        _ => {}
    }
    if let (Some(variables), Some(uuid)) = (&mut def.os.nvram, def.uuid) {
        // By the UUID, which stays when the domain is renamed.
        variables.path.get_or_insert_with(|| host.variables.join(format!("{uuid}_VARS.fd")));
    }
}

fn no_efi() -> String {
    "UEFI firmware, because none is installed here that fits this machine: install the package ovmf \
     (Debian, Ubuntu) or edk2-ovmf (Fedora, Arch, RHEL), or name an image in <loader>"
        .to_owned()
}

/// Where the variables of a guest lie, and what they are made from.
pub(crate) fn variables(def: &DomainDef) -> Option<(&Path, Option<&Path>)> {
    let variables = def.os.nvram.as_ref()?;
    Some((variables.path.as_deref()?, variables.template.as_deref()))
}

/// Milliseconds of boot menu, if there is to be one.
pub(super) fn menu(os: &Os) -> Option<u16> {
    let menu = os.boot_menu.as_ref().filter(|menu| menu.enable == YesNo::Yes)?;
    Some(menu.timeout.unwrap_or(MENU))
}

/// Whether text of the BIOS goes to the serial port: where it was asked for, and where there is no
/// display that would show it.
pub(super) fn serial_text(def: &DomainDef) -> bool {
    let said = def.os.bios.as_ref().and_then(|bios| bios.use_serial);
    match said {
        Some(said) => said == YesNo::Yes,
        None => !def.devices.serials.is_empty() && !has_display(def),
    }
}

fn has_display(def: &DomainDef) -> bool {
    let shows = |model: &VideoModel| model.kind != VideoModelType::None;
    def.devices.videos.iter().any(|video| video.model.as_ref().is_some_and(shows))
}
