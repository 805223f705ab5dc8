//! Firmware variables: made, kept, made anew and forgotten with their domain.

use std::fs;
use std::path::PathBuf;

use super::rig::{Daemon, Host};
use crate::config;
use crate::domain::Variables;
use crate::error::Code;
use crate::jobs::Phase;
use crate::ops::{CreateDomain, DumpXml, RestoreDomain, StartDomain, UndefineDomain};

/// A host with UEFI firmware, described as a package would.
fn host() -> Host {
    let mut host = Host::new();
    for (name, text) in [("code.fd", "code"), ("vars.fd", "fresh")] {
        fs::write(host.path(name), text).unwrap();
    }
    fs::create_dir(host.path("descriptors")).unwrap();
    let (code, vars) = (host.path("code.fd"), host.path("vars.fd"));
    let descriptor = serde_json::json!({
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash",
            "executable": { "filename": code, "format": "raw" },
            "nvram-template": { "filename": vars, "format": "raw" },
        },
        "targets": [{ "architecture": "x86_64", "machines": ["pc-q35-*"] }],
        "features": [],
    });
    fs::write(host.path("descriptors/50.json"), descriptor.to_string()).unwrap();
    host.config.firmware = config::Firmware {
        bios: Vec::new(),
        option_roms: Vec::new(),
        descriptors: vec![host.path("descriptors")],
    };
    host
}

const UEFI: &str = "<domain type='kvm'><name>web</name><memory unit='MiB'>64</memory>\
    <os firmware='efi'><type>hvm</type></os></domain>";

async fn variables(daemon: &Daemon) -> PathBuf {
    let xml = daemon.call(DumpXml { domain: "web".into(), inactive: true }).await.unwrap();
    let (_, rest) = xml.split_once("<nvram ").unwrap();
    let (_, path) = rest.split_once('>').unwrap();
    path.split_once('<').unwrap().0.into()
}

fn start(reset_variables: bool) -> StartDomain {
    StartDomain {
        domain: "web".into(),
        paused: false,
        reset_variables,
        force_boot: false,
        force: false,
    }
}

fn undefine(variables: Option<Variables>) -> UndefineDomain {
    UndefineDomain { domain: "web".into(), variables, managed_save: false, snapshots: false }
}

#[tokio::test]
async fn variables_are_made_at_the_first_start_and_kept_over_the_next() {
    let host = host();
    let daemon = host.daemon().await;
    daemon.define(UEFI.to_owned()).await;
    let path = variables(&daemon).await;
    assert_eq!(path.parent(), Some(host.path("state/nvram").as_path()));
    assert!(!path.exists(), "define makes nothing");
    daemon.call(start(false)).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "fresh");
    daemon.destroy("web").await.unwrap();

    fs::write(&path, "boot order").unwrap();
    fs::write(host.path("vars.fd"), "newer").unwrap();
    daemon.call(start(false)).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "boot order");
    daemon.destroy("web").await.unwrap();
    daemon.call(start(true)).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "newer");
    let beside = fs::read_dir(host.path("state/nvram")).unwrap().count();
    assert_eq!(beside, 1, "no half of a copy is left");
    daemon.destroy("web").await.unwrap();
}

#[tokio::test]
async fn a_restored_guest_has_its_variables_or_new_ones() {
    let host = host();
    let daemon = host.daemon().await;
    daemon.define(UEFI.to_owned()).await;
    let path = variables(&daemon).await;
    daemon.call(start(false)).await.unwrap();
    fs::write(&path, "boot order").unwrap();
    let file = host.path("web.save");
    for (reset_variables, expected) in [(false, "boot order"), (true, "fresh")] {
        assert_eq!(daemon.save_to(file.clone()).await.phase, Phase::Done);
        let restore = RestoreDomain {
            file: file.clone(),
            xml: None,
            running: None,
            force: false,
            verify: false,
            reset_variables,
        };
        daemon.call(restore).await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        fs::remove_file(&file).unwrap();
    }
    daemon.destroy("web").await.unwrap();
}

#[tokio::test]
async fn a_domain_with_variables_is_forgotten_when_it_is_said_what_becomes_of_them() {
    let host = host();
    let daemon = host.daemon().await;
    daemon.define(UEFI.to_owned()).await;
    let path = variables(&daemon).await;
    daemon.call(start(false)).await.unwrap();
    let error = daemon.call(undefine(Some(Variables::Delete))).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidState, "they are in use: {error}");
    daemon.destroy("web").await.unwrap();

    let error = daemon.call(undefine(None)).await.unwrap_err();
    assert!(error.message.contains("--nvram") && path.exists(), "{error}");
    daemon.call(undefine(Some(Variables::Keep))).await.unwrap();
    assert!(path.exists() && daemon.names().await.is_empty());

    daemon.define(UEFI.to_owned()).await;
    let path = variables(&daemon).await;
    daemon.call(start(false)).await.unwrap();
    daemon.destroy("web").await.unwrap();
    daemon.call(undefine(Some(Variables::Delete))).await.unwrap();
    assert!(!path.exists() && daemon.names().await.is_empty());
    // Never started, nothing to be said of.
    daemon.define(UEFI.to_owned()).await;
    daemon.call(undefine(None)).await.unwrap();
}

#[tokio::test]
async fn a_start_whose_firmware_is_gone_says_so_and_makes_nothing() {
    let host = host();
    let daemon = host.daemon().await;
    daemon.define(UEFI.to_owned()).await;
    fs::remove_file(host.path("vars.fd")).unwrap();
    let error = daemon.call(start(false)).await.unwrap_err();
    assert_eq!(error.code, Code::ResourceMissing);
    assert!(error.message.contains("template of firmware variables"), "{error}");
    assert!(!host.path("state/nvram").exists() && host.run_dirs().is_empty());

    let bios = UEFI.replace(" firmware='efi'", "").replace("web", "bios");
    let create =
        CreateDomain { xml: bios, cloud_init: None, paused: false, reset_variables: false };
    let error = daemon.call(create).await.unwrap_err();
    assert_eq!(error.code, Code::ResourceMissing);
    assert!(error.message.contains("install the package seabios"), "{error}");
}

#[tokio::test]
async fn an_interface_in_the_boot_order_has_the_rom_it_is_booted_by() {
    let mut host = host();
    fs::write(host.path("bios.bin"), "bios").unwrap();
    host.config.firmware.bios = vec![host.path("bios.bin")];
    let daemon = host.daemon().await;
    let missing = host.path("missing.rom").display().to_string();
    let xml = |rom: &str| {
        format!(
            "<domain type='kvm'><name>net</name><memory unit='MiB'>64</memory>\
             <os><type>hvm</type></os><devices><interface type='ethernet'>\
             <target dev='no-such-tap' managed='no'/><boot order='1'/>{rom}</interface></devices></domain>"
        )
    };
    let create =
        CreateDomain { xml: xml(""), cloud_init: None, paused: false, reset_variables: false };
    assert!(daemon.call(create).await.unwrap_err().message.contains("no-such-tap"));
    let named = xml(&format!("<rom file='{missing}'/>"));
    let create =
        CreateDomain { xml: named, cloud_init: None, paused: false, reset_variables: false };
    let error = daemon.call(create).await.unwrap_err();
    assert_eq!(error.code, Code::ResourceMissing);
    assert!(error.message.contains("network boot ROM"), "{error}");
}
