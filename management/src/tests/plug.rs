//! Devices that come and go: in the running guest, in its definition, and over a daemon's death.

use super::rig::{Daemon, Host, next};
use crate::domain::Affects;
use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::ops::{AttachDevice, DetachDevice, DeviceRef, DumpXml, UpdateDevice};

const NOW: Affects = Affects { live: false, config: false };
const LIVE: Affects = Affects { live: true, config: false };
const CONFIG: Affects = Affects { live: false, config: true };
const BOTH: Affects = Affects { live: true, config: true };

/// With two slots that things can be plugged into.
const PORTS: &str = "<controller type='pci' index='1' model='pcie-root-port'/>\
                     <controller type='pci' index='2' model='pcie-root-port'/>\
                     <memballoon model='none'/>";

fn image(host: &Host, name: &str) -> String {
    let path = host.path(name);
    std::fs::write(&path, [0; 4096]).unwrap();
    path.display().to_string()
}

fn disk(host: &Host, target: &str) -> String {
    let path = image(host, &format!("{target}.img"));
    format!("<disk type='file'><source file='{path}'/><target dev='{target}' bus='virtio'/></disk>")
}

async fn attach(daemon: &Daemon, xml: &str, affects: Affects) -> Result<(), Error> {
    let xml = xml.to_owned();
    daemon.call(AttachDevice { domain: "web".into(), xml, affects }).await
}

async fn detach(daemon: &Daemon, name: &str, affects: Affects) -> Result<bool, Error> {
    let device = DeviceRef::Name(name.to_owned());
    daemon.call(DetachDevice { domain: "web".into(), device, affects }).await
}

async fn xml(daemon: &Daemon, inactive: bool) -> String {
    daemon.call(DumpXml { domain: "web".into(), inactive }).await.unwrap()
}

/// Whether the running and the stored definition have it.
async fn has(daemon: &Daemon, part: &str) -> [bool; 2] {
    [xml(daemon, false).await.contains(part), xml(daemon, true).await.contains(part)]
}

async fn running(host: &Host, script: &str) -> Daemon {
    let daemon = host.daemon().await;
    daemon.define(host.xml_with("web", script, PORTS)).await;
    daemon.start("web").await.unwrap();
    daemon
}

#[tokio::test]
async fn a_device_comes_into_the_definition_that_is_meant_and_leaves_it() {
    let host = Host::new();
    let daemon = running(&host, "").await;
    let vdb = disk(&host, "vdb");
    attach(&daemon, &vdb, NOW).await.unwrap();
    assert_eq!(has(&daemon, "dev='vdb'").await, [true, false]);
    let live = xml(&daemon, false).await;
    assert!(live.contains("<alias name='virtio-disk1'/>"), "{live}");
    assert!(live.contains("bus='0x01' slot='0x00'"), "{live}");
    assert!(detach(&daemon, "vdb", LIVE).await.unwrap());
    assert_eq!(has(&daemon, "dev='vdb'").await, [false, false]);

    attach(&daemon, &vdb, BOTH).await.unwrap();
    assert_eq!(has(&daemon, "dev='vdb'").await, [true, true]);
    let refused = attach(&daemon, &vdb, LIVE).await.unwrap_err();
    assert!(refused.to_string().contains("has a disk \"vdb\" already"), "{refused}");
    assert!(detach(&daemon, "vdb", CONFIG).await.unwrap());
    assert_eq!(has(&daemon, "dev='vdb'").await, [true, false]);
    assert!(detach(&daemon, "virtio-disk1", NOW).await.unwrap());

    daemon.destroy("web").await.unwrap();
    attach(&daemon, &vdb, NOW).await.unwrap();
    assert_eq!(has(&daemon, "dev='vdb'").await, [true, true]);
    let refused = attach(&daemon, &disk(&host, "vdc"), LIVE).await.unwrap_err();
    assert_eq!(refused.code, Code::InvalidState);
    assert!(detach(&daemon, "vdb", NOW).await.unwrap());
    assert_eq!(has(&daemon, "dev='vdb'").await, [false, false]);
}

#[tokio::test]
async fn what_cannot_come_or_go_is_refused_in_words_and_changes_nothing() {
    let host = Host::new();
    let daemon = running(&host, "").await;
    let before = [xml(&daemon, false).await, xml(&daemon, true).await];
    let missing = disk(&host, "vdb").replace("vdb.img", "none.img");
    let cdrom = "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>";
    let sata = disk(&host, "sdb").replace("virtio", "sata");
    let thread = disk(&host, "vdb").replace("<source", "<driver name='qemu' iothread='7'/><source");
    for (text, code, words) in [
        (missing.as_str(), Code::ResourceMissing, "none.img"),
        (cdrom, Code::Unsupported, "change-media"),
        (sata.as_str(), Code::Unsupported, "a disk on sata (sdb)"),
        (thread.as_str(), Code::InvalidXml, "io thread 7"),
        ("<disk><target dev='vdb'/></disk>", Code::InvalidXml, "source"),
        (
            "<disk type='network'><source protocol='nbd'><host transport='unix' socket='/nowhere'/>\
             </source><target dev='vdb' bus='virtio'/></disk>",
            Code::ResourceMissing,
            "its NBD server cannot be reached",
        ),
        ("<memballoon model='virtio'/>", Code::Unsupported, "a guest has one balloon"),
        ("<input type='tablet' bus='usb'/>", Code::Unsupported, "one on virtio does"),
        ("<disk", Code::InvalidXml, ""),
        (
            "<interface type='network'><source network='none'/></interface>",
            Code::ResourceMissing,
            "\"none\"",
        ),
    ] {
        for affects in [LIVE, BOTH] {
            let refused = attach(&daemon, text, affects).await.unwrap_err();
            assert_eq!(refused.code, code, "{text}: {refused}");
            assert!(refused.to_string().contains(words), "{text}: {refused}");
        }
    }
    for affects in [LIVE, CONFIG, BOTH] {
        let refused = detach(&daemon, "vdq", affects).await.unwrap_err();
        assert_eq!(refused.code, Code::DeviceNotFound);
    }
    assert_eq!([xml(&daemon, false).await, xml(&daemon, true).await], before);
    // Two ports, two devices.
    attach(&daemon, &disk(&host, "vdb"), LIVE).await.unwrap();
    attach(&daemon, &disk(&host, "vdc"), LIVE).await.unwrap();
}

const RNG: &str = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>";
const TABLET: &str = "<input type='tablet' bus='virtio'/>";
const VSOCK: &str = "<vsock model='virtio'><cid auto='yes'/></vsock>";

/// What has no name is known by what it is; in the running guest by its alias, too.
#[tokio::test]
async fn small_devices_come_and_go_by_what_they_are() {
    let host = Host::new();
    let daemon = running(&host, "").await;
    for (text, alias, shown) in [
        (RNG, "rng0", "<rng model='virtio'>"),
        (TABLET, "input0", "<input type='tablet' bus='virtio'>"),
        (VSOCK, "vsock0", "<vsock model='virtio'>"),
    ] {
        attach(&daemon, text, BOTH).await.unwrap();
        assert_eq!(has(&daemon, shown).await, [true, true], "{shown}");
        let live = xml(&daemon, false).await;
        assert!(live.contains(&format!("<alias name='{alias}'/>")), "{live}");
        let like = DeviceRef::Xml(text.to_owned());
        let detach_like =
            DetachDevice { domain: "web".into(), device: like.clone(), affects: CONFIG };
        assert!(daemon.call(detach_like).await.unwrap());
        assert_eq!(has(&daemon, shown).await, [true, false], "{shown}");
        assert!(detach(&daemon, alias, LIVE).await.unwrap());
        assert_eq!(has(&daemon, shown).await, [false, false], "{shown}");
        let gone = DetachDevice { domain: "web".into(), device: like, affects: LIVE };
        assert_eq!(daemon.call(gone).await.unwrap_err().code, Code::DeviceNotFound);
    }
    // One after another has another name, whatever went meanwhile.
    attach(&daemon, RNG, LIVE).await.unwrap();
    attach(&daemon, &RNG.replace("<backend", "<rate bytes='9'/><backend"), LIVE).await.unwrap();
    assert!(detach(&daemon, "rng0", LIVE).await.unwrap());
    attach(&daemon, RNG, LIVE).await.unwrap();
    assert_eq!(has(&daemon, "<alias name='rng2'/>").await, [true, false]);
    let update = UpdateDevice { domain: "web".into(), xml: RNG.to_owned(), affects: NOW };
    assert_eq!(daemon.call(update).await.unwrap_err().code, Code::Unsupported);
    assert!(detach(&daemon, "rng1", LIVE).await.unwrap());
    attach(&daemon, VSOCK, LIVE).await.unwrap();
    let second = attach(&daemon, VSOCK, LIVE).await.unwrap_err();
    assert!(second.to_string().contains("a vsock device already"), "{second}");
}

#[tokio::test]
async fn scsi_drives_come_to_a_controller_that_is_there() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let controller = "<controller type='scsi' index='0' model='virtio-scsi'/>";
    daemon.define(host.xml_with("web", "", controller)).await;
    daemon.start("web").await.unwrap();
    let sda = disk(&host, "sda").replace("virtio", "scsi");
    let sdb = "<disk type='file' device='cdrom'><target dev='sdb' bus='scsi'/></disk>";
    attach(&daemon, &sda, BOTH).await.unwrap();
    attach(&daemon, sdb, LIVE).await.unwrap();
    assert_eq!(has(&daemon, "dev='sda'").await, [true, true]);
    let live = xml(&daemon, false).await;
    assert!(live.contains("<alias name='scsi0-0-0-1'/>"), "{live}");
    let refused = attach(&daemon, &sda.replace("sda", "sdq"), LIVE).await.unwrap_err();
    assert!(refused.to_string().contains("no scsi controller"), "{refused}");
    for drive in ["sda", "scsi0-0-0-1"] {
        assert!(detach(&daemon, drive, NOW).await.unwrap(), "{drive}");
    }
    assert_eq!(has(&daemon, "dev='sda'").await, [false, true]);
    assert_eq!(has(&daemon, "dev='sdb'").await, [false, false]);
}

#[tokio::test]
async fn a_vmm_that_refuses_a_device_leaves_no_trace_of_it() {
    let host = Host::new();
    let daemon = running(&host, "full").await;
    let before = xml(&daemon, false).await;
    let refused = attach(&daemon, &disk(&host, "vdb"), BOTH).await.unwrap_err();
    assert!(refused.to_string().contains("there is no room for it"), "{refused}");
    assert_eq!(xml(&daemon, false).await, before);
    assert_eq!(has(&daemon, "vdb").await, [false, false]);
    let record = host.run_dirs()[0].join(crate::domain::record::FILE);
    assert!(!std::fs::read_to_string(record).unwrap().contains("plugs"));
    // Its image is free again.
    daemon.destroy("web").await.unwrap();
    attach(&daemon, &disk(&host, "vdb"), CONFIG).await.unwrap();
    daemon.start("web").await.unwrap();
}

#[tokio::test]
async fn a_guest_that_clings_to_a_device_keeps_it_until_it_lets_go() {
    let host = Host::new();
    let daemon = running(&host, "clinging").await;
    attach(&daemon, &disk(&host, "vdb"), LIVE).await.unwrap();
    assert!(!detach(&daemon, "vdb", LIVE).await.unwrap(), "it was only asked");
    assert_eq!(has(&daemon, "dev='vdb'").await, [true, false]);
    let mut events = daemon.subscribe(0).await;
    daemon.type_in("web", "release virtio-disk1").await;
    loop {
        if let EventKind::DeviceRemoved { device } = next(&mut events).await.kind {
            assert_eq!(device, "virtio-disk1");
            break;
        }
    }
    assert_eq!(has(&daemon, "dev='vdb'").await, [false, false]);
}

#[tokio::test]
async fn what_came_and_went_while_no_daemon_was_there_is_seen_by_the_next() {
    let host = Host::new();
    let daemon = running(&host, "clinging").await;
    attach(&daemon, &disk(&host, "vdb"), LIVE).await.unwrap();
    let live = xml(&daemon, false).await;
    drop(daemon);
    let daemon = host.daemon().await;
    assert_eq!(xml(&daemon, false).await, live);

    // Killed when the VMM had the device, and nothing was written but the intent.
    let record = host.run_dirs()[0].join(crate::domain::record::FILE);
    let text = disk(&host, "vdc").replace(
        "</disk>",
        "<alias name='virtio-disk2'/><address type='pci' domain='0' bus='2' slot='0' function='0'/></disk>",
    );
    drop(daemon);
    let mut written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    written["plugs"] = serde_json::json!({ "virtio-disk2": { "live": text, "definition": text } });
    std::fs::write(&record, written.to_string()).unwrap();
    let daemon = host.daemon().await;
    daemon.type_in("web", "came virtio-disk2").await;
    daemon.type_in("web", "release virtio-disk1").await;
    let start = std::time::Instant::now();
    while has(&daemon, "dev='vdc'").await != [true, false]
        || has(&daemon, "dev='vdb'").await != [false, false]
    {
        assert!(start.elapsed().as_secs() < 20, "the VMM's events are not heard");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // A VMM is not believed what nobody meant.
    daemon.type_in("web", "came virtio-disk3").await;
    daemon.type_in("web", "release net7").await;
    assert!(!std::fs::read_to_string(&record).unwrap().contains("plugs"));
}

#[tokio::test]
async fn a_device_that_stays_is_updated_where_it_can_be() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let (iso, tap) = (image(&host, "a.iso"), "<mac address='52:54:00:00:00:01'/>");
    let devices = format!(
        "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>{}",
        disk(&host, "vdb")
    );
    daemon.define(host.xml_with("web", "", &devices)).await;
    let update =
        |xml: String, affects| daemon.call(UpdateDevice { domain: "web".into(), xml, affects });
    let medium = format!(
        "<disk type='file' device='cdrom'><source file='{iso}'/><target dev='sda' bus='sata'/></disk>"
    );
    daemon.start("web").await.unwrap();
    update(medium.clone(), LIVE).await.unwrap();
    assert_eq!(has(&daemon, "a.iso").await, [true, false]);
    update(medium, BOTH).await.unwrap();
    assert_eq!(has(&daemon, "a.iso").await, [true, true]);

    let read_only = disk(&host, "vdb").replace("</disk>", "<readonly/></disk>");
    let refused = update(read_only.clone(), LIVE).await.unwrap_err();
    assert!(refused.to_string().contains("readonly cannot be changed"), "{refused}");
    update(read_only, CONFIG).await.unwrap();
    assert_eq!(has(&daemon, "<readonly/>").await, [true, true], "a CD-ROM has it too");
    assert_eq!(xml(&daemon, true).await.matches("<readonly/>").count(), 2);
    assert_eq!(xml(&daemon, false).await.matches("<readonly/>").count(), 1);
    // Unchanged is no change.
    update(disk(&host, "vdb"), LIVE).await.unwrap();
    let nobody = format!("<interface type='ethernet'>{tap}</interface>");
    assert_eq!(update(nobody, LIVE).await.unwrap_err().code, Code::DeviceNotFound);
}
