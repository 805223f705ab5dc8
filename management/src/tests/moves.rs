//! Interfaces of running guests that come into another bridge, on a host that is made up: in which order
//! it is asked, and what is left when it refuses or a daemon dies.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use broker::{Broker, BrokerError, Granted, NetworkAct, Request, TapQueues};

use super::networks::NetworkHost;
use super::plan::{apply, plan, said};
use super::rig::{Daemon, Host, next};
use crate::domain::Affects;
use crate::domain::record::Record;
use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::ops::{DumpXml, NetworkAction, UpdateDevice};

const LIVE: Affects = Affects { live: true, config: false };
const BOTH: Affects = Affects { live: true, config: true };
const MACS: [&str; 2] = ["52:54:00:00:00:01", "52:54:00:00:00:02"];

/// Notes what is asked of it of taps.
struct Ports {
    inner: Arc<NetworkHost>,
    made: Mutex<usize>,
    acts: Mutex<Vec<String>>,
}

impl Ports {
    fn new() -> Arc<Self> {
        let (made, acts) = (Mutex::default(), Mutex::default());
        Arc::new(Self { inner: NetworkHost::new(), made, acts })
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.acts.lock().unwrap())
    }
}

impl Broker for Ports {
    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
        let note = |act: String| self.acts.lock().unwrap().push(act);
        match &request {
            // Taps that need nothing of the host.
            Request::OpenTap(_) => {
                let mut made = self.made.lock().unwrap();
                *made += 1;
                let queue = std::fs::File::open("/dev/null").unwrap().into();
                let name = format!("vnet7{made}");
                return Ok(Granted::Tap(TapQueues { name, queues: vec![queue] }));
            }
            Request::Network(NetworkAct::LeaveBridge { tap }) => note(format!("leave {tap}")),
            Request::Network(NetworkAct::JoinBridge(port)) => {
                let vlans = port.vlans.as_ref().and_then(|vlans| vlans.native);
                let vlans = vlans.map(|native| format!(" {}", native.id)).unwrap_or_default();
                note(format!("join {} {}{vlans}", port.tap, port.bridge));
                if port.bridge == "none" {
                    return Err(BrokerError::NoBridge { name: "none".to_owned() });
                }
            }
            Request::Network(NetworkAct::Rules(rules)) => {
                let taps: Vec<_> = rules.ports.iter().map(|port| port.tap.as_str()).collect();
                note(format!("rules {}", taps.join(" ")).trim_end().to_owned());
            }
            _ => {}
        }
        self.inner.perform(request, files)
    }
}

fn interface(mac: &str, source: &str) -> String {
    let kind = if source.starts_with("bridge") { "bridge" } else { "network" };
    format!(
        "<interface type='{kind}'><mac address='{mac}'/><source {source}/><model type='virtio'/></interface>"
    )
}

async fn running(host: &Host, ports: &Arc<Ports>, devices: &str) -> Daemon {
    let daemon = host.daemon_with(ports.clone()).await;
    for (name, third) in [("one", 1), ("two", 2)] {
        daemon.define_network(name, third).await.unwrap();
        daemon.network(name, NetworkAction::Start).await.unwrap();
    }
    daemon.define(host.xml_with("web", "", devices)).await;
    daemon.start("web").await.unwrap();
    ports.take();
    daemon
}

async fn update(daemon: &Daemon, xml: String, affects: Affects) -> Result<(), Error> {
    daemon.call(UpdateDevice { domain: "web".into(), xml, affects }).await
}

async fn xml(daemon: &Daemon, inactive: bool) -> String {
    daemon.call(DumpXml { domain: "web".into(), inactive }).await.unwrap()
}

/// Whether the running and the stored definition have it.
async fn has(daemon: &Daemon, part: &str) -> [bool; 2] {
    [xml(daemon, false).await.contains(part), xml(daemon, true).await.contains(part)]
}

#[tokio::test]
async fn an_interface_is_moved_with_its_tap_and_its_guest_sees_its_cable_pulled() {
    let (host, ports) = (Host::new(), Ports::new());
    let daemon = running(&host, &ports, &interface(MACS[0], "network='one'")).await;
    let mut events = daemon.subscribe(0).await;
    update(&daemon, interface(MACS[0], "bridge='lan'"), LIVE).await.unwrap();
    // Whoever is on a bridge of the host is not looked at; in no bridge it is not, either.
    assert_eq!(ports.take(), ["leave vnet71", "rules", "join vnet71 lan"]);
    assert_eq!(has(&daemon, "bridge='lan'").await, [true, false]);
    assert_eq!(has(&daemon, "network='one'").await, [false, true]);
    assert_eq!(has(&daemon, "dev='vnet71'").await, [true, false]);
    assert_eq!(has(&daemon, "<link state").await, [false, false]);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match next(&mut events).await.kind {
            EventKind::LinkChanged { up, .. } => seen.push(if up { "up" } else { "down" }),
            EventKind::NetworkPort { added: false, .. } => seen.push("left"),
            _ => {}
        }
    }
    assert_eq!(seen, ["down", "up", "left"]);

    update(&daemon, interface(MACS[0], "network='two'"), BOTH).await.unwrap();
    assert_eq!(ports.take(), ["leave vnet71", "rules vnet71", "join vnet71 br-two"]);
    assert_eq!(has(&daemon, "network='two'").await, [true, true]);
    assert_eq!(has(&daemon, "bridge='br-two'").await, [true, false]);
    let vlan = "<vlan><tag id='42'/></vlan></interface>";
    let in_vlan = interface(MACS[0], "bridge='lan'").replace("</interface>", vlan);
    update(&daemon, in_vlan, LIVE).await.unwrap();
    assert_eq!(ports.take().last().unwrap(), "join vnet71 lan 42");
    // The next daemon knows, and does nothing to it.
    drop(daemon);
    let daemon = host.daemon_with(ports.clone()).await;
    assert_eq!(has(&daemon, "bridge='lan'").await, [true, false]);
    assert!(!ports.take().iter().any(|act| act.starts_with("leave")));
}

#[tokio::test]
async fn what_cannot_move_is_refused_and_stays_where_it_is() {
    let (host, ports) = (Host::new(), Ports::new());
    let daemon = running(&host, &ports, &interface(MACS[0], "network='one'")).await;
    let before = xml(&daemon, false).await;
    let direct = "<interface type='direct'><mac address='52:54:00:00:00:01'/><source dev='eth0'/>\
                  <model type='virtio'/></interface>";
    let refused = update(&daemon, direct.to_owned(), LIVE).await.unwrap_err();
    assert_eq!(refused.code, Code::Unsupported);
    assert!(refused.message.contains("type='direct'"), "{refused}");
    let refused = update(&daemon, interface(MACS[0], "network='three'"), LIVE).await.unwrap_err();
    assert!(refused.message.contains("no network \"three\""), "{refused}");
    assert_eq!(ports.take(), [""; 0], "nothing was tried");
    let refused = update(&daemon, interface(MACS[0], "bridge='none'"), BOTH).await.unwrap_err();
    assert!(refused.chain().contains("no bridge \"none\""), "{refused}");
    let acts = ["leave vnet71", "rules", "join vnet71 none"];
    let back = ["leave vnet71", "rules vnet71", "join vnet71 br-one"];
    assert_eq!(ports.take(), [acts, back].concat());
    assert_eq!(xml(&daemon, false).await, before);
    assert_eq!(Record::read(&host.run_dirs()[0]).unwrap().moving, None);
    assert_eq!(has(&daemon, "bridge='none'").await, [false, false]);
}

#[tokio::test]
async fn a_move_that_was_written_down_and_not_made_is_made_by_the_next_daemon() {
    let (host, ports) = (Host::new(), Ports::new());
    let daemon = running(&host, &ports, &interface(MACS[0], "network='one'")).await;
    drop(daemon);
    let dir = &host.run_dirs()[0];
    for (place, result) in [("bridge='lan'", "lan"), ("bridge='none'", "br-one")] {
        let mut record = Record::read(dir).unwrap();
        let rest = "<target dev='vnet71'/><alias name='net0'/></interface>";
        record.moving = Some(interface(MACS[0], place).replace("</interface>", rest));
        if result != "lan" {
            record.live = record.live.replace("type='bridge'", "type='network'");
            record.live = record.live.replace("bridge='lan'", "network='one' bridge='br-one'");
        }
        record.write(dir).unwrap();
        let daemon = host.daemon_with(ports.clone()).await;
        daemon.wait_for("web", "running", |state| state.name() == "running").await;
        let last = ports.take().pop().unwrap();
        assert_eq!(last, format!("join vnet71 {result}"));
        assert!(xml(&daemon, false).await.contains(&format!("bridge='{result}'")));
        drop(daemon);
        assert_eq!(Record::read(dir).unwrap().moving, None);
    }
}

#[tokio::test]
async fn a_plan_says_that_it_is_live_and_an_apply_that_fails_takes_it_back() {
    let (host, ports) = (Host::new(), Ports::new());
    let of = |one: &str, two: &str| [interface(MACS[0], one), interface(MACS[1], two)].concat();
    let daemon = running(&host, &ports, &of("network='one'", "network='one'")).await;
    let new = host.xml_with("web", "", &of("network='two'", "network='one'"));
    let path = format!("live /domain/devices/interface[{}]/source/@network", MACS[0]);
    assert_eq!(said(&plan(&daemon, &new).await.unwrap()), [path]);
    apply(&daemon, &new).await.unwrap();
    assert_eq!(said(&plan(&daemon, &new).await.unwrap()), [""; 0]);
    assert_eq!(ports.take().last().unwrap(), "join vnet71 br-two");

    let bad = host.xml_with("web", "", &of("network='one'", "bridge='none'"));
    let planned = said(&plan(&daemon, &bad).await.unwrap());
    assert!(planned.iter().all(|line| line.starts_with("live ")), "{planned:?}");
    let error = apply(&daemon, &bad).await.unwrap_err();
    assert!(error.contains("cannot move interface 52:54:00:00:00:02"), "{error}");
    assert!(error.contains("all is as it was before"), "{error}");
    assert_eq!(ports.take().last().unwrap(), "join vnet71 br-two");
    assert_eq!(said(&plan(&daemon, &new).await.unwrap()), [""; 0]);

    let other = "<interface type='ethernet'><mac address='52:54:00:00:00:02'/><model type='virtio'/>\
                 </interface>";
    let other = [interface(MACS[0], "network='two'"), other.to_owned()].concat();
    let planned = said(&plan(&daemon, &host.xml_with("web", "", &other)).await.unwrap());
    assert!(!planned.is_empty(), "{planned:?}");
    assert!(planned.iter().all(|line| line.starts_with("next-start ")), "{planned:?}");
}
