//! A port of a bridge whose one address is known: the bridge need not learn what comes from there, nor
//! send there what it does not know (libvirt's `macTableManager='libvirt'`).

use std::io;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkProtoInfoBridge};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::bridge::find;
use super::netlink::Netlink;
use crate::BrokerError;

/// `linux/if_link.h`.
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;

/// Put the guest's address into the table of the bridge that `tap` is a port of, and nothing else from
/// there, ever. It goes with the port.
pub(crate) fn fix(tap: &str, mac: [u8; 6]) -> Result<(), BrokerError> {
    let act =
        || BrokerError::host(format!("put the guest's address behind {tap:?} into its bridge"));
    let mut netlink = Netlink::route().map_err(act())?;
    let index = find(&mut netlink, tap).map_err(act())?.map(|link| link.index);
    let index = index.ok_or_else(|| io::ErrorKind::NotFound.into()).map_err(act())?;
    let off = |attribute| LinkProtoInfoBridge::Other(DefaultNla::new(attribute, vec![0]));
    let mut port = LinkMessage::default();
    port.header.interface_family = AddressFamily::Bridge;
    port.header.index = index;
    let settings = [IFLA_BRPORT_LEARNING, IFLA_BRPORT_UNICAST_FLOOD].map(off);
    port.attributes.push(LinkAttribute::ProtoInfoBridge(settings.into()));
    netlink.act(Message::SetLink(port), 0).map_err(act())?;
    let mut entry = NeighbourMessage::default();
    entry.header.family = AddressFamily::Bridge;
    entry.header.ifindex = index;
    // Of the bridge, and not of the port by itself; never forgotten by age.
    entry.header.flags = NeighbourFlags::Controller;
    entry.header.state = NeighbourState::Noarp;
    entry.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.into()));
    netlink.act(Message::NewNeighbour(entry), NLM_F_CREATE | NLM_F_REPLACE).map_err(act())
}
