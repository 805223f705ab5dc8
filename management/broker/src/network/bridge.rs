//! A network's bridge: made, made so, removed. Every step can be the last before the daemon dies;
//! the next call completes it. Ours is known by its alias.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    BridgeBooleanOptionFlags, BridgeBooleanOptions, BridgeStpState, InfoBridge, InfoData, InfoKind,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::netlink::Netlink;
use super::{BridgePort, BridgeSpec, RouteSpec, mac_table, vlan};
use crate::BrokerError;

/// The kernel counts in hundredths of a second.
const TICKS: u32 = 100;

pub(super) struct Link {
    pub(super) index: u32,
    alias: Option<String>,
    mac: Vec<u8>,
    kind: Option<InfoKind>,
    bridge: Option<u32>,
    mtu: Option<u32>,
    /// Of a bridge: it tells VLANs apart.
    pub(super) filters_vlans: bool,
}

fn alias(owner: &str) -> String {
    // IFALIASZ is 256 with its NUL; names of networks are 255 bytes at most.
    let mut alias = format!("manor network {owner}");
    while alias.len() > 255 {
        alias.pop();
    }
    alias
}

pub(super) fn find(netlink: &mut Netlink, name: &str) -> io::Result<Option<Link>> {
    let mut ask = LinkMessage::default();
    ask.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let Some(Message::NewLink(link)) = netlink.get(Message::GetLink(ask))? else { return Ok(None) };
    let mut found = Link {
        index: link.header.index,
        alias: None,
        mac: Vec::new(),
        kind: None,
        bridge: None,
        mtu: None,
        filters_vlans: false,
    };
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfAlias(alias) => found.alias = Some(alias),
            LinkAttribute::Address(mac) => found.mac = mac,
            LinkAttribute::Controller(bridge) => found.bridge = Some(bridge),
            LinkAttribute::Mtu(mtu) => found.mtu = Some(mtu),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => found.kind = Some(kind),
                        LinkInfo::Data(InfoData::Bridge(data)) => {
                            found.filters_vlans = data.contains(&InfoBridge::VlanFiltering(true));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(Some(found))
}

impl Link {
    /// Between its creation and its alias a bridge has but our address.
    fn is_of(&self, owner: &str, mac: Option<[u8; 6]>) -> bool {
        let is_bridge = self.kind == Some(InfoKind::Bridge);
        let unnamed = self.alias.as_ref().is_none_or(String::is_empty);
        let by_mac = unnamed && mac.is_some_and(|mac| self.mac == mac);
        is_bridge && (by_mac || self.alias.as_deref() == Some(&alias(owner)))
    }

    fn refuse(&self, name: &str) -> BrokerError {
        let what = match &self.alias {
            Some(alias) if alias.starts_with("manor network ") => alias.replacen("manor ", "", 1),
            _ if self.kind == Some(InfoKind::Bridge) => {
                "a bridge that Manor did not make".to_owned()
            }
            _ => "an interface that is no bridge".to_owned(),
        };
        BrokerError::BridgeTaken { name: name.to_owned(), what }
    }
}

pub(super) fn make(spec: &BridgeSpec) -> Result<(), BrokerError> {
    let act = |act: &str| BrokerError::host(format!("{act} bridge {:?}", spec.name));
    let mut netlink = Netlink::route().map_err(act("reach the kernel for"))?;
    let found = find(&mut netlink, &spec.name).map_err(act("look for"))?;
    if let Some(link) = found.as_ref().filter(|link| !link.is_of(&spec.owner, Some(spec.mac))) {
        return Err(link.refuse(&spec.name));
    }
    check_free(&mut netlink, spec, found.as_ref().map(|link| link.index))?;
    if found.is_none() {
        let mut message = described(spec, 0);
        message.attributes.push(LinkAttribute::IfName(spec.name.clone()));
        netlink.act(Message::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).map_err(act("make"))?;
    }
    let link = find(&mut netlink, &spec.name).map_err(act("look for"))?;
    let index = link.map(|link| link.index).ok_or_else(|| io::ErrorKind::NotFound.into());
    let index = index.map_err(act("find"))?;
    // IPv6 before it is up: what is up gets addresses by itself.
    set_ipv6(spec).map_err(act("choose IPv6 of"))?;
    let mut message = described(spec, index);
    message.attributes.push(LinkAttribute::IfAlias(alias(&spec.owner)));
    // One that a bridge was made with would change with its ports.
    message.attributes.extend(spec.mtu.map(LinkAttribute::Mtu));
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    netlink.act(Message::NewLink(message), 0).map_err(act("set up"))?;
    set_addresses(&mut netlink, spec, index)?;
    for route in &spec.routes {
        let text = format!("make the route to {} through", route.to);
        netlink
            .act(Message::NewRoute(route_message(route, index)), NLM_F_CREATE | NLM_F_REPLACE)
            .map_err(act(&text))?;
    }
    if spec.forwarding { forward(spec).map_err(act("let packets through")) } else { Ok(()) }
}

/// The bridge as it should be, but for what the kernel takes only of one that exists.
fn described(spec: &BridgeSpec, index: u32) -> LinkMessage {
    let stp = if spec.stp { BridgeStpState::KernelStp } else { BridgeStpState::Disabled };
    // Frames for bridges themselves (LLDP, BPDUs) are not filtered before a bridge learns from them, and
    // would have it send a guest what is for another. Kernels before 5.0 pass over this.
    let no_learning = BridgeBooleanOptionFlags::NoLinkLocalLearn;
    let options = BridgeBooleanOptions { value: no_learning, mask: no_learning };
    let mut data = vec![InfoBridge::StpState(stp), InfoBridge::MultiBoolOpt(options)];
    // Without STP there is nothing to wait for.
    if spec.stp {
        // 0 is less than the protocol allows, and what the kernel takes only while STP is off.
        let delay = u32::from(spec.delay.max(2)).saturating_mul(TICKS);
        data.push(InfoBridge::ForwardDelay(delay));
    } else {
        data.push(InfoBridge::ForwardDelay(u32::from(spec.delay).saturating_mul(TICKS)));
    }
    let info = vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(data))];
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes =
        vec![LinkAttribute::Address(spec.mac.to_vec()), LinkAttribute::LinkInfo(info)];
    message
}

fn addresses(netlink: &mut Netlink) -> io::Result<Vec<(u32, IpNet, AddressScope)>> {
    let mut all = Vec::new();
    for answer in netlink.dump(Message::GetAddress(AddressMessage::default()))? {
        let Message::NewAddress(message) = answer else { continue };
        // Of a link between two hosts, `Address` is the other's.
        let own = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
        let any = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        let net =
            own.or(any).and_then(|address| IpNet::new(address, message.header.prefix_len).ok());
        all.extend(net.map(|net| (message.header.index, net, message.header.scope)));
    }
    Ok(all)
}

/// Whether another interface of the host is in one of these subnets: whoever that reaches would be
/// reached no more.
fn check_free(
    netlink: &mut Netlink,
    spec: &BridgeSpec,
    own: Option<u32>,
) -> Result<(), BrokerError> {
    let all = addresses(netlink).map_err(BrokerError::host("list the host's addresses"))?;
    for wanted in &spec.addresses {
        let meets = |net: &IpNet| wanted.contains(&net.trunc()) || net.contains(&wanted.trunc());
        let other = all.iter().find(|(index, net, _)| Some(*index) != own && meets(net));
        if let Some((index, net, _)) = other {
            let interface = interface_name(netlink, *index);
            return Err(BrokerError::SubnetTaken { wanted: *wanted, net: *net, interface });
        }
    }
    let routes = routes(netlink).map_err(BrokerError::host("list the host's routes"))?;
    for wanted in &spec.addresses {
        let meets = |to: &IpNet| wanted.contains(to) || to.contains(&wanted.trunc());
        let other = routes.iter().find(|(index, to)| Some(*index) != own && meets(to));
        if let Some((index, to)) = other {
            let interface = format!("a route by {}", interface_name(netlink, *index));
            return Err(BrokerError::SubnetTaken { wanted: *wanted, net: *to, interface });
        }
    }
    Ok(())
}

/// Where the host goes by an interface, but for the way to everyone.
fn routes(netlink: &mut Netlink) -> io::Result<Vec<(u32, IpNet)>> {
    let mut all = Vec::new();
    for answer in netlink.dump(Message::GetRoute(RouteMessage::default()))? {
        let Message::NewRoute(message) = answer else { continue };
        let main = message.header.table == RouteHeader::RT_TABLE_MAIN;
        let length = message.header.destination_prefix_length;
        let (mut to, mut by) = (None, None);
        for attribute in message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                    to = Some(IpAddr::V4(address));
                }
                RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                    to = Some(IpAddr::V6(address));
                }
                RouteAttribute::Oif(index) => by = Some(index),
                _ => {}
            }
        }
        let net = to.and_then(|address| IpNet::new(address, length).ok());
        if let (true, Some(net), Some(by)) = (main && length > 0, net, by) {
            all.push((by, net.trunc()));
        }
    }
    Ok(all)
}

fn interface_name(netlink: &mut Netlink, index: u32) -> String {
    let mut ask = LinkMessage::default();
    ask.header.index = index;
    let name = |attribute: LinkAttribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    };
    match netlink.get(Message::GetLink(ask)) {
        Ok(Some(Message::NewLink(link))) => link.attributes.into_iter().find_map(name),
        _ => None,
    }
    .unwrap_or_else(|| format!("interface {index}"))
}

fn set_addresses(netlink: &mut Netlink, spec: &BridgeSpec, index: u32) -> Result<(), BrokerError> {
    let present = addresses(netlink).map_err(BrokerError::host("list the host's addresses"))?;
    for (_, net, scope) in present.into_iter().filter(|(of, ..)| *of == index) {
        // An IPv6 interface has an address of its link by itself.
        if scope == AddressScope::Link || spec.addresses.contains(&net) {
            continue;
        }
        let act = format!("take address {net} from bridge {:?}", spec.name);
        netlink
            .act(Message::DelAddress(address_message(net, index)), 0)
            .map_err(BrokerError::host(act))?;
    }
    for net in &spec.addresses {
        let act = format!("give address {net} to bridge {:?}", spec.name);
        netlink
            .act(Message::NewAddress(address_message(*net, index)), NLM_F_CREATE | NLM_F_REPLACE)
            .map_err(BrokerError::host(act))?;
    }
    Ok(())
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn address_message(net: IpNet, index: u32) -> AddressMessage {
    let address = net.addr();
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = net.prefix_len();
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    match net {
        IpNet::V4(net) => message.attributes.push(AddressAttribute::Broadcast(net.broadcast())),
        // Nobody else is there to have it, and its sockets are bound at once.
        IpNet::V6(_) => message.header.flags = AddressHeaderFlags::Nodad,
    }
    message
}

fn route_message(route: &RouteSpec, index: u32) -> RouteMessage {
    let address = |address| match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    };
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.gateway);
    message.header.destination_prefix_length = route.to.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(address(route.to.addr())),
        RouteAttribute::Gateway(address(route.gateway)),
        RouteAttribute::Oif(index),
    ];
    message.attributes.extend(route.metric.map(RouteAttribute::Priority));
    message
}

fn write_sysctl(path: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/net/{path}");
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim() == value => Ok(()),
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => std::fs::write(&path, value),
    }
}

fn set_ipv6(spec: &BridgeSpec) -> io::Result<()> {
    let wanted = spec.ipv6 || spec.addresses.iter().any(|net| net.addr().is_ipv6());
    let conf = format!("ipv6/conf/{}", spec.name);
    write_sysctl(&format!("{conf}/accept_ra"), "0")?;
    write_sysctl(&format!("{conf}/autoconf"), "0")?;
    write_sysctl(&format!("{conf}/disable_ipv6"), if wanted { "0" } else { "1" })
}

fn forward(spec: &BridgeSpec) -> io::Result<()> {
    if spec.addresses.iter().any(|net| net.addr().is_ipv4()) {
        write_sysctl("ipv4/ip_forward", "1")?;
    }
    if spec.addresses.iter().any(|net| net.addr().is_ipv6()) {
        keep_router_advertisements()?;
        write_sysctl("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// A host that forwards hears routers no more, and loses the way it learned from them, unless it is
/// told to listen all the same (`accept_ra` 2): where it does now, it goes on.
fn keep_router_advertisements() -> io::Result<()> {
    const CONF: &str = "/proc/sys/net/ipv6/conf";
    let value = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    if value(std::path::Path::new(CONF).join("all/forwarding").as_path()).trim() != "0" {
        return Ok(());
    }
    for entry in std::fs::read_dir(CONF)? {
        let listens = entry?.path().join("accept_ra");
        if value(&listens).trim() == "1" {
            std::fs::write(&listens, "2")?;
        }
    }
    Ok(())
}

pub(super) fn remove(name: &str, owner: &str) -> Result<(), BrokerError> {
    let act = |act: &str| BrokerError::host(format!("{act} bridge {name:?}"));
    let mut netlink = Netlink::route().map_err(act("reach the kernel for"))?;
    let Some(link) = find(&mut netlink, name).map_err(act("look for"))? else { return Ok(()) };
    if !link.is_of(owner, None) {
        // Somebody made another of this name since ours was there.
        tracing::warn!(bridge = name, network = owner, "is not this network's, and stays");
        return Ok(());
    }
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    netlink.act(Message::DelLink(message), 0).map_err(act("remove"))
}

/// Put taps into a bridge. One that is gone, or is in another by now, is left alone.
pub(super) fn reattach(bridge: &str, taps: &[String]) -> Result<(), BrokerError> {
    let act = |act: String| BrokerError::host(act);
    let mut netlink = Netlink::route().map_err(act("reach the kernel".to_owned()))?;
    let found = find(&mut netlink, bridge).map_err(act(format!("look for bridge {bridge:?}")))?;
    let index = match found {
        Some(link) => link.index,
        None => return Err(BrokerError::NoBridge { name: bridge.to_owned() }),
    };
    for tap in taps {
        let text = format!("put {tap:?} into bridge {bridge:?}");
        let Some(link) = find(&mut netlink, tap).map_err(act(text.clone()))? else { continue };
        if link.bridge.is_some() {
            continue;
        }
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.attributes.push(LinkAttribute::Controller(index));
        netlink.act(Message::SetLink(message), 0).map_err(act(text))?;
    }
    Ok(())
}

/// Take a guest's tap out of its bridge. Down first: outside of a bridge its frames would be the host's
/// own to deal with.
pub(super) fn leave(tap: &str) -> Result<(), BrokerError> {
    let act = || BrokerError::host(format!("take {tap:?} out of its bridge"));
    let mut netlink = Netlink::route().map_err(act())?;
    let index = guests_tap(&mut netlink, tap)?.index;
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.change_mask = LinkFlags::Up;
    netlink.act(Message::SetLink(message), 0).map_err(act())?;
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Controller(0));
    netlink.act(Message::SetLink(message), 0).map_err(act())
}

/// Put a guest's tap into a bridge. Up only when all is so: no frame is in a VLAN that is not the
/// guest's.
pub(super) fn join(port: &BridgePort) -> Result<(), BrokerError> {
    let BridgePort { bridge, tap, mtu, vlans, known_mac } = port;
    let act = || BrokerError::host(format!("put {tap:?} into bridge {bridge:?}"));
    let mut netlink = Netlink::route().map_err(act())?;
    let found = find(&mut netlink, bridge).map_err(act())?;
    let found = found.filter(|link| link.kind == Some(InfoKind::Bridge));
    let controller = found.ok_or_else(|| BrokerError::NoBridge { name: bridge.clone() })?;
    if vlans.is_some() {
        vlan::check(bridge)?;
    }
    let index = guests_tap(&mut netlink, tap)?.index;
    let mut message = LinkMessage::default();
    message.header.index = index;
    // A bridge takes the smallest MTU of its ports: a new one must not shrink it.
    let mtu = mtu.map(u32::from).or(controller.mtu);
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message.attributes.push(LinkAttribute::Controller(controller.index));
    netlink.act(Message::SetLink(message), 0).map_err(act())?;
    if let Some(vlans) = vlans {
        vlan::set(bridge, tap, vlans)?;
    }
    if let Some(mac) = known_mac {
        mac_table::fix(tap, *mac)?;
    }
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    netlink.act(Message::SetLink(message), 0).map_err(act())
}

/// Nothing else of the host moves.
fn guests_tap(netlink: &mut Netlink, name: &str) -> Result<Link, BrokerError> {
    let found = find(netlink, name).map_err(BrokerError::host(format!("look for tap {name:?}")))?;
    let link = found.ok_or_else(|| BrokerError::NoInterface { name: name.to_owned() })?;
    match link.kind {
        Some(InfoKind::Tun) => Ok(link),
        _ => Err(BrokerError::NotTap { name: name.to_owned() }),
    }
}
