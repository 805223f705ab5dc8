//! Which VLANs (IEEE 802.1Q) a guest's tap is in, on a bridge of the host that tells them apart.

use std::io;

use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags as Flags, LinkAttribute, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use serde::{Deserialize, Serialize};

use super::bridge::find;
use super::netlink::Netlink;
use crate::BrokerError;

/// Where the kernel puts every new port of a bridge, unless the bridge says otherwise.
const DEFAULT: u16 = 1;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortVlans {
    /// Where frames without a tag belong; none: they are dropped.
    pub native: Option<NativeVlan>,
    /// Those the guest tags frames for itself.
    pub tagged: Vec<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NativeVlan {
    pub id: u16,
    /// Frames of it reach the guest with its tag.
    pub tagged: bool,
}

/// Whether the bridge keeps VLANs apart: if not, every port would be in all of them.
pub(crate) fn check(bridge: &str) -> Result<(), BrokerError> {
    let found = Netlink::route().and_then(|mut netlink| find(&mut netlink, bridge));
    match found.map_err(BrokerError::host(format!("look at bridge {bridge:?}")))? {
        Some(link) if link.filters_vlans => Ok(()),
        _ => Err(BrokerError::NoVlanFiltering { bridge: bridge.to_owned() }),
    }
}

/// Put a tap that is a port of `bridge` into these VLANs and no others.
pub(crate) fn set(bridge: &str, tap: &str, vlans: &PortVlans) -> Result<(), BrokerError> {
    let act = || BrokerError::host(format!("put {tap:?} into its VLANs of bridge {bridge:?}"));
    let mut netlink = Netlink::route().map_err(act())?;
    let index = find(&mut netlink, tap).map_err(act())?.map(|link| link.index);
    let index = index.ok_or_else(|| io::ErrorKind::NotFound.into()).map_err(act())?;
    // First out of the one it is in by itself; the kernel passes over one that it is not in.
    let default = message(index, vec![info(DEFAULT, Flags::empty())]);
    netlink.act(Message::DelLink(default), 0).map_err(act())?;
    let native = vlans.native.map(|native| {
        let untagged = if native.tagged { Flags::empty() } else { Flags::Untagged };
        info(native.id, Flags::Pvid | untagged)
    });
    let tagged = vlans.tagged.iter().map(|id| info(*id, Flags::empty()));
    let wanted = native.into_iter().chain(tagged).collect();
    netlink.act(Message::SetLink(message(index, wanted)), 0).map_err(act())
}

fn info(vid: u16, flags: Flags) -> AfSpecBridge {
    AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid })
}

fn message(index: u32, vlans: Vec<AfSpecBridge>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = index;
    message.attributes.push(LinkAttribute::AfSpecBridge(vlans));
    message
}
