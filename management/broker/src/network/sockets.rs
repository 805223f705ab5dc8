//! The sockets of a network's services, each bound to its bridge: nobody elsewhere reaches them,
//! and a server of the host's own that listens at other addresses is not in their way.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use super::{Sockets, SocketsSpec};
use crate::{BrokerError, sys};

const DHCP: u16 = 67;
const DHCP6: u16 = 547;
const DNS: u16 = 53;
const BACKLOG: i32 = 64;

pub(super) fn open(spec: &SocketsSpec) -> Result<Sockets, BrokerError> {
    let bridge = &spec.bridge;
    let mut sockets = Sockets::default();
    if spec.dhcp {
        let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), DHCP);
        let socket = bound(bridge, address, SocketType::DGRAM, |socket| {
            Ok(sockopt::set_socket_broadcast(socket, true)?)
        })?;
        sockets.dhcp = Some(socket);
    }
    if spec.dhcp6 {
        let address = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), DHCP6);
        let socket = bound(bridge, address, SocketType::DGRAM, |socket| {
            // All servers and relays of the link (RFC 8415 §7.1).
            let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
            let index = sys::interface_index(bridge)?;
            Ok(sockopt::set_ipv6_add_membership(socket, &servers, index)?)
        })?;
        sockets.dhcp6 = Some(socket);
    }
    for address in &spec.dns {
        let address = SocketAddr::new(*address, DNS);
        sockets.dns_udp.push(bound(bridge, address, SocketType::DGRAM, |_| Ok(()))?);
        let stream = bound(bridge, address, SocketType::STREAM, |_| Ok(()))?;
        listen(&stream, BACKLOG).map_err(|errno| busy(bridge, address, errno.into()))?;
        sockets.dns_tcp.push(stream);
    }
    if spec.router {
        let act = format!("listen for those who look for a router on bridge {bridge:?}");
        sockets.router = Some(router(bridge).map_err(BrokerError::host(act))?);
    }
    Ok(sockets)
}

fn bound(
    bridge: &str,
    address: SocketAddr,
    kind: SocketType,
    prepare: impl FnOnce(&OwnedFd) -> io::Result<()>,
) -> Result<OwnedFd, BrokerError> {
    let make = || -> io::Result<OwnedFd> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, kind, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        sys::bind_to_device(socket.as_fd(), bridge)?;
        prepare(&socket)?;
        bind(&socket, &address)?;
        Ok(socket)
    };
    make().map_err(|source| busy(bridge, address, source))
}

fn busy(bridge: &str, address: SocketAddr, source: io::Error) -> BrokerError {
    if source.kind() == io::ErrorKind::AddrInUse {
        return BrokerError::ServiceBusy { address, bridge: bridge.to_owned() };
    }
    BrokerError::host(format!("listen at {address} on bridge {bridge:?}"))(source)
}

/// Router solicitations (RFC 4861 §6.2.6) come to all routers.
fn router(bridge: &str) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = Some(rustix::net::ipproto::ICMPV6);
    let socket = socket_with(AddressFamily::INET6, SocketType::RAW, flags, protocol)?;
    sys::bind_to_device(socket.as_fd(), bridge)?;
    sys::only_router_solicitations(socket.as_fd())?;
    let all_routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let index = sys::interface_index(bridge)?;
    sockopt::set_ipv6_add_membership(&socket, &all_routers, index)?;
    sys::multicast_interface(socket.as_fd(), index)?;
    Ok(socket)
}
