//! From a definition to what is made of it on the host, and what its process serves.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use broker::{BridgeSpec, Forwarding, NetworkRules, PortForward, Protocol, RouteSpec, SocketsSpec};
use ipnet::IpNet;
use network::config::{
    Boot, Dhcp, Dhcp6, Dns, DnsHost, Domain, Forwarder, Host, Host6, Ipv6, Range, Range6, Settings,
    Srv, Txt,
};
use network::{Hex, Mac};
use xml::network::{DhcpHost, DnsSrv, ForwardMode, Ip, Lease, PortProtocol};
use xml::{NetworkDef, OnOff, YesNo};

use crate::error::{Code, Error};

/// The first address of each family is the gateway.
pub(super) fn ipv4(def: &NetworkDef) -> Option<&Ip> {
    of_family(def, true)
}

fn of_family(def: &NetworkDef, is_ipv4: bool) -> Option<&Ip> {
    let mut family = def.ips.iter().filter(|ip| ip.address.is_ipv4() == is_ipv4);
    family.clone().find(|ip| ip.dhcp.is_some()).or_else(|| family.next())
}

pub(super) fn ipv6(def: &NetworkDef) -> Option<Ipv6> {
    let ip = of_family(def, false)?;
    let IpAddr::V6(address) = ip.address else { return None };
    let prefix = ip.subnet()?.prefix;
    let gateway = ipnet::Ipv6Net::new(address, prefix).ok()?;
    // The network's UUID outlives bridges and their addresses (RFC 6355).
    let uuid = def.uuid.unwrap_or_default();
    let server_id = Hex([&[0, 4], uuid.as_bytes().as_slice()].concat());
    Some(Ipv6 { gateway, slaac: prefix == 64, managed: false, server_id: Some(server_id) })
}

pub(super) fn gateway(def: &NetworkDef) -> Option<ipnet::Ipv4Net> {
    let ip = ipv4(def)?;
    let IpAddr::V4(address) = ip.address else { return None };
    ipnet::Ipv4Net::new(address, ip.subnet()?.prefix).ok()
}

/// Whether the host answers questions for names there.
pub(super) fn serves_dns(def: &NetworkDef) -> bool {
    let off = def.dns.as_ref().is_some_and(|dns| dns.enable == Some(YesNo::No));
    !off && !def.ips.is_empty() && !def.is_foreign_bridge()
}

/// Whether there is anything for a process to do.
pub(super) fn needs_service(def: &NetworkDef) -> bool {
    let dhcp = def.ips.iter().any(|ip| ip.dhcp.is_some());
    dhcp || serves_dns(def) || ipv6(def).is_some()
}

/// What can change while the network runs.
pub(super) fn settings(def: &NetworkDef, upstreams: Vec<SocketAddr>) -> Settings {
    let is_yes = |value: Option<YesNo>| value.is_some_and(YesNo::is_yes);
    Settings {
        domain: def.domain.as_ref().map(|domain| Domain {
            name: domain.name.trim_end_matches('.').to_owned(),
            local_only: is_yes(domain.local_only),
        }),
        dhcp: ipv4(def).and_then(dhcp),
        dhcp6: of_family(def, false).and_then(dhcp6),
        dns: dns(def, upstreams),
    }
}

fn lease(lease: Option<Lease>) -> Option<u32> {
    lease.map_or(Some(network::config::DEFAULT_LEASE), |lease| lease.seconds())
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn dhcp(ip: &Ip) -> Option<Dhcp> {
    let dhcp = ip.dhcp.as_ref()?;
    let range = |range: &xml::network::DhcpRange| {
        let (start, end) = (v4(range.start)?, v4(range.end)?);
        Some(Range { start, end, lease_seconds: lease(range.lease) })
    };
    Some(Dhcp {
        ranges: dhcp.ranges.iter().filter_map(range).collect(),
        hosts: dhcp.hosts.iter().filter_map(host).collect(),
        boot: dhcp.bootp.as_ref().map(|bootp| Boot {
            file: bootp.file.display().to_string(),
            server: bootp.server.map(|server| server.to_string()),
        }),
        ntp: Vec::new(),
        options: Vec::new(),
    })
}

fn dhcp6(ip: &Ip) -> Option<Dhcp6> {
    let dhcp = ip.dhcp.as_ref()?;
    let range = |range: &xml::network::DhcpRange| {
        let (start, end) = (v6(range.start)?, v6(range.end)?);
        Some(Range6 { start, end, lease_seconds: lease(range.lease) })
    };
    let host = |host: &DhcpHost| {
        Some(Host6 {
            mac: host.mac.map(|mac| Mac(mac.0)),
            client_id: client_id(host),
            name: host.name.clone(),
            address: v6(host.address?)?,
            lease_seconds: lease(host.lease),
        })
    };
    Some(Dhcp6 {
        ranges: dhcp.ranges.iter().filter_map(range).collect(),
        hosts: dhcp.hosts.iter().filter_map(host).collect(),
    })
}

fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

/// `id='…'`: bytes in hexadecimal, with colons between them.
fn client_id(host: &DhcpHost) -> Option<Hex> {
    let bytes = host.id.as_ref()?.split(':').map(|byte| u8::from_str_radix(byte, 16));
    bytes.collect::<Result<Vec<u8>, _>>().ok().map(Hex)
}

/// One that has a name and no address is given any.
fn host(host: &DhcpHost) -> Option<Host> {
    Some(Host {
        mac: host.mac.map(|mac| Mac(mac.0)),
        client_id: client_id(host),
        name: host.name.clone(),
        address: v4(host.address?)?,
        lease_seconds: lease(host.lease),
    })
}

fn dns(def: &NetworkDef, upstreams: Vec<SocketAddr>) -> Dns {
    let mut out = Dns { enabled: serves_dns(def), upstreams, ..Dns::default() };
    let Some(dns) = &def.dns else { return out };
    out.forward_plain_names = dns.forward_plain_names != Some(YesNo::No);
    let forwarder = |forwarder: &xml::network::Forwarder| Forwarder {
        domain: forwarder.domain.clone(),
        address: forwarder.address.map(|address| SocketAddr::new(address, 53)),
    };
    out.forwarders = dns.forwarders.iter().map(forwarder).collect();
    let host =
        |host: &xml::network::DnsHost| DnsHost { address: host.address, names: host.names.clone() };
    out.hosts = dns.hosts.iter().map(host).collect();
    let domain = def.domain.as_ref().map(|domain| domain.name.as_str());
    out.srv = dns.services.iter().map(|service| srv(service, domain)).collect();
    let text = |text: &xml::network::DnsTxt| Txt {
        name: text.name.clone(),
        value: text.value.clone().unwrap_or_default(),
    };
    out.txt = dns.texts.iter().map(text).collect();
    out
}

fn srv(service: &DnsSrv, domain: Option<&str>) -> Srv {
    let plain = |name: &str| name.trim_start_matches('_').to_owned();
    let mut name = format!("_{}._{}", plain(&service.service), service.protocol);
    if let Some(domain) = service.domain.as_deref().or(domain) {
        name.push('.');
        name.push_str(domain.trim_end_matches('.'));
    }
    Srv {
        name,
        target: service.target.clone().filter(|target| target != "."),
        port: service.port.unwrap_or(0),
        priority: service.priority.unwrap_or(0),
        weight: service.weight.unwrap_or(0),
    }
}

/// A bridge of the host's own that a network relies on.
pub(super) fn need_bridge(def: &NetworkDef) -> Result<(), Error> {
    let name = def.bridge_name().unwrap_or_default();
    if std::path::Path::new("/sys/class/net").join(name).join("bridge").is_dir() {
        return Ok(());
    }
    let text = format!(
        "network {:?} uses bridge {name:?} of the host, and there is none; make it (ip link add \
         {name} type bridge), or leave <forward mode='bridge'/> out",
        &*def.name
    );
    Err(Error::new(Code::ResourceMissing, text))
}

fn net(subnet: xml::network::Subnet) -> Option<IpNet> {
    IpNet::new(subnet.address, subnet.prefix).ok()
}

/// The bridge that is made for a network.
pub(super) fn bridge(def: &NetworkDef) -> BridgeSpec {
    let own = def.bridge.as_ref();
    let route = |route: &xml::network::Route| {
        let to = net(route.subnet()?)?.trunc();
        Some(RouteSpec { to, gateway: route.gateway, metric: route.metric })
    };
    BridgeSpec {
        name: def.bridge_name().unwrap_or_default().to_owned(),
        owner: def.name.to_string(),
        mac: def.mac.map_or([0x52, 0x54, 0, 0, 0, 0], |mac| mac.0),
        stp: own.and_then(|bridge| bridge.stp).is_none_or(OnOff::is_on),
        delay: own.and_then(|bridge| bridge.delay).and_then(|s| u16::try_from(s).ok()).unwrap_or(0),
        mtu: def.mtu,
        addresses: def.subnets().filter_map(net).collect(),
        routes: def.routes.iter().filter_map(route).collect(),
        forwarding: matches!(
            def.forward_mode(),
            Some(ForwardMode::Nat | ForwardMode::Route | ForwardMode::Open)
        ),
        ipv6: def.ipv6.is_some_and(YesNo::is_yes),
    }
}

/// Addresses that its guests may have, of a family in which they are given them: those of its subnets, and
/// of others that a guest is the way to.
pub(super) fn within(def: &NetworkDef) -> Vec<IpNet> {
    if def.is_foreign_bridge() {
        return Vec::new();
    }
    // Of IPv6 an advertisement is enough.
    let gives = |is_ipv4: bool| if is_ipv4 { serves_dhcp(def, true) } else { ipv6(def).is_some() };
    let routed = def.routes.iter().filter_map(xml::network::Route::subnet);
    let all = def.subnets().chain(routed).filter_map(net).map(|net| net.trunc());
    all.filter(|net| gives(net.addr().is_ipv4())).collect()
}

/// Addresses that are somebody's whether or not there is a lease: the host's, and those kept for guests
/// that are known by their MAC address.
pub(super) fn reserved(def: &NetworkDef) -> BTreeMap<IpAddr, [u8; 6]> {
    let host = bridge(def).mac;
    let mut reserved = BTreeMap::new();
    for ip in def.ips.iter().filter_map(|ip| ip.dhcp.as_ref()) {
        let kept = |host: &DhcpHost| Some((host.address?, host.mac?.0));
        reserved.extend(ip.hosts.iter().filter_map(kept));
    }
    reserved.extend(def.gateways().map(|gateway| (gateway, host)));
    if ipv6(def).is_some() {
        reserved.insert(link_local(host).into(), host);
    }
    reserved
}

/// As the kernel makes it for a bridge (RFC 4291, appendix A).
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Whether addresses, or what else there is to know, are given out in that family.
fn serves_dhcp(def: &NetworkDef, is_ipv4: bool) -> bool {
    of_family(def, is_ipv4).is_some_and(|ip| ip.dhcp.is_some())
}

/// What its process listens at.
pub(super) fn sockets(def: &NetworkDef) -> SocketsSpec {
    let dns = if serves_dns(def) { def.gateways().collect() } else { Vec::new() };
    SocketsSpec {
        bridge: def.bridge_name().unwrap_or_default().to_owned(),
        dhcp: serves_dhcp(def, true),
        dhcp6: serves_dhcp(def, false),
        dns,
        router: ipv6(def).is_some(),
    }
}

/// Who reaches whom in it. A bridge of the host's own has none of our rules.
pub(super) fn rules(def: &NetworkDef) -> Option<NetworkRules> {
    let bridge = def.bridge_name()?.to_owned();
    let mode = match def.forward_mode() {
        Some(ForwardMode::Bridge) => return None,
        Some(ForwardMode::Open) => Forwarding::Open,
        Some(ForwardMode::Route) => Forwarding::Routed,
        Some(ForwardMode::Nat) => {
            nat(def.forward.as_ref().and_then(|forward| forward.nat.as_ref()))
        }
        _ => Forwarding::Isolated,
    };
    Some(NetworkRules {
        network: def.name.to_string(),
        bridge,
        subnets: def.subnets().filter_map(net).map(|net| net.trunc()).collect(),
        mode,
        out_interface: def.forward.as_ref().and_then(|forward| forward.dev.clone()),
        port_forwards: def.port_forwards.iter().flat_map(port_forwards).collect(),
        dhcp: serves_dhcp(def, true),
        dns: serves_dns(def),
    })
}

fn nat(nat: Option<&xml::network::Nat>) -> Forwarding {
    let addresses = nat.and_then(|nat| nat.address);
    Forwarding::Nat {
        ipv6: nat.and_then(|nat| nat.ipv6).is_some_and(YesNo::is_yes),
        addresses: addresses.map(|range| (range.start, range.end.unwrap_or(range.start))),
        ports: nat.and_then(|nat| nat.ports).map(|ports| (ports.start, ports.end)),
    }
}

fn port_forwards(forward: &xml::network::PortForward) -> impl Iterator<Item = PortForward> {
    forward.ranges.iter().map(|range| {
        let (host_ports, guest_port) = range.ports();
        PortForward {
            protocol: match forward.proto {
                PortProtocol::Tcp => Protocol::Tcp,
                PortProtocol::Udp => Protocol::Udp,
            },
            host_address: forward.address,
            host_ports,
            guest: forward.to,
            guest_port,
        }
    })
}
