//! Networks on a host that is made up: what is asked of it, and what is left when it refuses. What
//! the acts do on a real one, the broker's tests show.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::{
    Broker, BrokerError, Granted, Local, NetworkAct, Request, Role, RuleSet, Sockets, Tap, Traffic,
};

use super::rig::{Daemon, Host, TestBroker, lifecycle_until, next};
use crate::domain::Affects;
use crate::error::{Code, Error};
use crate::events::{EventKind, Lifecycle};
use crate::network::NetworkView;
use crate::ops::{
    ChangeNetwork, CreateNetwork, DefineNetwork, DescribeNetwork, DumpNetworkXml, ListNetworks,
    NetworkAction, NetworkLeases, UpdateNetwork,
};

#[derive(Default)]
struct Made {
    /// Bridges and whose they are.
    bridges: BTreeMap<String, String>,
    rules: RuleSet,
    reattached: Vec<String>,
    /// Guests whose addresses their bridges have from us.
    known: Vec<[u8; 6]>,
    /// The latest limit of each bridge.
    limits: BTreeMap<String, Traffic>,
    /// The next act of this kind fails.
    fails: Option<&'static str>,
}

/// A host whose networks are a note of them.
pub(super) struct NetworkHost {
    local: Local,
    /// What guests get of it.
    domains: TestBroker,
    made: Mutex<Made>,
}

impl NetworkHost {
    pub(super) fn new() -> Arc<Self> {
        let server = Local::new().with_server("/bin/sleep".into(), vec!["600".into()]);
        Arc::new(Self { local: server, domains: TestBroker::new(), made: Mutex::default() })
    }

    fn fail(&self, what: &'static str) {
        self.made.lock().unwrap().fails = Some(what);
    }

    /// As if others were in force.
    pub(super) fn forget_rules(&self) {
        self.made.lock().unwrap().rules = RuleSet::default();
    }

    fn bridges(&self) -> Vec<String> {
        self.made.lock().unwrap().bridges.keys().cloned().collect()
    }

    fn rules(&self) -> Vec<String> {
        let made = self.made.lock().unwrap();
        made.rules.networks.iter().map(|rules| rules.network.clone()).collect()
    }
}

impl Broker for NetworkHost {
    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
        let act = match request {
            Request::Network(act) => act,
            Request::Spawn { role: Role::Network, .. } => {
                return self.local.perform(request, files);
            }
            // Its bridge is none.
            Request::OpenTap(Tap::Bridged { mac, mtu, queues, known_mac, .. }) => {
                self.made.lock().unwrap().known.extend(known_mac.then_some(mac));
                let tap = Tap::Standalone { name: None, mac, mtu, queues };
                return self.domains.perform(Request::OpenTap(tap), files);
            }
            other => return self.domains.perform(other, files),
        };
        let mut made = self.made.lock().unwrap();
        let kind = match &act {
            NetworkAct::Bridge(_) => "bridge",
            NetworkAct::Rules(_) => "rules",
            NetworkAct::Sockets(_) => "sockets",
            NetworkAct::Shape { .. } => "shape",
            _ => "",
        };
        if made.fails.take_if(|fails| *fails == kind).is_some() {
            let source = std::io::Error::other("as the test wants it");
            return Err(BrokerError::Host { act: kind.to_owned(), source });
        }
        match act {
            NetworkAct::Bridge(spec) => drop(made.bridges.insert(spec.name, spec.owner)),
            NetworkAct::RemoveBridge { name, .. } => drop(made.bridges.remove(&name)),
            NetworkAct::Reattach { taps, .. } => made.reattached.extend(taps),
            NetworkAct::Rules(rules) => made.rules = rules,
            NetworkAct::Holders { before, after } => {
                made.rules.holders.retain(|holder| !before.contains(holder));
                made.rules.holders.extend(after);
                made.rules.holders.sort();
            }
            NetworkAct::LookRules(rules) => return Ok(Granted::Intact(made.rules == rules)),
            NetworkAct::LookForeign => return Ok(Granted::Foreign(Vec::new())),
            NetworkAct::Shape { interface, traffic, .. } => {
                made.limits.insert(interface, traffic);
            }
            NetworkAct::LeaveBridge { .. } | NetworkAct::JoinBridge(_) => {}
            NetworkAct::RemoveDirect { .. } => {}
            NetworkAct::Sockets(_) => return Ok(Granted::Sockets(Sockets::default())),
        }
        Ok(Granted::Done)
    }
}

fn xml(name: &str, third: u8) -> String {
    format!(
        "<network><name>{name}</name><forward/><bridge name='br-{name}'/>\
         <ip address='10.9.{third}.1' prefix='24'><dhcp>\
         <range start='10.9.{third}.2' end='10.9.{third}.9'/></dhcp></ip></network>"
    )
}

impl Daemon {
    pub(super) async fn define_network(&self, name: &str, third: u8) -> Result<NetworkView, Error> {
        self.call(DefineNetwork { xml: xml(name, third) }).await
    }

    pub(super) async fn network(&self, network: &str, action: NetworkAction) -> Result<(), Error> {
        self.call(ChangeNetwork { network: network.into(), action }).await
    }

    async fn view(&self, network: &str) -> NetworkView {
        self.call(DescribeNetwork { network: network.into() }).await.unwrap()
    }

    async fn networks(&self) -> Vec<String> {
        let all = self.call(ListNetworks).await.unwrap();
        all.into_iter().map(|network| network.name).filter(|name| name != "default").collect()
    }
}

fn files(host: &Host, place: &str) -> usize {
    std::fs::read_dir(host.config.run_dir.join(place)).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_network_is_made_kept_over_daemons_and_removed_without_a_trace() {
    let (host, made) = (Host::new(), NetworkHost::new());
    let daemon = host.daemon_with(made.clone()).await;
    daemon.define_network("one", 1).await.unwrap();
    assert!(made.bridges().is_empty(), "a definition alone makes nothing");
    daemon.network("one", NetworkAction::Start).await.unwrap();
    assert_eq!((made.bridges(), made.rules()), (vec!["br-one".into()], vec!["one".into()]));
    let again = daemon.network("one", NetworkAction::Start).await.unwrap_err();
    assert_eq!(again.code, Code::InvalidState, "{again:?}");
    let leases = NetworkLeases { network: "one".into(), mac: None };
    assert!(daemon.call(leases).await.unwrap().is_empty());

    // Another definition waits for the next start.
    let uuid = daemon.view("one").await.uuid;
    let other = xml("one", 7).replace("<forward/>", &format!("<uuid>{uuid}</uuid><forward/>"));
    daemon.call(DefineNetwork { xml: other }).await.unwrap();
    let dump = |inactive| DumpNetworkXml { network: "one".into(), inactive };
    assert!(daemon.call(dump(false)).await.unwrap().contains("10.9.1.1"));
    assert!(daemon.call(dump(true)).await.unwrap().contains("10.9.7.1"));

    let process = || {
        std::fs::read_to_string(
            host.config.run_dir.join("networks").join(uuid.to_string()).join("process.json"),
        )
        .unwrap()
    };
    let before = process();
    drop(daemon);
    // What the host has lost meanwhile is made again.
    made.made.lock().unwrap().rules = RuleSet::default();
    let daemon = host.daemon_with(made.clone()).await;
    assert!(daemon.view("one").await.active);
    assert_eq!((made.rules(), process()), (vec!["one".into()], before));

    daemon.network("one", NetworkAction::Stop).await.unwrap();
    assert!(made.bridges().is_empty() && made.rules().is_empty());
    assert_eq!(files(&host, "networks"), 0);
    assert!(daemon.call(dump(false)).await.unwrap().contains("10.9.7.1"), "the new definition");
    daemon.network("one", NetworkAction::Undefine).await.unwrap();
    assert!(daemon.networks().await.is_empty());
}

#[tokio::test]
async fn a_start_that_fails_anywhere_leaves_nothing() {
    let (host, made) = (Host::new(), NetworkHost::new());
    let daemon = host.daemon_with(made.clone()).await;
    daemon.define_network("one", 1).await.unwrap();
    for what in ["bridge", "rules", "sockets"] {
        made.fail(what);
        let error = daemon.network("one", NetworkAction::Start).await.unwrap_err();
        assert!(error.chain().contains("as the test wants it"), "{error:?}");
        assert!(made.bridges().is_empty() && made.rules().is_empty(), "after {what}");
        assert_eq!(files(&host, "networks"), 0, "after {what}");
        assert!(!daemon.view("one").await.active);
        // A transient one vanishes.
        made.fail(what);
        daemon.call(CreateNetwork { xml: xml("two", 2) }).await.unwrap_err();
        assert_eq!(daemon.networks().await, ["one"]);
    }
    daemon.network("one", NetworkAction::Start).await.unwrap();
    daemon.network("one", NetworkAction::Stop).await.unwrap();
}

#[tokio::test]
async fn networks_do_not_share_a_subnet_a_bridge_or_a_name() {
    let (host, made) = (Host::new(), NetworkHost::new());
    let daemon = host.daemon_with(made.clone()).await;
    daemon.define_network("one", 1).await.unwrap();
    daemon.network("one", NetworkAction::Start).await.unwrap();
    daemon.define_network("two", 1).await.unwrap();
    let overlap = daemon.network("two", NetworkAction::Start).await.unwrap_err();
    assert_eq!(overlap.code, Code::Exists);
    assert!(overlap.message.contains("10.9.1.1/24 is also in network \"one\""), "{overlap:?}");
    assert_eq!(made.bridges(), ["br-one"]);
    let bridge = xml("three", 3).replace("br-three", "br-one");
    let taken = daemon.call(DefineNetwork { xml: bridge }).await.unwrap_err();
    assert!(taken.message.contains("\"br-one\" is that of another network"), "{taken:?}");
    let name = daemon.define_network("one", 4).await.unwrap_err();
    assert!(name.message.contains("there is a network \"one\" already"), "{name:?}");
    // As soon as the other is gone, there is room.
    daemon.network("one", NetworkAction::Stop).await.unwrap();
    daemon.network("two", NetworkAction::Start).await.unwrap();
    daemon.network("two", NetworkAction::Undefine).await.unwrap();
    assert_eq!(daemon.networks().await, ["one", "two"], "it goes on while it is active");
    daemon.network("two", NetworkAction::Stop).await.unwrap();
    assert_eq!(daemon.networks().await, ["one"]);
}

#[tokio::test]
async fn a_limit_of_a_network_changes_while_it_is_active_and_outlives_its_daemon() {
    let (host, made) = (Host::new(), NetworkHost::new());
    let daemon = host.daemon_with(made.clone()).await;
    // One without a process, which here is none that takes other settings.
    let plain = |third: u8, rest: &str| {
        format!(
            "<network><name>one</name>{rest}<forward/><bridge name='br-one'/><dns enable='no'/>\
             <ip address='10.9.{third}.1' prefix='24'/></network>"
        )
    };
    let uuid = daemon.call(DefineNetwork { xml: plain(1, "") }).await.unwrap().uuid;
    daemon.network("one", NetworkAction::Start).await.unwrap();
    let limit = || {
        let limits = &made.made.lock().unwrap().limits;
        limits["br-one"].inbound.map(|rate| (rate.average, rate.burst))
    };
    assert_eq!(limit(), None);
    let update = |command: &str, rate: u32| UpdateNetwork {
        network: "one".into(),
        command: command.into(),
        section: "bandwidth".into(),
        index: None,
        xml: format!("<bandwidth><inbound average='{rate}' burst='64'/></bandwidth>"),
        affects: Affects { live: true, config: true },
    };
    daemon.call(update("add", 1000)).await.unwrap();
    assert_eq!(limit(), Some((1_000_000, Some(65_536))));
    made.fail("shape");
    daemon.call(update("modify", 9)).await.unwrap_err();
    assert_eq!(limit(), Some((1_000_000, Some(65_536))), "as it was before");

    // Defined anew: of all that is new, the limit holds at once.
    let rest = format!("<uuid>{uuid}</uuid><bandwidth><inbound average='50'/></bandwidth>");
    daemon.call(DefineNetwork { xml: plain(7, &rest) }).await.unwrap();
    assert_eq!(limit(), Some((50_000, None)));
    let live = DumpNetworkXml { network: "one".into(), inactive: false };
    let live = daemon.call(live).await.unwrap();
    assert!(live.contains("average='50'"), "{live}");
    assert!(live.contains("10.9.1.1"), "{live}");

    drop(daemon);
    made.made.lock().unwrap().limits.clear();
    let daemon = host.daemon_with(made.clone()).await;
    assert_eq!(limit(), Some((50_000, None)), "the next daemon sees to it");
    daemon.network("one", NetworkAction::Stop).await.unwrap();
}

#[tokio::test]
async fn a_process_that_ends_by_itself_is_started_again() {
    let (host, made) = (Host::new(), NetworkHost::new());
    let daemon = host.daemon_with(made.clone()).await;
    daemon.define_network("one", 1).await.unwrap();
    daemon.network("one", NetworkAction::Start).await.unwrap();
    let uuid = daemon.view("one").await.uuid;
    let path = host.config.run_dir.join("networks").join(uuid.to_string()).join("process.json");
    let process =
        || -> broker::ProcessId { serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap() };
    let before = process();
    made.local.perform(Request::Kill { process: before, cgroup: None }, &[]).unwrap();
    let mut tries = 0;
    while process() == before {
        tries += 1;
        assert!(tries < 200, "nobody started another");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(process().open().is_some(), "the new one runs");
    daemon.network("one", NetworkAction::Stop).await.unwrap();
    assert_eq!(files(&host, "networks"), 0);
}

#[tokio::test]
async fn networks_that_are_marked_start_once_with_the_host() {
    let (host, made) = (Host::new(), NetworkHost::new());
    let daemon = host.daemon_with(made.clone()).await;
    daemon.define_network("one", 1).await.unwrap();
    daemon.define_network("two", 2).await.unwrap();
    daemon.network("one", NetworkAction::SetAutostart(true)).await.unwrap();
    daemon.manager.autostart().await;
    assert_eq!(made.bridges(), ["br-one"]);
    // Stopped since, it stays so for the next daemon of the same boot.
    daemon.network("one", NetworkAction::Stop).await.unwrap();
    drop(daemon);
    let daemon = host.daemon_with(made.clone()).await;
    daemon.manager.autostart().await;
    assert!(made.bridges().is_empty());
    assert!(daemon.view("one").await.autostart && !daemon.view("two").await.autostart);
}

#[tokio::test]
async fn who_follows_a_network_hears_of_the_taps_that_come_and_go() {
    if !super::link::taps() {
        return;
    }
    let (host, made) = (Host::new(), NetworkHost::new());
    let daemon = host.daemon_with(made).await;
    daemon.define_network("one", 1).await.unwrap();
    daemon.network("one", NetworkAction::Start).await.unwrap();
    let interfaces = "<interface type='network'><source network='one'/></interface>\
                      <interface type='ethernet'/>";
    daemon.define(host.xml_with("web", "", interfaces)).await;
    let mut events = daemon.subscribe(0).await;
    daemon.start("web").await.unwrap();
    lifecycle_until(&mut events, Lifecycle::StartedBooted).await;
    let added = next(&mut events).await;
    let EventKind::NetworkPort { network, device, added: true } = &added.kind else {
        panic!("{added:?}")
    };
    assert!(network == "one" && device.starts_with("vnet"), "{added:?}");
    assert_eq!(added.domain.unwrap().name, "web");
    daemon.destroy("web").await.unwrap();
    lifecycle_until(&mut events, Lifecycle::StoppedDestroyed).await;
    let (network, device) = (network.clone(), device.clone());
    let removed = EventKind::NetworkPort { network, device, added: false };
    assert_eq!(next(&mut events).await.kind, removed);
}

#[tokio::test]
async fn bridges_that_do_not_learn_have_the_addresses_of_their_guests() {
    if !super::link::taps() {
        return;
    }
    let (host, made) = (Host::new(), NetworkHost::new());
    let daemon = host.daemon_with(made.clone()).await;
    for (name, number, table) in [("learns", 91, "kernel"), ("knows", 92, "libvirt")] {
        let xml = format!(
            "<network><name>{name}</name><bridge name='virbr{number}' macTableManager='{table}'/>\
             <ip address='10.9.{number}.1' prefix='24'/></network>"
        );
        daemon.call(DefineNetwork { xml }).await.unwrap();
        daemon.network(name, NetworkAction::Start).await.unwrap();
    }
    let interfaces = "<interface type='network'><mac address='52:54:00:00:00:01'/>\
                      <source network='learns'/></interface>\
                      <interface type='network'><mac address='52:54:00:00:00:02'/>\
                      <source network='knows'/></interface>\
                      <interface type='bridge'><mac address='52:54:00:00:00:03'/>\
                      <source bridge='br0' macTableManager='libvirt'/></interface>";
    daemon.define(host.xml_with("web", "", interfaces)).await;
    daemon.start("web").await.unwrap();
    let known: Vec<u8> = made.made.lock().unwrap().known.iter().map(|mac| mac[5]).collect();
    assert_eq!(known, [2, 3]);
}
