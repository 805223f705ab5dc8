//! Media of drives: exchanged while the guest runs, in its definition, and seen by who comes later.

use super::rig::{Daemon, Host, lifecycle_until, next};
use crate::domain::{Affects, MediumAction, MediumSource};
use crate::error::{Code, Error};
use crate::events::{EventKind, Lifecycle};
use crate::ops::{ChangeMedium, DumpXml, ListDisks, ResizeDisk};

const LIVE: Affects = Affects { live: true, config: false };
const CONFIG: Affects = Affects { live: false, config: true };
const BOTH: Affects = Affects { live: true, config: true };

/// An image of this name.
fn file(host: &Host, name: &str) -> String {
    let path = host.path(name);
    std::fs::write(&path, [0; 4096]).unwrap();
    path.display().to_string()
}

/// A drive with a medium and one without, and a disk.
fn xml(host: &Host) -> String {
    let (first, disk) = (file(host, "first.iso"), file(host, "disk.img"));
    let drives = format!(
        "<disk type='file' device='cdrom'><source file='{first}'/><target dev='sda' bus='sata'/></disk>\
         <disk type='file' device='cdrom'><target dev='sdb' bus='sata'/></disk>\
         <disk type='file'><source file='{disk}'/><target dev='vda' bus='virtio'/></disk>"
    );
    host.xml_with("web", "", &drives)
}

fn medium(path: &str) -> MediumSource {
    MediumSource { path: path.into(), block: false }
}

async fn change(
    daemon: &Daemon,
    disk: &str,
    action: MediumAction,
    affects: Affects,
) -> Result<(), Error> {
    let disk = disk.to_owned();
    let force = false;
    daemon.call(ChangeMedium { domain: "web".into(), disk, action, force, affects }).await
}

/// What is in the drive, as it runs and as it is stored.
async fn sources(daemon: &Daemon, target: &str) -> [Option<String>; 2] {
    let mut found = [None, None];
    for (inactive, found) in [false, true].into_iter().zip(&mut found) {
        let list = ListDisks { domain: "web".into(), inactive };
        let disks = daemon.call(list).await.unwrap();
        *found = disks.into_iter().find(|disk| disk.target == target).unwrap().source;
    }
    found
}

async fn live_xml(daemon: &Daemon) -> String {
    daemon.call(DumpXml { domain: "web".into(), inactive: false }).await.unwrap()
}

async fn wait_for_tray(daemon: &Daemon, open: bool) {
    let start = std::time::Instant::now();
    while live_xml(daemon).await.contains("tray='open'") != open {
        assert!(start.elapsed().as_secs() < 20, "the VMM's event is not heard");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_medium_is_exchanged_in_the_definition_that_is_meant() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let mut events = daemon.subscribe(0).await;
    daemon.define(xml(&host)).await;
    let (first, second) = (Some(file(&host, "first.iso")), file(&host, "second.iso"));
    let update = MediumAction::Update(medium(&second));
    let second = Some(second);
    assert_eq!(
        change(&daemon, "sda", update.clone(), LIVE).await.unwrap_err().code,
        Code::InvalidState
    );
    daemon.start("web").await.unwrap();
    lifecycle_until(&mut events, Lifecycle::StartedBooted).await;

    change(&daemon, "sda", update.clone(), LIVE).await.unwrap();
    assert_eq!(sources(&daemon, "sda").await, [second.clone(), first.clone()]);
    let told = EventKind::DiskChange { device: "sata0-0-0".into(), source: second.clone() };
    assert_eq!(next(&mut events).await.kind, told);
    // The image names the drive as its target does.
    change(&daemon, second.as_deref().unwrap(), MediumAction::Eject, BOTH).await.unwrap();
    assert_eq!(sources(&daemon, "sda").await, [None, None]);
    wait_for_tray(&daemon, true).await;
    let stored = daemon.call(DumpXml { domain: "web".into(), inactive: true }).await.unwrap();
    assert!(!stored.contains("tray"), "{stored}");
    assert!(!daemon.describe("web").await.pending_changes);
    change(&daemon, "sda", MediumAction::Insert(medium(second.as_deref().unwrap())), CONFIG)
        .await
        .unwrap();
    assert_eq!(sources(&daemon, "sda").await, [None, second.clone()]);
    change(&daemon, "sda", update, BOTH).await.unwrap();
    assert_eq!(sources(&daemon, "sda").await, [second.clone(), second]);
    wait_for_tray(&daemon, false).await;
}

#[tokio::test]
async fn what_cannot_be_exchanged_is_refused_and_nothing_is_half_done() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(xml(&host)).await;
    daemon.start("web").await.unwrap();
    let before = (live_xml(&daemon).await, sources(&daemon, "sda").await);
    let there = || MediumAction::Insert(medium(&file(&host, "second.iso")));
    let missing = || MediumAction::Update(medium("/nowhere/none.iso"));
    for (disk, action, code, words) in [
        ("sda", there(), Code::InvalidState, "already has media"),
        ("sdb", MediumAction::Eject, Code::InvalidState, "doesn't have media"),
        ("vda", MediumAction::Eject, Code::InvalidArgument, "is not removable"),
        ("sdz", MediumAction::Eject, Code::DeviceNotFound, "it has sda, sdb, vda"),
        ("sda", missing(), Code::ResourceMissing, "/nowhere/none.iso"),
        ("sda", MediumAction::Update(medium("a.iso")), Code::InvalidArgument, "no absolute path"),
    ] {
        let error = change(&daemon, disk, action, BOTH).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.chain().contains(words), "{}", error.chain());
    }
    let after = (live_xml(&daemon).await, sources(&daemon, "sda").await);
    assert_eq!(before, after);
    let resize =
        |disk: &str| ResizeDisk { domain: "web".into(), disk: disk.into(), bytes: 1 << 20 };
    daemon.call(resize("vda")).await.unwrap();
    assert_eq!(daemon.call(resize("sda")).await.unwrap_err().code, Code::InvalidArgument);
    daemon.destroy("web").await.unwrap();
    assert_eq!(daemon.call(resize("vda")).await.unwrap_err().code, Code::InvalidState);
}

#[tokio::test]
async fn a_locked_drive_opens_by_force_only() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(xml(&host).replace("</cmdline>", " locked</cmdline>")).await;
    daemon.start("web").await.unwrap();
    let error = change(&daemon, "sda", MediumAction::Eject, LIVE).await.unwrap_err();
    assert_eq!(error.code, Code::Busy);
    assert_eq!(sources(&daemon, "sda").await[0], Some(file(&host, "first.iso")));
    let eject = MediumAction::Eject;
    let disk = "sda".to_owned();
    daemon
        .call(ChangeMedium {
            domain: "web".into(),
            disk,
            action: eject,
            force: true,
            affects: LIVE,
        })
        .await
        .unwrap();
    assert_eq!(sources(&daemon, "sda").await[0], None);
}

#[tokio::test]
async fn the_next_daemon_knows_what_was_meant_and_believes_no_vmm_beyond_it() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(xml(&host)).await;
    daemon.start("web").await.unwrap();
    // The guest opens the drive itself.
    daemon.type_in("web", "tray sata0-0-0").await;
    wait_for_tray(&daemon, true).await;
    // What nobody asked for is not in the definition.
    daemon.type_in("web", "claim /etc/shadow").await;
    daemon.type_in("web", "shut sata0-0-0").await;
    wait_for_tray(&daemon, false).await;
    assert!(!live_xml(&daemon).await.contains("shadow"));

    // The daemon is killed when the VMM has done it and nothing was written but the intent.
    drop(daemon);
    let record = host.run_dirs()[0].join(crate::domain::record::FILE);
    let mut written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    let second = file(&host, "second.iso");
    written["medium"] = serde_json::json!({
        "alias": "sata0-0-0", "source": {"path": second, "block": false}
    });
    std::fs::write(&record, written.to_string()).unwrap();
    let daemon = host.daemon().await;
    daemon.type_in("web", &format!("claim {second}")).await;
    let start = std::time::Instant::now();
    while sources(&daemon, "sda").await[0].as_ref() != Some(&second) {
        assert!(start.elapsed().as_secs() < 20, "the VMM's event is not heard");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let written = std::fs::read_to_string(&record).unwrap();
    assert!(!written.contains("\"medium\""), "the intent is carried out");
}
