use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vmm_protocol::config::Machine;

use super::{Efi, Installed};
use crate::config;

struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for dir in ["etc", "usr", "images"] {
            fs::create_dir(host.path(dir)).unwrap();
        }
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn image(&self, name: &str) -> String {
        let path = self.path("images").join(name);
        fs::write(&path, "image").unwrap();
        path.display().to_string()
    }

    fn descriptor(&self, name: &str, mapping: &str, machines: &str, features: &str) {
        let text = format!(
            r#"{{ "description": "x", "interface-types": ["uefi"], "mapping": {{ {mapping} }},
                "targets": [{{ "architecture": "x86_64", "machines": [{machines}] }}],
                "features": [{features}], "tags": [] }}"#
        );
        fs::write(self.path(name), text).unwrap();
    }

    fn split(&self, name: &str, code: &str, machines: &str, features: &str) -> Efi {
        let (code, vars) = (self.image(code), self.image(&format!("{code}-vars")));
        let mapping = format!(
            r#""device": "flash", "executable": {{ "filename": "{code}", "format": "raw" }},
               "nvram-template": {{ "filename": "{vars}", "format": "raw" }}"#
        );
        self.descriptor(name, &mapping, machines, features);
        Efi { code: code.into(), template: Some(vars.into()) }
    }

    fn installed(&self) -> Installed {
        Installed::new(config::Firmware {
            bios: vec![self.path("images/none.bin"), self.path("images/bios.bin")],
            option_roms: vec![self.path("roms"), self.path("images")],
            descriptors: vec![self.path("etc"), self.path("usr")],
        })
    }
}

const BOTH: &str = r#""pc-i440fx-*", "pc-q35-*""#;

#[test]
fn the_first_that_needs_no_smm_and_fits_the_machine_is_taken() {
    let host = Host::new();
    host.split("usr/40-secure.json", "secure", r#""pc-q35-*""#, r#""secure-boot", "requires-smm""#);
    let q35 = host.split("usr/50-q35.json", "q35", r#""pc-q35-*""#, "");
    let both = host.split("usr/60-both.json", "both", BOTH, r#""acpi-s3""#);
    let installed = host.installed();
    assert_eq!(installed.efi(Machine::Q35, false), Some(q35));
    assert_eq!(installed.efi(Machine::Pc, false), Some(both.clone()));
    assert_eq!(installed.efi(Machine::Microvm, false), None);
    assert_eq!(installed.template_for(&both.code), both.template);
    assert_eq!(installed.template_for(Path::new("/elsewhere")), None);
}

#[test]
fn a_descriptor_of_the_administrator_hides_that_of_a_package() {
    let host = Host::new();
    host.split("usr/50-a.json", "packaged", BOTH, "");
    let own = host.split("etc/50-a.json", "own", BOTH, "");
    assert_eq!(host.installed().efi(Machine::Q35, false), Some(own));
    fs::write(host.path("etc/50-a.json"), "").unwrap();
    assert_eq!(host.installed().efi(Machine::Q35, false), None);
}

#[test]
fn what_is_no_descriptor_or_has_no_image_is_passed_over() {
    let host = Host::new();
    fs::write(host.path("usr/10-broken.json"), "{").unwrap();
    fs::write(host.path("usr/20-readme.txt"), "{").unwrap();
    host.descriptor("usr/25-future.json", r#""device": "cartridge""#, BOTH, "");
    let gone = host.split("usr/30-gone.json", "gone", BOTH, "");
    fs::remove_file(gone.code).unwrap();
    let mapping = r#""device": "flash", "executable": { "filename": "/x", "format": "qcow2" },
        "nvram-template": { "filename": "/y", "format": "qcow2" }"#;
    host.descriptor("usr/40-qcow2.json", mapping, BOTH, "");
    let there = host.split("usr/50-there.json", "there", BOTH, "");
    assert_eq!(host.installed().efi(Machine::Q35, false), Some(there));
}

#[test]
fn firmware_without_variables_is_for_guests_that_want_none() {
    let host = Host::new();
    let code = host.image("code");
    let mapping = format!(
        r#""device": "flash", "mode": "stateless",
           "executable": {{ "filename": "{code}", "format": "raw" }}"#
    );
    host.descriptor("usr/50-stateless.json", &mapping, BOTH, "");
    assert_eq!(host.installed().efi(Machine::Q35, false), None);
    let found = host.installed().efi(Machine::Q35, true);
    assert_eq!(found, Some(Efi { code: code.into(), template: None }));
}

#[test]
fn the_bios_is_the_first_there_is() {
    let host = Host::new();
    assert_eq!(host.installed().bios(Machine::Q35), None);
    let bios = host.image("bios.bin");
    assert_eq!(host.installed().bios(Machine::Q35), Some(bios.into()));
}
