//! What a guest of one kind can have here, in the shape in which libvirt says it
//! (virConnectGetDomainCapabilities). Installers choose devices by it.

use std::fmt::Write as _;
use std::path::PathBuf;

use arch::cpuid::models;

use crate::error::{Code, Error};
use crate::host::Driver;

/// Of one guest.
pub const MAX_VCPUS: u16 = 64;

/// The kind of guest that is asked about; what is not said is the usual.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted<'a> {
    pub architecture: Option<&'a str>,
    pub machine: Option<&'a str>,
    pub virt_type: Option<&'a str>,
    /// UEFI that is installed here.
    pub efi: &'a [PathBuf],
    pub driver: Driver,
}

/// Names of processor models that a definition may ask for.
#[must_use]
pub fn cpu_model_names() -> Vec<String> {
    models::names().map(str::to_owned).collect()
}

pub(crate) fn describe(wanted: Wanted<'_>) -> Result<String, Error> {
    let refused = |what: &str, given: &str, known: &str| {
        let text = format!("there is no {what} {given:?}; there is {known}");
        Err(Error::new(Code::InvalidArgument, text))
    };
    let machine = match wanted.machine.unwrap_or("q35") {
        "q35" => "q35",
        "pc" => "pc",
        "microvm" => "microvm",
        name if name.starts_with("pc-q35-") || name.starts_with("pc-i440fx-") => name,
        other => return refused("machine type", other, "q35, pc and microvm"),
    };
    match wanted.architecture.unwrap_or("x86_64") {
        "x86_64" => {}
        other => return refused("architecture", other, "x86_64"),
    }
    let domain = match (wanted.virt_type.unwrap_or("kvm"), wanted.driver) {
        ("kvm", _) => "kvm",
        ("test", Driver::Test) => "test",
        (other, _) => return refused("virtualization type", other, "kvm"),
    };
    let is_pc = machine == "pc" || machine.starts_with("pc-i440fx-");
    let is_microvm = machine == "microvm";
    let mut xml = format!(
        "<domainCapabilities>\n  <path>/usr/bin/manor</path>\n  <domain>{domain}</domain>\n  \
         <machine>{machine}</machine>\n  <arch>x86_64</arch>\n  <vcpu max='{MAX_VCPUS}'/>\n  \
         <iothreads supported='yes'/>\n"
    );
    xml.push_str(&firmware(if is_microvm { &[] } else { wanted.efi }));
    xml.push_str(&cpu());
    xml.push_str(&values("  ", "memoryBacking", &[("sourceType", &["memfd", "anonymous"])]));
    xml.push_str("  <devices>\n");
    let drives: &[&str] = if is_microvm { &["disk"] } else { &["disk", "cdrom"] };
    let buses: &[&str] = match (is_pc, is_microvm) {
        (true, _) => &["ide", "scsi", "virtio", "sata"],
        (_, true) => &["virtio", "scsi"],
        _ => &["scsi", "virtio", "sata"],
    };
    let models = ["virtio", "virtio-non-transitional"];
    let disk = [("diskDevice", drives), ("bus", buses), ("model", models.as_slice())];
    xml.push_str(&values("    ", "disk", &disk));
    if is_microvm {
        xml.push_str("    <graphics supported='no'/>\n    <video supported='no'/>\n");
    } else {
        xml.push_str(&values("    ", "graphics", &[("type", &["vnc"])]));
        xml.push_str(&values("    ", "video", &[("modelType", &["vga", "bochs", "none"])]));
    }
    xml.push_str("    <hostdev supported='no'/>\n");
    let rng: [(&str, &[&str]); 2] = [("model", &models), ("backendModel", &["random"])];
    xml.push_str(&values("    ", "rng", &rng));
    xml.push_str("    <filesystem supported='no'/>\n    <tpm supported='no'/>\n");
    xml.push_str("    <redirdev supported='no'/>\n");
    xml.push_str(&values("    ", "channel", &[("type", &["pty", "unix"])]));
    xml.push_str("  </devices>\n  <features>\n    <gic supported='no'/>\n");
    xml.push_str("    <vmcoreinfo supported='no'/>\n    <genid supported='yes'/>\n");
    xml.push_str("    <backingStoreInput supported='yes'/>\n    <backup supported='no'/>\n");
    xml.push_str("    <sev supported='no'/>\n  </features>\n</domainCapabilities>\n");
    Ok(xml)
}

/// `<name>` with its enumerations.
fn values(indent: &str, name: &str, enumerations: &[(&str, &[&str])]) -> String {
    let mut xml = format!("{indent}<{name} supported='yes'>\n");
    for (of, values) in enumerations {
        let _ = writeln!(xml, "{indent}  <enum name='{of}'>");
        for value in *values {
            let _ = writeln!(xml, "{indent}    <value>{value}</value>");
        }
        let _ = writeln!(xml, "{indent}  </enum>");
    }
    let _ = writeln!(xml, "{indent}</{name}>");
    xml
}

fn firmware(efi: &[PathBuf]) -> String {
    let mut xml = "  <os supported='yes'>\n    <enum name='firmware'>\n".to_owned();
    if !efi.is_empty() {
        xml.push_str("      <value>efi</value>\n");
    }
    xml.push_str("    </enum>\n    <loader supported='yes'>\n");
    for path in efi {
        let path = crate::host::escape(&path.display().to_string());
        let _ = writeln!(xml, "      <value>{path}</value>");
    }
    xml.push_str(
        "      <enum name='type'>\n        <value>rom</value>\n        <value>pflash</value>\n      \
         </enum>\n      <enum name='readonly'>\n        <value>yes</value>\n        \
         <value>no</value>\n      </enum>\n      <enum name='secure'>\n        <value>no</value>\n      \
         </enum>\n    </loader>\n  </os>\n",
    );
    xml
}

fn cpu() -> String {
    // Of what the host's processor adds to qemu64, which every one of them can be, a guest of
    // host-model gets all that KVM has; there is no one name for it.
    let mut xml = "  <cpu>\n    <mode name='host-passthrough' supported='yes'>\n      \
                   <enum name='hostPassthroughMigratable'>\n        <value>off</value>\n      </enum>\n    \
                   </mode>\n    <mode name='maximum' supported='yes'/>\n    \
                   <mode name='host-model' supported='yes'>\n      \
                   <model fallback='forbid'>qemu64</model>\n    </mode>\n    \
                   <mode name='custom' supported='yes'>\n"
        .to_owned();
    for model in models::names() {
        let _ = writeln!(xml, "      <model usable='unknown'>{model}</model>");
    }
    xml.push_str("    </mode>\n  </cpu>\n");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_machine_has_its_own_devices_and_others_are_named() {
        let of = |machine| describe(Wanted { machine: Some(machine), ..Wanted::default() });
        let q35 = of("q35").unwrap();
        assert!(q35.contains("<value>sata</value>") && !q35.contains("<value>ide</value>"));
        assert!(of("pc").unwrap().contains("<value>ide</value>"));
        assert!(of("pc-i440fx-7.2").unwrap().contains("<machine>pc-i440fx-7.2</machine>"));
        assert!(of("microvm").unwrap().contains("<graphics supported='no'/>"));
        assert!(of("s390-ccw-virtio").unwrap_err().message.contains("q35"));
        let foreign = Wanted { architecture: Some("aarch64"), ..Wanted::default() };
        assert_eq!(describe(foreign).unwrap_err().code, Code::InvalidArgument);
        let emulated = Wanted { virt_type: Some("qemu"), ..Wanted::default() };
        assert_eq!(describe(emulated).unwrap_err().code, Code::InvalidArgument);
    }

    #[test]
    fn firmware_that_is_not_here_is_not_promised() {
        let without = describe(Wanted::default()).unwrap();
        assert!(!without.contains("<value>efi</value>"));
        let efi = ["/usr/share/<OVMF>.fd".into()];
        let with = describe(Wanted { efi: &efi, ..Wanted::default() }).unwrap();
        assert!(with.contains("<value>efi</value>") && with.contains("&lt;OVMF&gt;"));
    }
}
