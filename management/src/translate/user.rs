//! What passt(1) is told of an interface of type='user'.

use std::net::IpAddr;

use broker::{Passt, PasstForward, PasstRange, Protocol};
use xml::device::interface::{Interface, UserForward, UserProtocol, UserRange};

/// Of a definition that was checked: what cannot be read is not there.
pub(crate) fn passt(interface: &Interface) -> Passt {
    let addresses = interface.ips.iter().filter_map(|ip| Some((ip.address.parse().ok()?, ip)));
    let addresses: Vec<(IpAddr, _)> = addresses.collect();
    let v4 = addresses.iter().find(|(address, _)| address.is_ipv4());
    Passt {
        interface: interface.source.as_ref().and_then(|source| source.dev.clone()),
        prefix: v4.and_then(|(_, ip)| u8::try_from(ip.prefix?).ok()),
        addresses: addresses.iter().map(|(address, _)| *address).collect(),
        mtu: interface.mtu.and_then(|mtu| u16::try_from(mtu).ok()),
        forwards: interface.port_forwards.iter().map(forward).collect(),
        log: interface.backend.as_ref().and_then(|backend| backend.log_file.clone()),
        user: None,
    }
}

fn forward(forward: &UserForward) -> PasstForward {
    PasstForward {
        protocol: match forward.proto {
            UserProtocol::Tcp => Protocol::Tcp,
            UserProtocol::Udp => Protocol::Udp,
        },
        address: forward.address.as_deref().and_then(|address| address.parse().ok()),
        interface: forward.dev.clone(),
        ranges: forward.ranges.iter().map(range).collect(),
    }
}

fn range(range: &UserRange) -> PasstRange {
    PasstRange {
        first: range.start,
        last: range.end.unwrap_or(range.start),
        to: range.to,
        excluded: range.is_excluded(),
    }
}
