//! One entry of a network changed, as `virNetworkUpdate` has it: the rest stays as it is.

use std::net::IpAddr;

use crate::device::interface::Bandwidth;
use crate::diagnostic::Diagnostics;
use crate::document::{self, Bounds};
use crate::element::Element;
use crate::network::{
    Dhcp, DhcpHost, DhcpRange, Dns, DnsHost, DnsSrv, DnsTxt, Ip, NetworkDef, PortForward, PortGroup,
};
use crate::value::names;

names! {
    pub enum UpdateCommand {
        Modify = "modify", Delete = "delete", Add = "add", AddLast = "add-last", AddFirst = "add-first",
    }
    /// libvirt's sections that Manor changes, and its own two last.
    pub enum UpdateSection {
        DhcpHost = "ip-dhcp-host", DhcpRange = "ip-dhcp-range", DnsHost = "dns-host", DnsTxt = "dns-txt",
        DnsSrv = "dns-srv", PortGroup = "portgroup", PortForward = "port-forward", Bandwidth = "bandwidth",
    }
}

#[derive(Debug)]
pub enum UpdateError {
    /// The entry, or the network with it, makes no sense.
    Invalid(Diagnostics),
    /// There is no such entry, or there is one already, or nowhere to put it.
    Refused(String),
}

macro_rules! by_name {
    ($($type:ty),+) => { $(
        impl $type {
            /// By the name that a command line or a request gives it.
            pub fn from_name(name: &str) -> Option<Self> {
                crate::value::Value::parse(name).ok()
            }
        }
    )+ };
}
by_name!(UpdateCommand, UpdateSection);

impl NetworkDef {
    /// The definition with one entry added, removed or replaced. `index` says in which `<ip>` addresses are given out.
    pub fn update(
        &self,
        command: UpdateCommand,
        section: UpdateSection,
        index: Option<usize>,
        entry: &str,
    ) -> Result<Self, UpdateError> {
        let mut def = self.clone();
        match section {
            UpdateSection::DhcpHost => {
                let host: DhcpHost = read(entry, "host")?;
                let dhcp = def.dhcp(index, host.address)?;
                change(&mut dhcp.hosts, command, host, same_host)?;
            }
            UpdateSection::DhcpRange => {
                let same = |a: &DhcpRange, b: &DhcpRange| (a.start, a.end) == (b.start, b.end);
                let range: DhcpRange = read(entry, "range")?;
                let dhcp = def.dhcp(index, Some(range.start))?;
                change(&mut dhcp.ranges, command, range, same)?;
            }
            UpdateSection::DnsHost => {
                let same = |a: &DnsHost, b: &DnsHost| a.address == b.address;
                change(&mut def.dns_mut().hosts, command, read(entry, "host")?, same)?;
            }
            UpdateSection::DnsTxt => {
                let same = |a: &DnsTxt, b: &DnsTxt| a.name == b.name;
                change(&mut def.dns_mut().texts, command, read(entry, "txt")?, same)?;
            }
            UpdateSection::DnsSrv => {
                let same = |a: &DnsSrv, b: &DnsSrv| {
                    let of = |srv: &DnsSrv| {
                        (
                            srv.service.clone(),
                            srv.protocol.clone(),
                            srv.domain.clone(),
                            srv.target.clone(),
                        )
                    };
                    of(a) == of(b)
                };
                change(&mut def.dns_mut().services, command, read(entry, "srv")?, same)?;
            }
            UpdateSection::PortGroup => {
                let same = |a: &PortGroup, b: &PortGroup| a.name == b.name;
                change(&mut def.port_groups, command, read(entry, "portgroup")?, same)?;
            }
            UpdateSection::PortForward => {
                let same = |a: &PortForward, b: &PortForward| a == b;
                change(&mut def.port_forwards, command, read(entry, "portForward")?, same)?;
            }
            UpdateSection::Bandwidth => {
                // There is one at most, whatever it says.
                let mut one: Vec<Bandwidth> = def.bandwidth.take().into_iter().collect();
                change(&mut one, command, read(entry, "bandwidth")?, |_, _| true)?;
                def.bandwidth = one.pop();
            }
        }
        // What the parts must be together.
        let whole = Self::parse_stored(&def.to_xml()).map_err(UpdateError::Invalid)?;
        Ok(whole.value)
    }

    /// Without an index, of the family of `address`.
    fn dhcp(
        &mut self,
        index: Option<usize>,
        address: Option<IpAddr>,
    ) -> Result<&mut Dhcp, UpdateError> {
        let is_ipv4 = address.is_none_or(|address| address.is_ipv4());
        let fits = |ip: &Ip| ip.address.is_ipv4() == is_ipv4;
        let with_dhcp = self.ips.iter().position(|ip| fits(ip) && ip.dhcp.is_some());
        let any = self.ips.iter().position(fits);
        let index = index.or(with_dhcp).or(any);
        let ip = index.and_then(|index| self.ips.get_mut(index));
        let none = || UpdateError::Refused("the network has no such <ip>".to_owned());
        Ok(ip.ok_or_else(none)?.dhcp.get_or_insert_default())
    }

    fn dns_mut(&mut self) -> &mut Dns {
        self.dns.get_or_insert_default()
    }
}

fn read<E: Element>(entry: &str, name: &'static str) -> Result<E, UpdateError> {
    let read = document::parse(entry, name, Bounds::OUTSIDE);
    read.map(|parsed| parsed.value).map_err(UpdateError::Invalid)
}

/// libvirt's rule: hosts are the same by any of what they are known by.
fn same_host(a: &DhcpHost, b: &DhcpHost) -> bool {
    let both = |known: bool, same: bool| known && same;
    both(b.mac.is_some(), a.mac == b.mac)
        || both(b.name.is_some(), a.name == b.name)
        || both(b.id.is_some(), a.id == b.id)
}

fn change<E>(
    entries: &mut Vec<E>,
    command: UpdateCommand,
    entry: E,
    same: impl Fn(&E, &E) -> bool,
) -> Result<(), UpdateError> {
    let found = entries.iter().position(|known| same(known, &entry));
    let refused = |text: &str| Err(UpdateError::Refused(text.to_owned()));
    match (command, found) {
        (UpdateCommand::Modify, Some(at)) => {
            if let Some(known) = entries.get_mut(at) {
                *known = entry;
            }
        }
        (UpdateCommand::Delete, Some(at)) => drop(entries.remove(at)),
        (UpdateCommand::Modify | UpdateCommand::Delete, None) => {
            return refused("the network has no such entry");
        }
        (_, Some(_)) => return refused("the network has such an entry already"),
        (UpdateCommand::AddFirst, None) => entries.insert(0, entry),
        (UpdateCommand::Add | UpdateCommand::AddLast, None) => entries.push(entry),
    }
    Ok(())
}
