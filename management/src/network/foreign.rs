//! What other programs' rules drop of a network's packets: what Manor accepts, they drop all the
//! same, and guests have no way out or get no address. So it is told, with what to do.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::{Broker, ForeignChain, ForeignHook, Forwarding, NetworkRules};

pub(super) struct Foreign {
    broker: Arc<dyn Broker>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    chains: Vec<ForeignChain>,
    /// In the log already.
    told: BTreeSet<String>,
}

impl Foreign {
    pub(super) fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Look at the rules as they are now, and log what is new of them for these networks.
    pub(super) fn look(&self, networks: &[NetworkRules]) {
        if networks.is_empty() {
            // Nothing of anybody's concerns us.
            *self.seen() = Seen::default();
            return;
        }
        let chains = match self.broker.foreign_chains() {
            Ok(chains) => chains,
            Err(error) => {
                tracing::debug!(%error, "what other programs' rules drop is not known");
                return;
            }
        };
        let mut seen = self.seen();
        seen.chains = chains;
        let mut now = BTreeSet::new();
        for rules in networks {
            for warning in warnings(rules, &seen.chains) {
                if !seen.told.contains(&warning) {
                    tracing::warn!(network = rules.network, "{warning}");
                }
                now.insert(warning);
            }
        }
        seen.told = now;
    }

    pub(super) fn warnings(&self, rules: &NetworkRules) -> Vec<String> {
        warnings(rules, &self.seen().chains)
    }
}

fn warnings(rules: &NetworkRules, chains: &[ForeignChain]) -> Vec<String> {
    chains.iter().filter(|chain| stops(rules, chain)).map(|chain| describe(rules, chain)).collect()
}

/// Whether packets of this network come to the chain, and none of its rules knows the bridge.
fn stops(rules: &NetworkRules, chain: &ForeignChain) -> bool {
    let has = |is_ipv4| rules.subnets.iter().any(|net| net.addr().is_ipv4() == is_ipv4);
    let meets = match chain.family.as_str() {
        "ip" => has(true),
        "ip6" => has(false),
        "bridge" => chain.hook == ForeignHook::Forward,
        _ => !rules.subnets.is_empty(),
    };
    // Frames of guests come from taps, and their names change with each start.
    let known = chain.family != "bridge" && chain.knows_in.contains(&rules.bridge);
    let known_out = chain.family != "bridge" && chain.knows_out.contains(&rules.bridge);
    meets
        && match chain.hook {
            ForeignHook::Input => (rules.dhcp || rules.dns) && !known,
            ForeignHook::Forward if chain.family == "bridge" => true,
            ForeignHook::Forward => rules.mode != Forwarding::Isolated && !(known && known_out),
        }
}

fn describe(rules: &NetworkRules, chain: &ForeignChain) -> String {
    let ForeignChain { family, table, chain: name, priority, .. } = chain;
    let bridge = &rules.bridge;
    let (hook, lost) = match chain.hook {
        ForeignHook::Input => ("input", "guests may get no address and no names"),
        ForeignHook::Forward if family == "bridge" => {
            ("forward", "guests may not reach each other")
        }
        ForeignHook::Forward => ("forward", "guests may not reach others"),
    };
    let how = if chain.by_policy { "by its policy" } else { "by a rule for everything" };
    let advice = match chain.hook {
        _ if family == "bridge" => format!("accept there what is in bridge {bridge}"),
        ForeignHook::Forward if chain.has_docker => format!(
            "iptables -I DOCKER-USER -i {bridge} -j ACCEPT; iptables -I DOCKER-USER -o {bridge} -j ACCEPT"
        ),
        ForeignHook::Forward if chain.has_ufw => {
            format!("ufw route allow in on {bridge}; ufw route allow out on {bridge}")
        }
        ForeignHook::Input if chain.has_ufw => format!("ufw allow in on {bridge}"),
        _ if table == "firewalld" => format!(
            "firewall-cmd --permanent --zone=trusted --add-interface={bridge}; firewall-cmd --reload"
        ),
        ForeignHook::Input => {
            format!("nft insert rule {family} {table} {name} iifname {bridge} accept")
        }
        ForeignHook::Forward => format!(
            "nft insert rule {family} {table} {name} iifname {bridge} accept; \
             nft insert rule {family} {table} {name} oifname {bridge} accept"
        ),
    };
    format!(
        "table {family} {table}, chain {name} (hook {hook}, priority {priority}) drops {how} what it \
         does not know, and no rule there names bridge {bridge}: {lost}; let it through: {advice}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(mode: Forwarding) -> NetworkRules {
        NetworkRules {
            network: "n".to_owned(),
            bridge: "virbr7".to_owned(),
            subnets: vec!["192.168.7.0/24".parse().unwrap()],
            mode,
            out_interface: None,
            port_forwards: Vec::new(),
            dhcp: true,
            dns: true,
        }
    }

    fn chain(family: &str, hook: ForeignHook) -> ForeignChain {
        ForeignChain {
            family: family.to_owned(),
            table: "filter".to_owned(),
            chain: "FORWARD".to_owned(),
            hook,
            priority: 0,
            by_policy: true,
            by_rule: false,
            knows_in: BTreeSet::new(),
            knows_out: BTreeSet::new(),
            has_docker: true,
            has_ufw: false,
        }
    }

    #[test]
    fn a_chain_that_drops_is_told_of_where_packets_of_the_network_come_to_it() {
        let nat = network(Forwarding::Nat { ipv6: false, addresses: None, ports: None });
        let told = warnings(&nat, &[chain("ip", ForeignHook::Forward)]);
        assert_eq!(
            told,
            [
                "table ip filter, chain FORWARD (hook forward, priority 0) drops by its policy what it \
              does not know, and no rule there names bridge virbr7: guests may not reach others; let \
              it through: iptables -I DOCKER-USER -i virbr7 -j ACCEPT; iptables -I DOCKER-USER -o \
              virbr7 -j ACCEPT"
            ]
        );
        assert!(warnings(&nat, &[chain("ip6", ForeignHook::Forward)]).is_empty());
        let isolated = network(Forwarding::Isolated);
        assert!(warnings(&isolated, &[chain("ip", ForeignHook::Forward)]).is_empty());
        assert_eq!(warnings(&isolated, &[chain("inet", ForeignHook::Input)]).len(), 1);
        assert_eq!(warnings(&isolated, &[chain("bridge", ForeignHook::Forward)]).len(), 1);
    }

    #[test]
    fn a_bridge_that_is_let_through_both_ways_is_no_matter() {
        let open = network(Forwarding::Open);
        let mut known = chain("ip", ForeignHook::Forward);
        known.knows_in.insert("virbr7".to_owned());
        assert_eq!(warnings(&open, &[known.clone()]).len(), 1, "answers are dropped");
        known.knows_out.insert("virbr7".to_owned());
        assert!(warnings(&open, &[known]).is_empty());
    }
}
