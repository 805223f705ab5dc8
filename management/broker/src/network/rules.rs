//! The rules of all networks as one table of Manor's own, `inet manor`, and those of guests' ports as
//! another, `bridge manor`: both are replaced as a whole and at once.
//!
//! Chains accept what they do not name: Manor decides about packets of its networks alone. What
//! another table drops stays dropped, whatever is accepted here.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::netlink::{Netlink, raw_messages};
use super::nft::{self, Base, Batch, Chain, Family, Rule, SUBSYSTEM, Table, Verdict, hook};
use super::ports::holders;
use super::{AddressHolder, Forwarding, NetworkRules, PortForward, Protocol, RuleSet, ports};
use crate::BrokerError;

/// Of all our tables.
pub(super) const NAME: &str = "manor";
const TABLE: Table = Table { family: Family::Inet, name: NAME };

const fn chain(name: &'static str, kind: &'static str, hook: u32, priority: i32) -> Chain<'static> {
    Chain { table: TABLE, name, base: Some(Base { kind, hook, priority }) }
}

const PREROUTING: Chain<'_> = chain("prerouting", "nat", hook::PREROUTING, -100);
const OUTPUT: Chain<'_> = chain("output", "nat", hook::OUTPUT, -100);
// Two, as what one accepts is still asked of the other: a packet from one network to another needs
// the leave of both, whichever of them comes first.
const LEAVING: Chain<'_> = chain("leaving", "filter", hook::FORWARD, -1);
const ENTERING: Chain<'_> = chain("entering", "filter", hook::FORWARD, 0);
const POSTROUTING: Chain<'_> = chain("postrouting", "nat", hook::POSTROUTING, 100);

pub(super) fn apply(rules: &RuleSet) -> Result<(), BrokerError> {
    ports::check(&rules.ports)?;
    batch(rules).commit().map_err(|(what, source)| match ports::lacking(&rules.ports, &source) {
        Some((module, instead)) => {
            BrokerError::FilterPart { what, module: module.into(), instead: instead.into() }
        }
        None => BrokerError::Rules { what, source },
    })
}

/// Others hold addresses than before; in force are rules that ask who does.
pub(super) fn hold(before: &[AddressHolder], after: &[AddressHolder]) -> Result<(), BrokerError> {
    let mut batch = Batch::new();
    holders::change(&mut batch, before, after);
    batch.commit().map_err(|(what, source)| BrokerError::Rules { what, source })
}

/// Whether these rules are in force, and no others in our tables.
pub(super) fn look(rules: &RuleSet) -> Result<bool, BrokerError> {
    batch(rules).is_in_force().map_err(BrokerError::host("list the rules of networks"))
}

fn batch(rules: &RuleSet) -> Batch {
    let mut batch = Batch::new();
    batch.remove(TABLE);
    if !rules.networks.is_empty() {
        batch.add_table(TABLE);
        for chain in [PREROUTING, OUTPUT, LEAVING, ENTERING, POSTROUTING] {
            batch.add_chain(&chain);
        }
        for network in &rules.networks {
            add(&mut batch, network);
        }
    }
    ports::add(&mut batch, &rules.ports, &rules.holders);
    batch
}

fn add(batch: &mut Batch, network: &NetworkRules) {
    for forward in &network.port_forwards {
        add_port_forward(batch, network, forward);
    }
    add_filter(batch, network);
    if let Forwarding::Nat { ipv6, addresses, ports } = &network.mode {
        let nets = network.subnets.iter().filter(|net| *ipv6 || net.addr().is_ipv4());
        for net in nets {
            let addresses = addresses
                .filter(|_| net.addr().is_ipv4())
                .map(|(first, last)| (first.into(), last.into()));
            add_nat(batch, network, *net, addresses, *ports);
        }
    }
    if !network.port_forwards.is_empty() {
        // A guest that goes to another through the host's address must hear from the host again.
        for net in &network.subnets {
            let rule = Rule::new(format!("{}: guest to guest by a forward", network.network));
            let rule = rule.from(*net).to(*net).redirected();
            batch.add_rule(&POSTROUTING, &rule.masquerade(None));
        }
    }
}

fn host_net(address: IpAddr) -> IpNet {
    address.into()
}

fn add_port_forward(batch: &mut Batch, network: &NetworkRules, forward: &PortForward) {
    let (first, last) = forward.host_ports;
    let to = |ports: (u16, u16), port: Option<u16>, chain: &Chain<'_>| {
        let rule = Rule::new(format!("{}: forward to {}", network.network, forward.guest));
        let rule = match forward.host_address {
            Some(address) => rule.to(host_net(address)),
            // Of the guest's family, and the host's own.
            None => rule.of_family(forward.guest).for_this_host(),
        };
        let rule = if chain.is_at(hook::OUTPUT) && forward.host_address.is_none() {
            // Packets that have been on the loopback never leave it.
            rule.not_to(loopback(forward.guest))
        } else {
            rule
        };
        rule.protocol(forward.protocol).ports(ports).redirect(forward.guest, port)
    };
    for chain in [&PREROUTING, &OUTPUT] {
        if forward.guest_port == first {
            batch.add_rule(chain, &to((first, last), None, chain));
        } else {
            // The kernel has no way to say "as far from the first".
            for (port, guest) in (first..=last).zip(forward.guest_port..=u16::MAX) {
                batch.add_rule(chain, &to((port, port), Some(guest), chain));
            }
        }
    }
}

fn loopback(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => {
            Ipv4Net::new([127, 0, 0, 0].into(), 8).map_or(host_net(address), IpNet::V4)
        }
        IpAddr::V6(_) => host_net(std::net::Ipv6Addr::LOCALHOST.into()),
    }
}

fn add_filter(batch: &mut Batch, network: &NetworkRules) {
    let (name, bridge) = (&network.network, network.bridge.as_str());
    let rule = |what: &str| Rule::new(format!("{name}: {what}"));
    let mut add = |chain: &Chain<'_>, rule: Rule| batch.add_rule(chain, &rule);
    if !network.port_forwards.is_empty() {
        add(
            &ENTERING,
            rule("forwarded ports").out_by(bridge).redirected().verdict(Verdict::Accept),
        );
        let answers = rule("answers of forwarded ports").into_host_by(bridge).redirected();
        add(&LEAVING, answers.verdict(Verdict::Accept));
    }
    let outside = |rule: Rule, out: bool| match (&network.out_interface, out) {
        (None, _) => rule,
        (Some(interface), true) => rule.out_by(interface),
        (Some(interface), false) => rule.into_host_by(interface),
    };
    for net in &network.subnets {
        match &network.mode {
            Forwarding::Open => return,
            Forwarding::Isolated => {}
            Forwarding::Nat { ipv6, .. } if net.addr().is_ipv6() && !ipv6 => {
                add(
                    &ENTERING,
                    outside(rule("in").out_by(bridge).to(*net), false).verdict(Verdict::Accept),
                );
                add(
                    &LEAVING,
                    outside(rule("out").into_host_by(bridge).from(*net), true)
                        .verdict(Verdict::Accept),
                );
            }
            Forwarding::Nat { .. } => {
                let known = outside(rule("answers").out_by(bridge).to(*net), false).known();
                add(&ENTERING, known.verdict(Verdict::Accept));
                add(
                    &LEAVING,
                    outside(rule("out").into_host_by(bridge).from(*net), true)
                        .verdict(Verdict::Accept),
                );
            }
            Forwarding::Routed => {
                add(
                    &ENTERING,
                    outside(rule("in").out_by(bridge).to(*net), false).verdict(Verdict::Accept),
                );
                add(
                    &LEAVING,
                    outside(rule("out").into_host_by(bridge).from(*net), true)
                        .verdict(Verdict::Accept),
                );
            }
        }
    }
    if network.mode == Forwarding::Open {
        return;
    }
    for chain in [&LEAVING, &ENTERING] {
        let among = rule("guest to guest").into_host_by(bridge).out_by(bridge);
        add(chain, among.verdict(Verdict::Accept));
    }
    add(&ENTERING, rule("nothing else in").out_by(bridge).reject());
    add(&LEAVING, rule("nothing else out").into_host_by(bridge).reject());
}

fn add_nat(
    batch: &mut Batch,
    network: &NetworkRules,
    net: IpNet,
    addresses: Option<(IpAddr, IpAddr)>,
    ports: Option<(u16, u16)>,
) {
    let rule = |what: &str| Rule::new(format!("{}: {what}", network.network));
    let mut add = |rule: Rule| batch.add_rule(&POSTROUTING, &rule);
    if let IpNet::V4(_) = net {
        for (to, length) in [([224, 0, 0, 0], 24), ([255, 255, 255, 255], 32)] {
            if let Ok(to) = Ipv4Net::new(to.into(), length) {
                let own = rule("not to groups").from(net).to(IpNet::V4(to));
                add(own.verdict(Verdict::Return));
            }
        }
    }
    let leaving = |what: &str| {
        let rule = rule(what).from(net).not_to(net);
        match &network.out_interface {
            Some(interface) => rule.out_by(interface),
            None => rule,
        }
    };
    let appear = |rule: Rule, ports| match addresses {
        Some(range) => rule.source_nat(range, ports),
        None => rule.masquerade(ports),
    };
    if ports.is_some() {
        add(appear(leaving("as the host, TCP").protocol(Protocol::Tcp), ports));
        add(appear(leaving("as the host, UDP").protocol(Protocol::Udp), ports));
    }
    add(appear(leaving("as the host"), None));
}

/// Tells when one of the tables is changed, by whomever.
#[derive(Debug)]
pub struct RulesWatch {
    netlink: Netlink,
}

/// NFNLGRP_NFTABLES, as a bit.
const CHANGES: u32 = 1 << 6;

/// What a [`RulesWatch`] listens to.
pub(super) fn watch() -> io::Result<OwnedFd> {
    Netlink::netfilter(CHANGES).map(Netlink::into_socket)
}

impl From<OwnedFd> for RulesWatch {
    fn from(socket: OwnedFd) -> Self {
        Self { netlink: Netlink::of(socket) }
    }
}

impl RulesWatch {
    /// Wait for changes, and then until none has come for `settled`: a reload of a firewall is many.
    /// Whether some were of our tables.
    pub fn changed(&self, settled: Duration) -> io::Result<bool> {
        let mut own = loop {
            match self.netlink.receive() {
                Ok(datagram) if is_rules(&datagram) => break concerns(&datagram),
                Ok(_) => {}
                Err(error) => break is_lost(error)?,
            }
        };
        std::thread::sleep(settled);
        // What has come meanwhile is the same change.
        for _ in 0..MOST {
            match self.netlink.receive_now() {
                Ok(Some(datagram)) => own |= concerns(&datagram),
                Ok(None) => break,
                Err(error) => own |= is_lost(error)?,
            }
        }
        Ok(own)
    }
}

/// Messages that are taken for one change.
const MOST: usize = 100_000;

/// More happened than there is room for, and some may have been ours; or nothing happened.
fn is_lost(error: io::Error) -> io::Result<bool> {
    match error.raw_os_error() {
        Some(libc::ENOBUFS) => Ok(true),
        Some(libc::EINTR) => Ok(false),
        _ => Err(error),
    }
}

fn is_rules(datagram: &[u8]) -> bool {
    raw_messages(datagram).any(|message| message.kind >> 8 == SUBSYSTEM)
}

/// Whether there is anything about our tables in it.
fn concerns(datagram: &[u8]) -> bool {
    raw_messages(datagram).any(|message| {
        let attributes = message.payload.get(4..).unwrap_or_default();
        message.kind >> 8 == SUBSYSTEM && nft::table_of(attributes) == Some(NAME.as_bytes())
    })
}
