//! A host, a guest and the world beyond, each a network namespace: as root, with `ip`.

#![allow(clippy::print_stdout, reason = "skips are told to who runs the tests")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;
use crate::{NativeVlan, PortVlans, Tap, tap};

/// Where the guest is.
const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 10);
/// The host's address in the world, and another host there.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const WORLD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const SOON: Duration = Duration::from_secs(2);

pub(super) struct Lab {
    pub(super) host: String,
    pub(super) guest: String,
    pub(super) world: String,
}

pub(super) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

impl Lab {
    /// None where there can be none, with the reason.
    pub(super) fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() || Command::new("ip").arg("-V").output().is_err() {
            println!("SKIP: network namespaces need root and the command ip (iproute2)");
            return None;
        }
        let number = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let [host, guest, world] =
            ["host", "guest", "world"].map(|of| format!("manor-{of}-{number}"));
        for name in [&host, &guest, &world] {
            ip(&format!("netns add {name}"));
            ip(&format!("-n {name} link set lo up"));
        }
        // Where bridges ask the packet filter themselves, what a guest sends round the corner comes to
        // its own port, and a bridge sends nothing back where it came from.
        within(&host, || {
            let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
            if std::path::Path::new(path).exists() {
                std::fs::write(path, "0").unwrap();
            }
        });
        ip(&format!("-n {host} link add out type veth peer name in netns {world}"));
        ip(&format!("-n {host} address add {OUTSIDE}/24 dev out"));
        ip(&format!("-n {host} link set out up"));
        ip(&format!("-n {world} address add {WORLD}/24 dev in"));
        ip(&format!("-n {world} link set in up"));
        Some(Self { host, guest, world })
    }

    /// The guest's cable into the bridge.
    pub(super) fn connect(&self) {
        let (host, guest) = (&self.host, &self.guest);
        ip(&format!("-n {host} link add tap0 type veth peer name eth0 netns {guest}"));
        ip(&format!("-n {host} link set tap0 master virbr7 up"));
        ip(&format!("-n {guest} address add {GUEST}/24 dev eth0"));
        ip(&format!("-n {guest} link set eth0 up"));
        ip(&format!("-n {guest} route add default via 192.168.77.1"));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in [&self.host, &self.guest, &self.world] {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

/// On a thread that is in the namespace.
pub(super) fn within<T: Send>(namespace: &str, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let file = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), kind).unwrap();
            act()
        });
        thread.join().unwrap()
    })
}

pub(super) fn spec() -> BridgeSpec {
    BridgeSpec {
        name: "virbr7".to_owned(),
        owner: "seven".to_owned(),
        mac: [0x52, 0x54, 0, 7, 7, 7],
        // A port that waits forwards nothing for a while.
        stp: false,
        delay: 0,
        mtu: Some(1400),
        addresses: vec!["192.168.77.1/24".parse().unwrap(), "fd00:77::1/64".parse().unwrap()],
        routes: Vec::new(),
        forwarding: true,
        ipv6: false,
    }
}

pub(super) fn rules(mode: Forwarding) -> NetworkRules {
    NetworkRules {
        network: "seven".to_owned(),
        bridge: "virbr7".to_owned(),
        subnets: vec!["192.168.77.0/24".parse().unwrap(), "fd00:77::/64".parse().unwrap()],
        mode,
        out_interface: None,
        port_forwards: Vec::new(),
        dhcp: true,
        dns: true,
    }
}

fn set(networks: &[NetworkRules]) -> RuleSet {
    RuleSet { networks: networks.to_vec(), ..RuleSet::default() }
}

fn nat() -> Forwarding {
    Forwarding::Nat { ipv6: false, addresses: None, ports: Some((1024, 65535)) }
}

pub(super) fn forward(host_ports: (u16, u16), guest_port: u16) -> PortForward {
    PortForward {
        protocol: Protocol::Tcp,
        host_address: None,
        host_ports,
        guest: GUEST.into(),
        guest_port,
    }
}

pub(super) fn text(namespace: &str, arguments: &str) -> String {
    let mut command = Command::new("ip");
    let output = command.args(["-n", namespace]).args(arguments.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What a bridge knows of who is behind which port.
fn table(namespace: &str, bridge: &str) -> String {
    let mut command = Command::new("bridge");
    let output = command.args(["-n", namespace, "fdb", "show", "br", bridge]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_tap_is_in_its_vlans_alone_and_needs_a_bridge_that_tells_them_apart() {
    let Some(lab) = Lab::new() else { return };
    let native = |id, tagged| Some(NativeVlan { id, tagged });
    ip(&format!("-n {} link add lan type bridge", lab.host));
    within(&lab.host, || {
        let open = |vlans: &PortVlans| {
            let request = Tap::Standalone { name: None, mac: [2; 6], mtu: None, queues: 1 };
            let tap = tap::open(&request).unwrap();
            bridge::reattach("lan", std::slice::from_ref(&tap.name)).unwrap();
            vlan::set("lan", &tap.name, vlans).unwrap();
            tap
        };
        let told = |tap: &crate::TapQueues| {
            let output =
                Command::new("bridge").args(["vlan", "show", "dev", &tap.name]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let lines = text.lines().skip(1).map(|line| line.trim_start_matches(&tap.name).trim());
            lines.map(str::to_owned).filter(|line| !line.is_empty()).collect::<Vec<_>>()
        };
        let error = vlan::check("lan").unwrap_err().to_string();
        assert!(error.contains("vlan_filtering 1"), "{error}");
        let filter = ["link", "set", "lan", "type", "bridge", "vlan_filtering", "1"];
        if !Command::new("ip").args(filter).status().unwrap().success() {
            println!("SKIP: this kernel's bridges cannot tell VLANs apart");
            return;
        }
        vlan::check("lan").unwrap();
        let access = open(&PortVlans { native: native(42, false), tagged: Vec::new() });
        assert_eq!(told(&access), ["42 PVID Egress Untagged"]);
        let trunk = open(&PortVlans { native: native(1, true), tagged: vec![7, 42] });
        assert_eq!(told(&trunk), ["1 PVID", "7", "42"]);
        let closed = open(&PortVlans { native: None, tagged: vec![9] });
        assert_eq!(told(&closed), ["9"]);
    });
}

#[test]
fn a_tap_moves_from_bridge_to_bridge_and_nothing_else_does() {
    let Some(lab) = Lab::new() else { return };
    for bridge in ["one", "two"] {
        ip(&format!("-n {} link add {bridge} type bridge", lab.host));
    }
    ip(&format!("-n {} link set two mtu 1400", lab.host));
    within(&lab.host, || {
        let request = Tap::Standalone { name: None, mac: [2; 6], mtu: None, queues: 1 };
        let opened = tap::open(&request).unwrap();
        let tap = opened.name.clone();
        let look = || text(&lab.host, &format!("link show dev {tap}"));
        let port = |bridge: &str| BridgePort {
            bridge: bridge.to_owned(),
            tap: tap.clone(),
            mtu: None,
            vlans: None,
            known_mac: (bridge == "two").then_some([0x52, 0x54, 0, 1, 2, 3]),
        };
        bridge::join(&port("one")).unwrap();
        assert!(look().contains("master one"), "{}", look());
        bridge::leave(&tap).unwrap();
        assert!(!look().contains("master") && !look().contains(",UP"), "{}", look());
        // Again, as a daemon does that comes after one that died.
        bridge::leave(&tap).unwrap();
        bridge::join(&port("two")).unwrap();
        let now = look();
        assert!(now.contains("master two") && now.contains("mtu 1400"), "{now}");
        assert!(now.contains("UP"), "{now}");
        // That bridge has the guest's address from us, and learns none.
        let known = table(&lab.host, "two");
        let entry = format!("52:54:00:01:02:03 dev {tap} master two static");
        assert!(known.contains(&entry), "{known}");
        let details = text(&lab.host, &format!("-d link show dev {tap}"));
        assert!(details.contains("learning off flood off"), "{details}");
        let error = bridge::join(&port("three")).unwrap_err().to_string();
        assert!(error.contains("no bridge \"three\""), "{error}");
        let error = bridge::leave("one").unwrap_err().to_string();
        assert!(error.contains("\"one\" is no tap"), "{error}");
    });
}

#[test]
fn a_bridge_is_made_as_described_and_again_without_a_change() {
    let Some(lab) = Lab::new() else { return };
    within(&lab.host, || bridge::make(&spec()).unwrap());
    lab.connect();
    let look = || text(&lab.host, "-d address show dev virbr7");
    let first = look();
    for part in [
        "52:54:00:07:07:07",
        "mtu 1400",
        "UP",
        "alias manor network seven",
        "192.168.77.1/24 brd 192.168.77.255",
        "fd00:77::1/64",
        "stp_state 0",
    ] {
        assert!(first.contains(part), "no {part} in {first}");
    }
    within(&lab.host, || bridge::make(&spec()).unwrap());
    let times = |text: &str| text.split("gc_timer").next().unwrap().to_owned();
    assert_eq!(times(&look()), times(&first));
    assert!(text(&lab.host, "link show dev tap0").contains("master virbr7"));
    within(&lab.host, || {
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), "1\n");
    });

    // A host that listened to routers before it forwarded goes on to.
    within(&lab.host, || {
        let listens = std::fs::read_to_string("/proc/sys/net/ipv6/conf/out/accept_ra").unwrap();
        assert_eq!(listens, "2\n");
    });

    // Other addresses take the place of those before.
    let other = BridgeSpec {
        addresses: vec!["10.77.0.1/16".parse().unwrap()],
        routes: vec![RouteSpec {
            to: "10.88.0.0/16".parse().unwrap(),
            gateway: "10.77.0.9".parse().unwrap(),
            metric: Some(7),
        }],
        ..spec()
    };
    within(&lab.host, || bridge::make(&other).unwrap());
    let now = look();
    assert!(now.contains("10.77.0.1/16") && !now.contains("192.168.77"), "{now}");
    assert!(!now.contains("inet6"), "IPv6 is off where nobody asked for it: {now}");
    let routes = text(&lab.host, "route");
    assert!(
        routes.contains("10.88.0.0/16 via 10.77.0.9") && routes.contains("metric 7"),
        "{routes}"
    );

    within(&lab.host, || {
        bridge::remove("virbr7", "eight").unwrap();
        assert!(look().contains("virbr7"), "it is not that network's");
        bridge::remove("virbr7", "seven").unwrap();
        bridge::remove("virbr7", "seven").unwrap();
    });
    assert_eq!(look(), "");
}

#[test]
fn what_a_daemon_that_died_began_is_completed_and_what_is_not_ours_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let host = &lab.host;
    // Made, and nothing said of it yet.
    ip(&format!("-n {host} link add virbr7 address 52:54:00:07:07:07 type bridge"));
    within(host, || bridge::make(&spec()).unwrap());
    assert!(text(host, "link show dev virbr7").contains("alias manor network seven"));
    let taken = |spec: &BridgeSpec| within(host, || bridge::make(spec).unwrap_err().to_string());
    let by_network = taken(&BridgeSpec { owner: "eight".into(), ..spec() });
    assert!(by_network.contains("network seven"), "{by_network}");

    ip(&format!("-n {host} link add br0 type bridge"));
    let by_bridge = taken(&BridgeSpec { name: "br0".into(), owner: "x".into(), ..spec() });
    assert!(by_bridge.contains("a bridge that Manor did not make"), "{by_bridge}");
    let by_veth = taken(&BridgeSpec { name: "out".into(), owner: "x".into(), ..spec() });
    assert!(by_veth.contains("an interface that is no bridge"), "{by_veth}");

    // The host's own subnet, also where it is part of a larger one.
    for net in ["203.0.113.9/24", "203.0.0.1/16"] {
        let addresses = vec![net.parse().unwrap()];
        let spec = BridgeSpec { name: "virbr8".into(), owner: "x".into(), addresses, ..spec() };
        let error = taken(&spec);
        assert!(error.contains("out has 203.0.113.1/24"), "{error}");
        assert_eq!(text(host, "link show dev virbr8"), "", "nothing is half made");
    }
    // Where it has a way to, such as that of a VPN.
    ip(&format!("-n {host} route add 10.99.0.0/16 via {WORLD}"));
    let addresses = vec!["10.99.7.1/24".parse().unwrap()];
    let error =
        taken(&BridgeSpec { name: "virbr8".into(), owner: "x".into(), addresses, ..spec() });
    assert!(error.contains("a route by out has 10.99.0.0/16"), "{error}");
}

/// A server that tells everyone who they are, on a port that it chose.
fn listen(namespace: &str, port: u16) -> SocketAddr {
    within(namespace, || {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let peer = stream.peer_addr().unwrap();
                let _ = (&stream).write_all(peer.ip().to_string().as_bytes());
            }
        });
        address
    })
}

/// Who the server at the other end says we are.
fn ask(namespace: &str, address: Ipv4Addr, port: u16) -> Result<String, std::io::ErrorKind> {
    within(namespace, || {
        let address = SocketAddr::from((address, port));
        let mut stream = TcpStream::connect_timeout(&address, SOON).map_err(|e| e.kind())?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(|e| e.kind())?;
        Ok(text)
    })
}

#[test]
fn guests_of_a_nat_network_reach_the_world_as_the_host_and_are_reached_through_forwards() {
    let Some(lab) = Lab::new() else { return };
    within(&lab.host, || bridge::make(&spec()).unwrap());
    lab.connect();
    let put =
        |networks: &[NetworkRules]| within(&lab.host, || rules::apply(&set(networks)).unwrap());
    put(&[rules(nat())]);
    let world = listen(&lab.world, 0).port();
    assert_eq!(ask(&lab.guest, WORLD, world), Ok(OUTSIDE.to_string()));
    // The host itself is reached as it is.
    let host = listen(&lab.host, 0).port();
    assert_eq!(ask(&lab.guest, OUTSIDE, host), Ok(GUEST.to_string()));

    let guest = listen(&lab.guest, 8000).port();
    listen(&lab.guest, 8001);
    // Nobody in the world has a way to the guest's own address but through the host.
    ip(&format!("-n {} route add 192.168.77.0/24 via {OUTSIDE}", lab.world));
    let refused = ask(&lab.world, GUEST, guest);
    assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused), "rejected, and not in silence");

    let mut forwarded = rules(nat());
    forwarded.port_forwards = vec![forward((8000, 8000), 8000), forward((9000, 9001), 8000)];
    put(&[forwarded.clone()]);
    for port in [8000, 9000, 9001] {
        assert_eq!(ask(&lab.world, OUTSIDE, port), Ok(WORLD.to_string()), "port {port}");
    }
    assert!(ask(&lab.world, OUTSIDE, 9002).is_err());
    // From the host, and from the guest itself round the corner.
    assert_eq!(ask(&lab.host, OUTSIDE, 9000), Ok(OUTSIDE.to_string()));
    let own = ask(&lab.guest, OUTSIDE, 9000);
    assert_eq!(own, Ok("192.168.77.1".to_owned()), "the answer must come back through the host");

    let watch = within(&lab.host, || RulesWatch::from(watch_rules().unwrap()));
    let wanted = set(&[forwarded]);
    within(&lab.host, || assert!(rules::look(&wanted).unwrap()));
    within(&lab.host, || {
        rules::apply(&RuleSet::default()).unwrap();
        assert!(!rules::look(&wanted).unwrap());
    });
    assert!(watch.changed(Duration::from_millis(50)).unwrap());
    within(&lab.host, || rules::apply(&wanted).unwrap());
    within(&lab.host, || assert!(rules::look(&wanted).unwrap()));
}

#[test]
fn guests_of_isolated_and_routed_networks_reach_whom_they_should() {
    let Some(lab) = Lab::new() else { return };
    within(&lab.host, || bridge::make(&spec()).unwrap());
    lab.connect();
    ip(&format!("-n {} route add 192.168.77.0/24 via {OUTSIDE}", lab.world));
    let world = listen(&lab.world, 0).port();
    let guest = listen(&lab.guest, 0).port();
    let host = listen(&lab.host, 0).port();
    let put = |mode| within(&lab.host, || rules::apply(&set(&[rules(mode)])).unwrap());
    put(Forwarding::Isolated);
    let refused = Err(std::io::ErrorKind::ConnectionRefused);
    assert_eq!(ask(&lab.guest, WORLD, world), refused);
    assert_eq!(ask(&lab.world, GUEST, guest), refused);
    assert_eq!(ask(&lab.guest, Ipv4Addr::new(192, 168, 77, 1), host), Ok(GUEST.to_string()));
    for mode in [Forwarding::Routed, Forwarding::Open] {
        put(mode);
        assert_eq!(ask(&lab.guest, WORLD, world), Ok(GUEST.to_string()));
        assert_eq!(ask(&lab.world, GUEST, guest), Ok(WORLD.to_string()));
    }
    let addresses = Some((OUTSIDE, OUTSIDE));
    put(Forwarding::Nat { ipv6: true, addresses, ports: Some((2000, 3000)) });
    assert_eq!(ask(&lab.guest, WORLD, world), Ok(OUTSIDE.to_string()));
}

#[test]
fn services_listen_on_their_bridge_alone() {
    let Some(lab) = Lab::new() else { return };
    within(&lab.host, || {
        bridge::make(&spec()).unwrap();
        let gateways = ["192.168.77.1", "fd00:77::1"].map(|address| address.parse().unwrap());
        let wanted = SocketsSpec {
            bridge: "virbr7".into(),
            dhcp: true,
            dhcp6: true,
            dns: gateways.to_vec(),
            router: true,
        };
        let open = sockets::open(&wanted).unwrap();
        assert!(open.dhcp.is_some() && open.dhcp6.is_some() && open.router.is_some());
        assert_eq!((open.dns_udp.len(), open.dns_tcp.len()), (2, 2));
        // A server elsewhere on this host is not in the way, nor is this one in its.
        UdpSocket::bind((OUTSIDE, 53)).unwrap();
        drop(open);
        let _busy = TcpListener::bind((Ipv4Addr::new(192, 168, 77, 1), 53)).unwrap();
        let error = sockets::open(&wanted).unwrap_err().to_string();
        assert!(error.contains("192.168.77.1:53 on bridge \"virbr7\" is in use"), "{error}");
    });
}

#[test]
fn what_one_network_lets_out_another_need_not_let_in() {
    let (Some(lab), Some(neighbour)) = (Lab::new(), Lab::new()) else { return };
    let (host, guest) = (&lab.host, &neighbour.guest);
    let beside = BridgeSpec {
        name: "virbr8".into(),
        owner: "eight".into(),
        mac: [0x52, 0x54, 0, 8, 8, 8],
        addresses: vec!["192.168.88.1/24".parse().unwrap()],
        ..spec()
    };
    within(host, || {
        bridge::make(&spec()).unwrap();
        bridge::make(&beside).unwrap();
    });
    lab.connect();
    ip(&format!("-n {host} link add tap1 type veth peer name eth0 netns {guest}"));
    ip(&format!("-n {host} link set tap1 master virbr8 up"));
    ip(&format!("-n {guest} address add 192.168.88.10/24 dev eth0"));
    ip(&format!("-n {guest} link set eth0 up"));
    ip(&format!("-n {guest} route add default via 192.168.88.1"));
    let port = listen(guest, 0).port();
    let refused = Err(std::io::ErrorKind::ConnectionRefused);
    let allowed = Ok(GUEST.to_string());
    let cases = [
        (nat(), Forwarding::Isolated, &refused),
        (nat(), nat(), &refused),
        (Forwarding::Routed, Forwarding::Isolated, &refused),
        (Forwarding::Isolated, Forwarding::Routed, &refused),
        (Forwarding::Routed, Forwarding::Routed, &allowed),
    ];
    for (ours, theirs, expected) in cases {
        let what = format!("{ours:?} to {theirs:?}");
        let theirs = NetworkRules {
            network: "eight".into(),
            bridge: "virbr8".into(),
            subnets: vec!["192.168.88.0/24".parse().unwrap()],
            ..rules(theirs)
        };
        let mut both = [rules(ours), theirs];
        for order in ["first", "last"] {
            within(host, || rules::apply(&set(&both)).unwrap());
            let found = ask(&lab.guest, Ipv4Addr::new(192, 168, 88, 10), port);
            assert_eq!(&found, expected, "{what}, ours {order}");
            both.reverse();
        }
    }
}

#[test]
fn the_last_port_of_a_guest_can_be_forwarded_to() {
    let Some(lab) = Lab::new() else { return };
    let mut network = rules(nat());
    network.port_forwards = vec![forward((9000, 9001), 65534)];
    within(&lab.host, || rules::apply(&set(&[network])).unwrap());
    let mut network = rules(nat());
    network.port_forwards = vec![forward((9000, 9000), 65535)];
    within(&lab.host, || rules::apply(&set(&[network])).unwrap());
}
