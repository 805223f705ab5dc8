//! What guests send through their taps, checked in a table of Manor's own, `bridge manor`: that they
//! appear as nobody else.
//!
//! A bridge asks before it learns where a frame's sender is, so what is dropped here teaches it
//! nothing either, but for LLDP and, with STP, BPDUs: from these our own bridges do not learn at all,
//! and of others that is their owner's choice (`no_linklocal_learn`).
//!
//! Rules name taps, not what is behind them: they are in force before a tap is there.

mod filter;
pub(super) use filter::lacking;
#[cfg(test)]
mod filter_tests;
#[cfg(test)]
mod frames;
pub(super) mod holders;
#[cfg(test)]
mod holders_tests;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::nft::{
    Base, Batch, Chain, Claim, Family, NEIGHBOUR_ADVERTISEMENT, Rule, Table, Verdict, ether_type,
    hook,
};
use super::{AddressHolder, PortRules};
use crate::BrokerError;
use crate::sys::InterfaceName;

const TABLE: Table = Table { family: Family::Bridge, name: super::rules::NAME };

/// Where nft(8) has `filter`: before br_netfilter (0) makes packets of the host of frames.
const PRIORITY: i32 = -200;

const fn chain(name: &'static str, hook: u32) -> Chain<'static> {
    Chain { table: TABLE, name, base: Some(Base { kind: "filter", hook, priority: PRIORITY }) }
}

const PREROUTING: Chain<'_> = chain("prerouting", hook::PREROUTING);
/// What is for the bridge itself by its group comes this way alone.
const INPUT: Chain<'_> = chain("input", hook::INPUT);

// Of ICMPv6 (RFC 4861 §4).
const ROUTER_ADVERTISEMENT: u8 = 134;
const REDIRECT: u8 = 137;

/// A name that no interface can have would be cut to one that another may have.
pub(super) fn check(ports: &[PortRules]) -> Result<(), BrokerError> {
    if let Some(port) = ports.iter().find(|port| InterfaceName::new(&port.tap).is_none()) {
        return Err(BrokerError::NoInterface { name: port.tap.clone() });
    }
    let wrong = |port: &PortRules| Some((port.tap.clone(), port.filter.as_ref()?.problem()?));
    match ports.iter().find_map(wrong) {
        None => Ok(()),
        Some((tap, problem)) => Err(BrokerError::Filter { tap, problem: problem.into() }),
    }
}

pub(super) fn add(batch: &mut Batch, ports: &[PortRules], held: &[AddressHolder]) {
    batch.remove(TABLE);
    if ports.is_empty() {
        return;
    }
    batch.add_table(TABLE);
    batch.add_chain(&PREROUTING);
    batch.add_chain(&INPUT);
    holders::add(batch, held);
    for rules in ports {
        let mut port = Port { rules, batch: &mut *batch };
        port.add();
        let checks = |what: &str| port_rule(rules, what).into_host_by(&rules.tap);
        let chain = chain_name(rules, None);
        batch.add_rule(&PREROUTING, &checks("what it sends").jump(&chain));
        let reserved = checks("what it sends to bridges").for_reserved_groups();
        batch.add_rule(&INPUT, &reserved.jump(&chain));
    }
    filter::add(batch, ports);
}

fn port_rule(rules: &PortRules, what: &str) -> Rule {
    Rule::new(format!("{}: {what}", rules.tap))
}

/// Names of interfaces have no '/': parts of one are not the port of another.
fn chain_name(rules: &PortRules, part: Option<&str>) -> String {
    match part {
        None => format!("port-{}", rules.tap),
        Some(part) => format!("port-{}/{part}", rules.tap),
    }
}

struct Port<'a> {
    rules: &'a PortRules,
    batch: &'a mut Batch,
}

impl Port<'_> {
    fn rule(&self, what: &str) -> Rule {
        port_rule(self.rules, what)
    }

    fn put(&mut self, part: Option<&str>, rule: &Rule) {
        let name = chain_name(self.rules, part);
        self.batch.add_rule(&Chain { table: TABLE, name: &name, base: None }, rule);
    }

    /// A chain for what `matching` selects of this port's frames.
    fn part(&mut self, part: &str, matching: Rule) {
        let name = chain_name(self.rules, Some(part));
        self.batch.add_chain(&Chain { table: TABLE, name: &name, base: None });
        self.put(None, &matching.jump(&name));
    }

    /// In what is said of a rule: by that it is known whether those in force are the ones wanted.
    fn mac(&self) -> String {
        self.rules.mac.map(|byte| format!("{byte:02x}")).join(":")
    }

    fn addresses(&self, is_ipv4: bool) -> Vec<IpAddr> {
        let addresses = self.rules.addresses.iter().copied();
        addresses.filter(|address| address.is_ipv4() == is_ipv4).collect()
    }

    /// Where addresses of a family that none is given of may be; nothing: anywhere.
    fn within(&self, is_ipv4: bool) -> Vec<IpNet> {
        let nets = self.rules.within.iter().copied();
        nets.filter(|net| net.addr().is_ipv4() == is_ipv4).collect()
    }

    /// In the chain `part`: what claims an address that the guest may have returns, and what claims
    /// another's is dropped. All else is for the rules that follow.
    fn claims(&mut self, part: &str, claim: Claim, nets: &[IpNet]) {
        let is_ipv4 = matches!(claim, Claim::Arp | Claim::Ipv4);
        let (holders, taken) = holders::sets(is_ipv4);
        // Where MAC addresses are not checked, this one is: it is what holds the address.
        let own = self.rule("its own address").sent_by(self.rules.mac);
        let own = own.claims_own_of(claim, &holders);
        self.put(Some(part), &own.verdict(Verdict::Return));
        let other = self.rule("no address of another guest").claims_one_of(claim, &taken);
        self.put(Some(part), &other.verdict(Verdict::Drop));
        for net in nets {
            let free = self.rule(&format!("a free address of {net}")).claims_in(claim, *net);
            self.put(Some(part), &free.verdict(Verdict::Return));
        }
    }

    fn add(&mut self) {
        let name = chain_name(self.rules, None);
        self.batch.add_chain(&Chain { table: TABLE, name: &name, base: None });
        let checks = self.rules.checks;
        if checks.mac {
            let rule = self.rule(&format!("no other MAC than {}", self.mac()));
            let rule = rule.not_from_mac(self.rules.mac);
            self.put(None, &rule.verdict(Verdict::Drop));
        }
        if checks.arp || checks.ip || checks.dhcp_server || checks.router {
            self.add_disguises();
        }
        if checks.arp {
            self.add_arp();
            self.add_neighbours();
        }
        if checks.ip {
            self.add_ipv4();
            self.add_ipv6();
        }
        if checks.dhcp_server {
            self.add_dhcp();
        }
        if checks.router {
            self.add_router();
        }
    }

    /// What carries packets that are not where the other rules look for them.
    fn add_disguises(&mut self) {
        for tag in [ether_type::TAG, ether_type::OUTER_TAG, ether_type::OLD_OUTER_TAG] {
            let rule = self.rule("no VLAN").ether_type(tag);
            self.put(None, &rule.verdict(Verdict::Drop));
        }
        let rule = self.rule("no packets in 802.2").encapsulated();
        self.put(None, &rule.verdict(Verdict::Drop));
    }

    fn add_arp(&mut self) {
        let part = Some("arp");
        self.part("arp", self.rule("ARP").ether_type(ether_type::ARP));
        let rule = self.rule("no ARP but of Ethernet and IPv4").other_arp();
        self.put(part, &rule.verdict(Verdict::Drop));
        let rule = self.rule(&format!("no ARP of another MAC than {}", self.mac()));
        let rule = rule.not_arp_from_mac(self.rules.mac);
        self.put(part, &rule.verdict(Verdict::Drop));
        let (addresses, within) = (self.addresses(true), self.within(true));
        if addresses.is_empty() && within.is_empty() {
            return;
        }
        for address in &addresses {
            if let IpAddr::V4(v4) = address {
                let rule = self.rule(&format!("ARP of {address}")).arp_from(*v4);
                self.put(part, &rule.verdict(Verdict::Return));
            }
        }
        if addresses.is_empty() {
            self.claims("arp", Claim::Arp, &within);
        }
        // RFC 5227 §2.1.1: whether an address is in use is asked from none.
        let rule = self.rule("ARP probes").arp_from(Ipv4Addr::UNSPECIFIED);
        self.put(part, &rule.verdict(Verdict::Return));
        self.put(part, &self.rule("no ARP of another address").verdict(Verdict::Drop));
    }

    /// What ARP is to IPv4, advertisements of neighbours are to IPv6 (RFC 4861 §7.2). Nobody takes one
    /// that comes in fragments (RFC 6980).
    fn add_neighbours(&mut self) {
        let (addresses, within) = (self.addresses(false), self.within(false));
        if addresses.is_empty() && within.is_empty() {
            return;
        }
        let part = Some("nd");
        self.part("nd", self.rule("advertisements").icmpv6_type(NEIGHBOUR_ADVERTISEMENT));
        if addresses.is_empty() {
            self.claims("nd", Claim::Neighbour, &of_any_link(within));
        }
        for address in addresses.into_iter().chain([link_local(self.rules.mac).into()]) {
            if let IpAddr::V6(v6) = address {
                let rule = self.rule(&format!("advertisements of {address}")).neighbour_target(v6);
                self.put(part, &rule.verdict(Verdict::Return));
            }
        }
        let rule = self.rule("no advertisement of another address");
        self.put(part, &rule.verdict(Verdict::Drop));
    }

    /// From the ports of servers, and to those of clients: these take an answer from any port.
    fn add_dhcp(&mut self) {
        for (server, client) in [(67, 68), (547, 546)] {
            let rule = self.rule("no DHCP server").udp_from_port(server);
            self.put(None, &rule.verdict(Verdict::Drop));
            let rule = self.rule("no answers to DHCP clients").udp_to_port(client);
            self.put(None, &rule.verdict(Verdict::Drop));
        }
    }

    fn add_router(&mut self) {
        let rule = self.rule("no router").icmpv6_type(ROUTER_ADVERTISEMENT);
        self.put(None, &rule.verdict(Verdict::Drop));
        let rule = self.rule("no redirects of a router").icmpv6_type(REDIRECT);
        self.put(None, &rule.verdict(Verdict::Drop));
    }

    fn add_ipv4(&mut self) {
        let (addresses, within) = (self.addresses(true), self.within(true));
        if addresses.is_empty() && within.is_empty() {
            return;
        }
        let part = Some("ipv4");
        self.part("ipv4", self.rule("IPv4").ether_type(ether_type::IPV4));
        if addresses.is_empty() {
            self.claims("ipv4", Claim::Ipv4, &within);
        }
        for address in addresses {
            let rule = self.rule(&format!("from {address}")).ip_from(address);
            self.put(part, &rule.verdict(Verdict::Return));
        }
        // RFC 2131 §4.1: who has no address yet asks for one.
        let rule = self.rule("for an address by DHCP").ip_from(Ipv4Addr::UNSPECIFIED.into());
        let rule = rule.ipv4_to(Ipv4Addr::BROADCAST).udp_to_port(67);
        self.put(part, &rule.verdict(Verdict::Return));
        self.put(part, &self.rule("no other IPv4 address").verdict(Verdict::Drop));
    }

    fn add_ipv6(&mut self) {
        let (addresses, within) = (self.addresses(false), self.within(false));
        if addresses.is_empty() && within.is_empty() {
            return;
        }
        let part = Some("ipv6");
        self.part("ipv6", self.rule("IPv6").ether_type(ether_type::IPV6));
        if addresses.is_empty() {
            self.claims("ipv6", Claim::Ipv6, &of_any_link(within));
        }
        for address in addresses.into_iter().chain([link_local(self.rules.mac).into()]) {
            let rule = self.rule(&format!("from {address}")).ip_from(address);
            self.put(part, &rule.verdict(Verdict::Return));
        }
        // RFC 4862 §5.4.2: whether an address is in use is asked from none.
        let rule = self.rule("probes").ip_from(Ipv6Addr::UNSPECIFIED.into()).icmpv6();
        self.put(part, &rule.verdict(Verdict::Return));
        self.put(part, &self.rule("no other IPv6 address").verdict(Verdict::Drop));
    }
}

/// Where a guest chooses its addresses itself, it does so of its link too (RFC 7217).
fn of_any_link(mut within: Vec<IpNet>) -> Vec<IpNet> {
    let link = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
    within.extend(Ipv6Net::new(link, 10).map(IpNet::V6));
    within
}

/// RFC 4291, appendix A: the MAC address in two halves, one bit of it inverted.
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
