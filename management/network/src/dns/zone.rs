//! [`Zone`]: what the configuration says of names, in the shape that questions come in.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::config::{Dns, Forwarder, NetworkConfig, Srv};
use crate::names;

/// Upstreams asked about one question; a client's patience ends before more have been.
const MAX_UPSTREAMS: usize = 3;

#[derive(Debug, Default)]
pub(crate) struct Zone {
    pub(super) enabled: bool,
    pub(super) domain: Option<String>,
    pub(super) local_only: bool,
    pub(super) forward_plain_names: bool,
    /// The network's own prefixes.
    prefixes: Vec<IpNet>,
    hosts: BTreeMap<String, Vec<IpAddr>>,
    pointers: BTreeMap<IpAddr, String>,
    srv: BTreeMap<String, Vec<Srv>>,
    txt: BTreeMap<String, Vec<String>>,
    /// By the domain that they are for; all names are below the empty one.
    upstreams: BTreeMap<String, Vec<SocketAddr>>,
}

impl Zone {
    pub(crate) fn new(config: &NetworkConfig) -> Self {
        let dns = &config.settings.dns;
        let domain = config.settings.domain.as_ref();
        let ipv4 = config.ipv4.map(IpNet::V4);
        let prefixes = ipv4.into_iter().chain(config.ipv6.as_ref().map(|ipv6| ipv6.gateway.into()));
        let prefixes: Vec<IpNet> = prefixes.collect();
        let mut zone = Self {
            enabled: dns.enabled,
            domain: domain.map(|domain| names::canonical(&domain.name)),
            local_only: domain.is_some_and(|domain| domain.local_only),
            forward_plain_names: dns.forward_plain_names,
            upstreams: upstreams(dns, &prefixes),
            prefixes,
            ..Self::default()
        };
        let gateways: Vec<IpAddr> = zone.prefixes.iter().map(IpNet::addr).collect();
        for gateway in gateways {
            zone.add_host(gateway, &dns.gateway_names);
        }
        for host in &dns.hosts {
            zone.add_host(host.address, &host.names);
        }
        for srv in &dns.srv {
            zone.srv.entry(names::canonical(&srv.name)).or_default().push(srv.clone());
        }
        for txt in &dns.txt {
            zone.txt.entry(names::canonical(&txt.name)).or_default().push(txt.value.clone());
        }
        zone
    }

    fn add_host(&mut self, address: IpAddr, names: &[String]) {
        for name in names {
            let name = names::canonical(name);
            let key = self.key(&name).to_owned();
            self.pointers.entry(address).or_insert_with(|| {
                self.domain.as_deref().map_or_else(
                    || key.clone(),
                    |domain| {
                        if key.contains('.') { key.clone() } else { format!("{key}.{domain}") }
                    },
                )
            });
            let addresses = self.hosts.entry(key).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }

    /// A host is known by its label alone and by its label in the domain; both are one key.
    pub(super) fn key<'a>(&self, name: &'a str) -> &'a str {
        let domain = self.domain.as_deref();
        let label = domain.and_then(|domain| names::below(name, domain));
        label.filter(|label| !label.contains('.')).unwrap_or(name)
    }

    pub(super) fn addresses(&self, key: &str) -> Option<&[IpAddr]> {
        self.hosts.get(key).map(Vec::as_slice)
    }

    pub(super) fn pointer(&self, address: IpAddr) -> Option<&str> {
        self.pointers.get(&address).map(String::as_str)
    }

    pub(super) fn srv(&self, name: &str) -> Option<&[Srv]> {
        self.srv.get(name).map(Vec::as_slice)
    }

    pub(super) fn txt(&self, name: &str) -> Option<&[String]> {
        self.txt.get(name).map(Vec::as_slice)
    }

    /// Whether clients at `address` are of this network.
    pub(super) fn serves(&self, address: IpAddr) -> bool {
        self.enabled && self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }

    /// Whether all of `net` is within the network.
    pub(super) fn holds(&self, net: &IpNet) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(net))
    }

    /// Whom to ask about `name`: those of the longest domain that it is in.
    pub(super) fn upstreams_for(&self, name: &str) -> Vec<SocketAddr> {
        let mut domain = name;
        let found = loop {
            if let Some(found) = self.upstreams.get(domain) {
                break found;
            }
            domain = match domain.split_once('.') {
                Some((_, parent)) => parent,
                None if domain.is_empty() => return Vec::new(),
                None => "",
            };
        };
        found.iter().take(MAX_UPSTREAMS).copied().collect()
    }
}

fn upstreams(dns: &Dns, prefixes: &[IpNet]) -> BTreeMap<String, Vec<SocketAddr>> {
    // Asking ourselves would go round for ever.
    let own = |address: &SocketAddr| {
        address.port() == 53 && prefixes.iter().any(|prefix| prefix.addr() == address.ip())
    };
    let host: Vec<SocketAddr> = dns.upstreams.iter().copied().filter(|one| !own(one)).collect();
    let mut all: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
    for Forwarder { domain, address } in &dns.forwarders {
        let servers = all.entry(domain.as_deref().map(names::canonical).unwrap_or_default());
        let servers = servers.or_default();
        match address {
            Some(address) if own(address) => {}
            Some(address) => servers.push(*address),
            None => servers.extend(&host),
        }
    }
    all.entry(String::new()).or_insert(host);
    all
}
