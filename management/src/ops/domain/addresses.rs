//! Addresses that a guest's interfaces have been given.

use std::net::IpAddr;

use xml::device::Interface;

use crate::auth::{Access, Subject};
use crate::domain::{AddressRow, DomainRef};
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};
use crate::network::{LeaseView, NetworkRef, seconds_now};

/// Addresses by DHCP in the networks that a running domain is in (virDomainInterfaceAddresses with
/// VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedAddresses {
    pub domain: DomainRef,
}

impl Operation for LeasedAddresses {
    type Output = Vec<AddressRow>;
    const NAME: &'static str = "domain.leased-addresses";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<AddressRow>, Error> {
        let mut rows = Vec::new();
        for Attached { tap, mac, network } in attached(cx, &self.domain)? {
            let Some(network) = network else { continue };
            // One that was undefined since has no leases that anyone could know.
            let Ok(network) = cx.node.networks.find(&NetworkRef::from(&*network)) else { continue };
            let now = seconds_now();
            let mut leases = network.run(move |state| state.leases(now)).await?;
            leases.retain(|lease| lease.mac == mac);
            let row = |lease: LeaseView| AddressRow {
                interface: tap.clone(),
                mac: lease.mac,
                address: lease.address,
                prefix: lease.prefix,
            };
            rows.extend(leases.into_iter().map(row));
        }
        Ok(rows)
    }
}

/// Addresses that this host has exchanged packets with, by the MAC addresses of a running domain
/// (virDomainInterfaceAddresses with VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP): IPv4, as libvirt tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourAddresses {
    pub domain: DomainRef,
}

impl Operation for NeighbourAddresses {
    type Output = Vec<AddressRow>;
    const NAME: &'static str = "domain.neighbour-addresses";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<AddressRow>, Error> {
        let attached = attached(cx, &self.domain)?;
        let neighbours = neighbours(&cx.node.host.read("proc/net/arp"));
        let mut rows = Vec::new();
        for Attached { tap, mac, .. } in attached {
            let found = neighbours.iter().filter(|(_, of)| *of == mac);
            rows.extend(found.map(|(address, _)| AddressRow {
                interface: tap.clone(),
                mac: mac.clone(),
                address: *address,
                // A neighbour's network is not known.
                prefix: 0,
            }));
        }
        Ok(rows)
    }
}

/// An interface of a running domain, by what its addresses are found with.
struct Attached {
    /// "": it has none.
    tap: String,
    mac: String,
    network: Option<String>,
}

fn attached(cx: &Context, domain: &DomainRef) -> Result<Vec<Attached>, Error> {
    let view = cx.find(domain)?.view();
    let live = view.live.as_ref().ok_or_else(|| {
        let text = format!("domain {:?} is not running: it has no addresses", view.name);
        Error::new(Code::InvalidState, text)
    })?;
    let attached = |interface: &Interface| {
        let mac = interface.mac_address()?.to_string();
        let tap = interface.target.as_ref().and_then(|target| target.dev.clone());
        let network = interface.source.as_ref().and_then(|source| source.network.clone());
        Some(Attached { tap: tap.unwrap_or_default(), mac, network })
    };
    Ok(live.def.devices.interfaces.iter().filter_map(attached).collect())
}

/// Of `/proc/net/arp`, what has been answered: address and MAC address.
fn neighbours(table: &str) -> Vec<(IpAddr, String)> {
    const ANSWERED: u32 = 2;
    let row = |line: &str| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [address, _kind, flags, mac, ..] = fields[..] else { return None };
        let flags = u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?;
        let address = address.parse().ok()?;
        (flags & ANSWERED != 0).then(|| (address, mac.to_ascii_lowercase()))
    };
    table.lines().skip(1).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_those_that_have_answered() {
        let table = "\
IP address       HW type     Flags       HW address            Mask     Device
10.0.0.5         0x1         0x2         52:54:00:AA:bb:01     *        virbr0
10.0.0.6         0x1         0x0         00:00:00:00:00:00     *        virbr0
10.0.0.7         0x1         0x6         52:54:00:aa:bb:02     *        virbr0
half a line
";
        let found = neighbours(table);
        let found: Vec<_> = found.iter().map(|(at, mac)| format!("{at} {mac}")).collect();
        assert_eq!(found, ["10.0.0.5 52:54:00:aa:bb:01", "10.0.0.7 52:54:00:aa:bb:02"]);
    }
}
