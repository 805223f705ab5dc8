//! Cables of interfaces: pulled while the guest runs, in its definition, and seen by who comes later.

use super::rig::{Host, lifecycle_until, next};
use crate::domain::Affects;
use crate::error::{Code, Error};
use crate::events::{EventKind, Lifecycle};
use crate::ops::{CreateDomain, DumpXml, ListInterfaces, SetLink};

const MAC: &str = "52:54:00:11:22:33";
const LIVE: Affects = Affects { live: true, config: false };
const CONFIG: Affects = Affects { live: false, config: true };
const BOTH: Affects = Affects { live: true, config: true };
const CURRENT: Affects = Affects { live: false, config: false };

fn xml(host: &Host) -> String {
    let interface = format!(
        "<interface type='ethernet'><mac address='{MAC}'/><model type='virtio'/></interface>"
    );
    host.xml_with("web", "", &interface)
}

async fn set(
    daemon: &super::rig::Daemon,
    interface: &str,
    up: bool,
    affects: Affects,
) -> Result<(), Error> {
    let interface = interface.to_owned();
    daemon.call(SetLink { domain: "web".into(), interface, up, affects }).await
}

/// As it runs, and as it is stored.
async fn links(daemon: &super::rig::Daemon) -> [bool; 2] {
    let mut found = [true; 2];
    for (inactive, found) in [false, true].into_iter().zip(&mut found) {
        let list = ListInterfaces { domain: "web".into(), inactive };
        *found = daemon.call(list).await.unwrap()[0].link_up;
        let xml = daemon.call(DumpXml { domain: "web".into(), inactive }).await.unwrap();
        assert_eq!(xml.contains("<link state='down'/>"), !*found, "{xml}");
    }
    found
}

async fn tap(daemon: &super::rig::Daemon) -> String {
    let list = ListInterfaces { domain: "web".into(), inactive: false };
    daemon.call(list).await.unwrap().remove(0).target.unwrap()
}

/// A tap can be made here.
pub(super) fn taps() -> bool {
    let possible = std::fs::File::options().write(true).open("/dev/net/tun").is_ok()
        && rustix::process::geteuid().is_root();
    if !possible {
        println!("SKIP: no tap can be made here");
    }
    possible
}

#[tokio::test]
async fn a_cable_is_pulled_in_the_definition_that_is_meant() {
    if !taps() {
        return;
    }
    let host = Host::new();
    let daemon = host.daemon().await;
    let mut events = daemon.subscribe(0).await;
    daemon.define(xml(&host)).await;
    let off = set(&daemon, MAC, false, LIVE).await.unwrap_err();
    assert_eq!(
        (off.code, off.message.as_str()),
        (Code::InvalidState, "domain \"web\" is not running")
    );
    let off = set(&daemon, MAC, false, BOTH).await.unwrap_err();
    assert_eq!(off.code, Code::InvalidState);
    assert_eq!(links(&daemon).await, [true, true]);

    daemon.start("web").await.unwrap();
    let tap = tap(&daemon).await;
    lifecycle_until(&mut events, Lifecycle::StartedBooted).await;
    set(&daemon, &tap, false, CURRENT).await.unwrap();
    assert_eq!(links(&daemon).await, [false, true]);
    let changed = EventKind::LinkChanged { device: "net0".into(), up: false };
    assert_eq!(next(&mut events).await.kind, changed);
    assert!(daemon.describe("web").await.pending_changes);

    // The tap's name is of this run; the stored interface is found by it all the same.
    set(&daemon, &tap, false, CONFIG).await.unwrap();
    assert_eq!(links(&daemon).await, [false, false]);
    assert!(!daemon.describe("web").await.pending_changes);
    set(&daemon, MAC, true, BOTH).await.unwrap();
    assert_eq!(links(&daemon).await, [true, true]);
    assert!(!daemon.describe("web").await.pending_changes);

    let unknown = set(&daemon, "vnet999", false, BOTH).await.unwrap_err();
    assert_eq!(unknown.code, Code::DeviceNotFound);
    assert!(unknown.message.ends_with(&format!("it has {tap} ({MAC})")), "{unknown}");
    assert_eq!(links(&daemon).await, [true, true]);

    set(&daemon, MAC, false, CONFIG).await.unwrap();
    daemon.destroy("web").await.unwrap();
    daemon.start("web").await.unwrap();
    assert_eq!(links(&daemon).await, [false, false]);
}

#[tokio::test]
async fn a_transient_domain_has_a_cable_and_no_stored_one() {
    if !taps() {
        return;
    }
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon
        .call(CreateDomain {
            xml: xml(&host),
            cloud_init: None,
            paused: false,
            reset_variables: false,
        })
        .await
        .unwrap();
    let error = set(&daemon, MAC, false, BOTH).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidState);
    assert!(error.message.contains("transient"), "{error}");
    assert_eq!(links(&daemon).await, [true, true], "nothing is half done");
    set(&daemon, MAC, false, CURRENT).await.unwrap();
    assert_eq!(links(&daemon).await, [false, false]);
}

#[tokio::test]
async fn the_next_daemon_knows_the_cables_also_from_the_vmm_alone() {
    if !taps() {
        return;
    }
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(xml(&host)).await;
    daemon.start("web").await.unwrap();
    set(&daemon, MAC, false, LIVE).await.unwrap();
    drop(daemon);
    let daemon = host.daemon().await;
    assert_eq!(links(&daemon).await, [false, true]);
    drop(daemon);
    std::fs::remove_file(host.run_dirs()[0].join(crate::domain::record::FILE)).unwrap();
    let daemon = host.daemon().await;
    assert_eq!(links(&daemon).await, [false, true]);
    set(&daemon, MAC, true, LIVE).await.unwrap();
    assert_eq!(links(&daemon).await, [true, true]);

    // By the word of a daemon that was killed before it wrote it down: the event tells.
    daemon.type_in("web", "pull net0").await;
    let start = std::time::Instant::now();
    while links(&daemon).await != [false, true] {
        assert!(start.elapsed().as_secs() < 20, "the VMM's event is not heard");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
