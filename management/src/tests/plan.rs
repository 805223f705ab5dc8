//! Plans and their application: what is said to change does, and nothing stays half done.

use super::rig::{Daemon, Host};
use crate::domain::Affects;
use crate::error::{Code, Error};
use crate::jobs::Phase;
use crate::ops::{ApplyDomain, AttachDevice, DumpSecureXml, DumpXml, GetJob, Plan, PlanDomain};
use crate::plan::When;

const PORTS: &str = "<controller type='pci' index='1' model='pcie-root-port'/>\
                     <controller type='pci' index='2' model='pcie-root-port'/>\
                     <controller type='pci' index='3' model='pcie-root-port'/>";

fn disk(host: &Host, target: &str) -> String {
    let path = host.path(&format!("{target}.img"));
    std::fs::write(&path, [0; 4096]).unwrap();
    let path = path.display();
    format!("<disk type='file'><source file='{path}'/><target dev='{target}' bus='virtio'/></disk>")
}

/// As a user writes it: without a UUID and without addresses.
fn written(host: &Host, script: &str, devices: &str) -> String {
    host.xml_with("web", script, &format!("{PORTS}{devices}"))
}

pub(super) async fn plan(daemon: &Daemon, xml: &str) -> Result<Plan, Error> {
    daemon.call(PlanDomain { domain: "web".into(), xml: xml.to_owned() }).await
}

pub(super) async fn apply(daemon: &Daemon, xml: &str) -> Result<(), String> {
    let apply = ApplyDomain { domain: "web".into(), xml: xml.to_owned() };
    let id = daemon.call(apply).await.map_err(|error| error.to_string())?.id;
    for _ in 0..6000 {
        let job = daemon.call(GetJob { job: id, wait: std::time::Duration::ZERO }).await.unwrap();
        match job.phase {
            Phase::Running => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            Phase::Done => return Ok(()),
            other => return Err(format!("{}: {}", other.name(), job.error.unwrap_or_default())),
        }
    }
    Err("it does not end".to_owned())
}

pub(super) fn said(plan: &Plan) -> Vec<String> {
    let line = |change: &crate::plan::PlannedChange| {
        format!("{} {}", change.when.name(), change.difference.path)
    };
    plan.changes.iter().map(line).collect()
}

async fn xml(daemon: &Daemon, inactive: bool) -> String {
    daemon.call(DumpXml { domain: "web".into(), inactive }).await.unwrap()
}

#[tokio::test]
async fn a_plan_says_when_each_difference_takes_effect_and_changes_nothing() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let (vda, vdb) = (disk(&host, "vda"), disk(&host, "vdb"));
    let cdrom = "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>";
    daemon.define(written(&host, "", &format!("{vda}{cdrom}"))).await;
    let same = written(&host, "", &format!("{vda}{cdrom}"));
    assert_eq!(said(&plan(&daemon, &same).await.unwrap()), [""; 0], "what is left open is kept");

    let inserted = cdrom.replace("<target", "<source file='/a.iso'/><target");
    let new = written(&host, "", &format!("{vda}{vdb}{inserted}"))
        .replace("<vcpu>", "<cputune><shares>512</shares></cputune><vcpu>")
        .replace("<vcpu>2<", "<vcpu>1<")
        .replacen(
            "</devices>",
            "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng></devices>",
            1,
        );
    let off = plan(&daemon, &new).await.unwrap();
    assert!(!off.running && off.changes.iter().all(|change| change.when == When::NextStart));
    daemon.start("web").await.unwrap();
    let before = [xml(&daemon, false).await, xml(&daemon, true).await];
    let on = plan(&daemon, &new).await.unwrap();
    assert!(on.running);
    let said = said(&on);
    for expected in [
        "live /domain/devices/disk[vdb]",
        "live /domain/devices/disk[sda]/source",
        "live /domain/cputune",
        "live /domain/devices/rng",
    ] {
        assert!(said.iter().any(|line| line == expected), "no {expected}: {said:?}");
    }
    assert_eq!([xml(&daemon, false).await, xml(&daemon, true).await], before);

    let unsupported =
        written(&host, "", "<sound model='ich9'/><hostdev mode='subsystem' type='pci'/>");
    let refused = plan(&daemon, &unsupported).await.unwrap();
    assert!(refused.changes.is_empty() && !refused.unsupported.is_empty(), "{refused:?}");
    let other = same.replace("<name>web<", "<name>other<");
    assert_eq!(plan(&daemon, &other).await.unwrap_err().code, Code::InvalidArgument);
    assert_eq!(plan(&daemon, "<domain>").await.unwrap_err().code, Code::InvalidXml);
}

#[tokio::test]
async fn what_is_applied_is_so_in_the_guest_and_in_its_definition() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let (vda, vdb, vdc) = (disk(&host, "vda"), disk(&host, "vdb"), disk(&host, "vdc"));
    daemon.define(written(&host, "", &format!("{vda}{vdb}"))).await;
    daemon.start("web").await.unwrap();
    let new = written(&host, "", &format!("{vda}{vdc}"));
    apply(&daemon, &new).await.unwrap();
    for inactive in [false, true] {
        let now = xml(&daemon, inactive).await;
        assert!(!now.contains("dev='vdb'") && now.contains("dev='vdc'"), "{now}");
    }
    assert_eq!(said(&plan(&daemon, &new).await.unwrap()), [""; 0]);
    let rng = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>";
    let stop =
        vda.replace("<source", "<driver name='qemu' type='raw' error_policy='stop'/><source");
    let with = written(&host, "", &format!("{stop}{vdc}{rng}"));
    let plain = vda.replace("<source", "<driver name='qemu' type='raw'/><source");
    apply(&daemon, &written(&host, "", &format!("{plain}{vdc}"))).await.unwrap();
    let planned = said(&plan(&daemon, &with).await.unwrap());
    let expected =
        ["live /domain/devices/disk[vda]/driver/@error_policy", "live /domain/devices/rng"];
    assert!(expected.iter().all(|line| planned.iter().any(|it| it == line)), "{planned:?}");
    apply(&daemon, &with).await.unwrap();
    for inactive in [false, true] {
        let now = xml(&daemon, inactive).await;
        assert!(now.contains("<rng") && now.contains("error_policy='stop'"), "{now}");
    }
    apply(&daemon, &new).await.unwrap();
    assert!(!xml(&daemon, false).await.contains("<rng"));
    // Of a domain that is off, it is its definition.
    daemon.destroy("web").await.unwrap();
    apply(&daemon, &written(&host, "", &vda)).await.unwrap();
    assert!(!xml(&daemon, true).await.contains("dev='vdc'"));
}

/// What is added to every definition has its place, too, and keeps it.
#[tokio::test]
async fn a_disk_that_comes_takes_nobodys_place() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml_with("web", "", "")).await;
    daemon.start("web").await.unwrap();
    let new = host.xml_with("web", "", &disk(&host, "vda"));
    assert_eq!(said(&plan(&daemon, &new).await.unwrap()), ["live /domain/devices/disk[vda]"]);
    apply(&daemon, &new).await.unwrap();
    assert_eq!(said(&plan(&daemon, &new).await.unwrap()), [""; 0]);
}

/// dumpxml leaves passwords out: what is made of it keeps the one there is, and nobody reads it here.
#[tokio::test]
async fn a_password_is_neither_shown_nor_lost() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let vnc = |password: &str| {
        let graphics = format!("<graphics type='vnc' port='-1' autoport='yes'{password}/>");
        host.xml_with("web", "", &format!("{graphics}<video><model type='vga'/></video>"))
    };
    daemon.define(vnc(" passwd='hunter2'")).await;
    let dumped = xml(&daemon, true).await;
    assert!(!dumped.contains("hunter2"), "{dumped}");
    assert_eq!(said(&plan(&daemon, &dumped).await.unwrap()), [""; 0]);
    apply(&daemon, &dumped).await.unwrap();
    let secure = DumpSecureXml { domain: "web".into(), inactive: true, migratable: false };
    assert!(daemon.call(secure).await.unwrap().contains("passwd='hunter2'"));
    let other = plan(&daemon, &vnc(" passwd='other'")).await.unwrap();
    assert_eq!(said(&other), ["next-start /domain/devices/graphics/@passwd"]);
    assert!(!format!("{other:?}").contains("hunter2"), "{other:?}");
}

#[tokio::test]
async fn a_microvm_takes_devices_at_its_next_start() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let microvm = |devices: &str| {
        host.xml_with("web", "", devices).replace("<type>hvm", "<type machine='microvm'>hvm")
    };
    daemon.define(microvm("")).await;
    daemon.start("web").await.unwrap();
    let new = microvm(&disk(&host, "vda"));
    let expected = ["next-start /domain/devices/disk[vda]"];
    assert_eq!(said(&plan(&daemon, &new).await.unwrap()), expected);
    apply(&daemon, &new).await.unwrap();
    assert!(xml(&daemon, true).await.contains("dev='vda'"));
    assert_eq!(said(&plan(&daemon, &new).await.unwrap()), expected);
}

#[tokio::test]
async fn a_step_that_fails_takes_the_others_back() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let (vda, vdb, vdc) = (disk(&host, "vda"), disk(&host, "vdb"), disk(&host, "vdc"));
    daemon.define(written(&host, "", &vda)).await;
    daemon.start("web").await.unwrap();
    let attach = AttachDevice {
        domain: "web".into(),
        xml: vdb.clone(),
        affects: Affects { live: true, config: true },
    };
    daemon.call(attach).await.unwrap();
    let before = [xml(&daemon, false).await, xml(&daemon, true).await];
    // The second of the new disks has no image.
    let vdd = disk(&host, "vdd");
    std::fs::remove_file(host.path("vdd.img")).unwrap();
    let new = written(&host, "", &format!("{vda}{vdc}{vdd}"));
    let error = apply(&daemon, &new).await.unwrap_err();
    assert!(error.contains("cannot attach disk vdd") && error.contains("vdd.img"), "{error}");
    assert!(error.contains("all is as it was before"), "{error}");
    let after = [xml(&daemon, false).await, xml(&daemon, true).await];
    assert_eq!(after[1], before[1]);
    assert!(after[0].contains("dev='vdb'") && !after[0].contains("dev='vdc'"), "{}", after[0]);
}

#[tokio::test]
async fn a_guest_that_clings_to_a_device_stops_the_whole() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let (vda, vdb) = (disk(&host, "vda"), disk(&host, "vdb"));
    daemon.define(written(&host, "clinging", &format!("{vda}{vdb}"))).await;
    daemon.start("web").await.unwrap();
    let error = apply(&daemon, &written(&host, "clinging", &vda)).await.unwrap_err();
    assert!(error.contains("cannot detach disk vdb: the guest does not let go"), "{error}");
    assert!(xml(&daemon, true).await.contains("dev='vdb'"));
}
