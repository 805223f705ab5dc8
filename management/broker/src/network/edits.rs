//! What another program does to the rules, and that it is seen: each change is made by nft(8).

use manor_tests::tree::Program;

use super::tests::{Lab, forward, rules as network, within};
use super::{AddressHolder, Checks, Forwarding, NetworkRules, PortRules, RuleSet, rules};

const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const OTHER: [u8; 6] = [0x52, 0x54, 0, 3, 2, 1];
const CLEAN: Checks = Checks { mac: true, arp: true, ip: true, dhcp_server: true, router: true };

fn port() -> PortRules {
    let addresses = vec!["192.168.77.10".parse().unwrap(), "fd00:77::10".parse().unwrap()];
    PortRules {
        tap: "tap1".to_owned(),
        mac: MAC,
        addresses,
        within: Vec::new(),
        checks: CLEAN,
        filter: None,
    }
}

fn holders() -> Vec<AddressHolder> {
    let [v4, v6] = ["192.168.77.20", "fd00:77::20"].map(|address| address.parse().unwrap());
    vec![AddressHolder { address: v4, mac: MAC }, AddressHolder { address: v6, mac: OTHER }]
}

fn wanted() -> RuleSet {
    RuleSet {
        networks: vec![network(Forwarding::Isolated)],
        ports: vec![port()],
        holders: holders(),
    }
}

struct Nft(Program);

impl Nft {
    /// Outside every namespace of the tests: it may have to be fetched.
    fn find() -> Self {
        Self(manor_tests::tools::nft().unwrap())
    }

    fn run(&self, arguments: &str) -> String {
        let output = self.0.command().args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "nft {arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Puts `to` in the place of `from` in the first rule of `chain` with this comment, which it keeps.
    fn edit(&self, chain: &str, comment: &str, from: &str, to: &str) {
        let listed = self.run(&format!("-a list chain {chain}"));
        let comment = format!(" comment \"{comment}\"");
        let line = listed.lines().find(|line| line.contains(&comment));
        let line = line.unwrap_or_else(|| panic!("no{comment} in {listed}"));
        let (rule, rest) = line.trim().split_once(&comment).unwrap();
        let handle = rest.rsplit(' ').next().unwrap();
        let changed = rule.replacen(from, to, 1);
        assert_ne!(rule, changed, "{comment}");
        self.run(&format!("replace rule {chain} handle {handle} {changed}{comment}"));
    }
}

/// Every shape of network that there is.
fn all_shapes() -> RuleSet {
    let named = |name: &str, mode| NetworkRules { network: name.to_owned(), ..network(mode) };
    let nat = |ipv6, addresses, ports| Forwarding::Nat { ipv6, addresses, ports };
    let addresses = Some(("203.0.113.7".parse().unwrap(), "203.0.113.9".parse().unwrap()));
    let out = Some("eth7".to_owned());
    let mut forwarding = named("forwards", nat(true, None, Some((1024, 65535))));
    forwarding.port_forwards = vec![
        forward((80, 80), 8080),
        forward((443, 443), 443),
        forward((6000, 6010), 6000),
        forward((7000, 7002), 17000),
    ];
    let networks = vec![
        named("isolated", Forwarding::Isolated),
        named("open", Forwarding::Open),
        NetworkRules { out_interface: out.clone(), ..named("routed", Forwarding::Routed) },
        named("nat", nat(false, None, None)),
        named("addresses", nat(false, addresses, None)),
        NetworkRules {
            out_interface: out,
            ..named("both", nat(true, addresses, Some((2000, 3000))))
        },
        forwarding,
    ];
    let checks = Checks { ip: false, ..CLEAN };
    let within = vec!["192.168.77.0/24".parse().unwrap(), "fd00:77::/64".parse().unwrap()];
    let tap = "tap2".to_owned();
    let leased = PortRules { tap: "tap3".to_owned(), within, addresses: Vec::new(), ..port() };
    let other = PortRules {
        tap,
        mac: OTHER,
        addresses: Vec::new(),
        within: Vec::new(),
        checks,
        filter: None,
    };
    RuleSet { networks, ports: vec![port(), other, leased], holders: holders() }
}

#[test]
fn rules_of_every_shape_are_found_as_they_were_made() {
    let Some(lab) = Lab::new() else { return };
    let wanted = all_shapes();
    within(&lab.host, || {
        rules::apply(&wanted).unwrap();
        assert!(rules::look(&wanted).unwrap());
        for changed in [
            |rules: &mut RuleSet| rules.networks.swap(0, 2),
            |rules: &mut RuleSet| rules.networks[2].out_interface = None,
            |rules: &mut RuleSet| rules.networks[6].port_forwards[0].guest_port += 1,
            |rules: &mut RuleSet| rules.networks[6].port_forwards[2].host_ports.1 += 1,
            |rules: &mut RuleSet| rules.networks[4].subnets[0] = "10.0.0.0/24".parse().unwrap(),
            |rules: &mut RuleSet| rules.ports[0].addresses[0] = [10, 0, 0, 1].into(),
            |rules: &mut RuleSet| rules.ports[0].mac = OTHER,
            |rules: &mut RuleSet| drop(rules.ports.pop()),
            |rules: &mut RuleSet| rules.ports[2].within[0] = "10.0.0.0/24".parse().unwrap(),
            |rules: &mut RuleSet| rules.holders[0].mac = OTHER,
            |rules: &mut RuleSet| rules.holders.truncate(1),
            |rules: &mut RuleSet| rules.networks.clear(),
        ] {
            let mut other = wanted.clone();
            changed(&mut other);
            assert!(!rules::look(&other).unwrap(), "{other:?}");
        }
        let mut other = wanted.clone();
        other.ports[0].tap = "a-name-of-many-bytes".to_owned();
        assert!(rules::apply(&other).is_err(), "it would be cut to another's");
    });
}

#[test]
fn a_change_by_another_in_either_table_is_seen() {
    let Some(lab) = Lab::new() else { return };
    let nft = Nft::find();
    let wanted = wanted();
    within(&lab.host, || {
        for change in [
            "add rule bridge manor prerouting accept",
            "flush chain bridge manor port-tap1",
            "delete table bridge manor",
            "add element bridge manor taken4 { 192.168.77.30 }",
            "delete element bridge manor holders4 { 192.168.77.20 . 52:54:00:01:02:03 }",
            "flush set bridge manor taken6",
            "add set bridge manor more { type ipv4_addr ; }",
            "add rule inet manor entering accept",
            "add chain inet manor another",
            "chain inet manor entering { policy drop; }",
            "add table inet manor { flags dormant; }",
            "delete table inet manor",
        ] {
            rules::apply(&wanted).unwrap();
            assert!(rules::look(&wanted).unwrap());
            nft.run(change);
            assert!(!rules::look(&wanted).unwrap(), "{change}");
        }
        rules::apply(&RuleSet::default()).unwrap();
        assert!(rules::look(&RuleSet::default()).unwrap());
        assert_eq!(nft.run("list tables"), "");
        nft.run("add table bridge other");
        nft.run("add table inet other");
        rules::apply(&wanted).unwrap();
        assert!(rules::look(&wanted).unwrap(), "what others have is theirs");
    });
}

#[test]
fn a_rule_that_says_something_else_under_its_comment_is_seen() {
    let Some(lab) = Lab::new() else { return };
    let nft = Nft::find();
    let wanted = all_shapes();
    within(&lab.host, || {
        let edit = |chain: &str, comment: &str, from: &str, to: &str| {
            rules::apply(&wanted).unwrap();
            assert!(rules::look(&wanted).unwrap());
            nft.edit(chain, comment, from, to);
            assert!(!rules::look(&wanted).unwrap(), "{comment}: {from} is {to}");
        };
        let counter = "counter packets 0 bytes 0";
        edit("inet manor entering", "isolated: guest to guest", "accept", "drop");
        edit("inet manor entering", "isolated: guest to guest", "virbr7", "virbr8");
        edit("inet manor entering", "isolated: nothing else in", "reject", "accept");
        edit("inet manor entering", "routed: in", "daddr", "saddr");
        edit("inet manor leaving", "routed: out", "192.168.77.0/24", "192.168.76.0/23");
        edit("inet manor leaving", "routed: out", counter, "limit rate 1/second counter");
        edit("inet manor entering", "nat: answers", "established,related", "established");
        edit("inet manor postrouting", "nat: as the host", "masquerade", "masquerade random");
        edit("inet manor postrouting", "nat: as the host", "!= 192", "== 192");
        edit("inet manor postrouting", "addresses: as the host", "203.0.113.9", "203.0.113.8");
        edit("inet manor prerouting", "forwards: forward to 192.168.77.10", ":8080", ":8081");
        edit("bridge manor port-tap1", "tap1: no other MAC than 52:54:00:01:02:03", "!=", "==");
        edit("bridge manor port-tap3/ipv4", "tap3: no address of another guest", "drop", "accept");
    });
}
