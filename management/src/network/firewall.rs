//! Who reaches whom, and who may say to be whom: the rules of all active networks and of all guests' taps, which
//! the host has in one piece.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::{Broker, NetworkRules, PortRules, RuleSet};
use uuid::Uuid;
use xml::NetworkDef;
use xml::network::Subnet;

use super::plan;
use crate::error::{Code, Error};

pub(super) struct Firewall {
    broker: Arc<dyn Broker>,
    wanted: Mutex<Wanted>,
}

#[derive(Default)]
struct Wanted {
    networks: BTreeMap<Uuid, Active>,
    /// By the names of their taps.
    ports: BTreeMap<String, PortRules>,
}

struct Active {
    name: String,
    bridge: Option<String>,
    subnets: Vec<Subnet>,
    /// None until the network is made, and of a bridge that is not ours.
    rules: Option<NetworkRules>,
}

impl Firewall {
    /// `ports` are those of domains that run already.
    pub(super) fn new(broker: Arc<dyn Broker>, ports: Vec<PortRules>) -> Self {
        let ports = ports.into_iter().map(|port| (port.tap.clone(), port)).collect();
        Self { broker, wanted: Mutex::new(Wanted { networks: BTreeMap::new(), ports }) }
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may come through new taps; none: everything. In force when this returns.
    pub(super) fn guard(&self, ports: Vec<(String, Option<PortRules>)>) -> Result<(), Error> {
        let mut wanted = self.wanted();
        let before = wanted.ports.clone();
        // A tap is gone with its guest, and its name is another's then.
        wanted.ports.retain(|tap, _| std::path::Path::new("/sys/class/net").join(tap).exists());
        for (tap, rules) in ports {
            match rules {
                Some(rules) => drop(wanted.ports.insert(tap, rules)),
                None => drop(wanted.ports.remove(&tap)),
            }
        }
        if wanted.ports == before { Ok(()) } else { self.apply(&wanted) }
    }

    /// Take the bridge and the subnets of a network, which no other active one may have.
    pub(super) fn claim(&self, uuid: Uuid, def: &NetworkDef) -> Result<(), Error> {
        let subnets: Vec<Subnet> = def.subnets().collect();
        let bridge = def.bridge_name().map(str::to_owned);
        let mut wanted = self.wanted();
        for (_, other) in wanted.networks.iter().filter(|(other, _)| **other != uuid) {
            let meets = |subnet: &&Subnet| other.subnets.iter().any(|their| their.overlaps(subnet));
            if let Some(subnet) = subnets.iter().find(meets) {
                let text = format!(
                    "{subnet} is also in network {:?}, which is active; give one of them another \
                     <ip>, or stop the other (net-destroy {})",
                    other.name, other.name
                );
                return Err(Error::new(Code::Exists, text));
            }
            if !def.is_foreign_bridge() && bridge.is_some() && other.bridge == bridge {
                let bridge = bridge.unwrap_or_default();
                let text = format!("bridge {bridge:?} is that of network {:?}", other.name);
                return Err(Error::new(Code::Exists, text));
            }
        }
        let rules = wanted.networks.get(&uuid).and_then(|active| active.rules.clone());
        let name = def.name.to_string();
        wanted.networks.insert(uuid, Active { name, bridge, subnets, rules });
        Ok(())
    }

    /// Put a network's rules in force.
    pub(super) fn admit(&self, uuid: Uuid, def: &NetworkDef) -> Result<(), Error> {
        let mut wanted = self.wanted();
        if let Some(active) = wanted.networks.get_mut(&uuid) {
            active.rules = plan::rules(def);
        }
        self.apply(&wanted)
    }

    /// A network has stopped.
    pub(super) fn release(&self, uuid: Uuid) -> Result<(), Error> {
        let mut wanted = self.wanted();
        wanted.networks.remove(&uuid);
        self.apply(&wanted)
    }

    /// Of the networks that are active.
    pub(super) fn networks(&self) -> Vec<NetworkRules> {
        self.wanted().rules().networks
    }

    /// Put the rules in force again if they are not as they were made; whether that was needed.
    pub(super) fn repair(&self) -> Result<bool, Error> {
        // Nobody puts others in force between the question and what is done about the answer.
        let wanted = self.wanted();
        let rules = wanted.rules();
        // Who has nothing there leaves alone what is: it may be another daemon's.
        if rules == RuleSet::default() || self.broker.are_network_rules(rules)? {
            return Ok(false);
        }
        self.apply(&wanted)?;
        Ok(true)
    }

    fn apply(&self, wanted: &Wanted) -> Result<(), Error> {
        Ok(self.broker.network_rules(wanted.rules())?)
    }
}

impl Wanted {
    fn rules(&self) -> RuleSet {
        let networks = self.networks.values().filter_map(|active| active.rules.clone()).collect();
        RuleSet { networks, ports: self.ports.values().cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;

    use broker::{BrokerError, Granted, NetworkAct, Request};

    use super::*;

    /// A host whose rules are a note of them.
    #[derive(Default)]
    struct Noted(Mutex<RuleSet>);

    impl Broker for Noted {
        fn perform(&self, request: Request, _: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
            let mut noted = self.0.lock().unwrap();
            match request {
                Request::Network(NetworkAct::Rules(rules)) => *noted = rules,
                Request::Network(NetworkAct::LookRules(rules)) => {
                    return Ok(Granted::Intact(*noted == rules));
                }
                other => panic!("{other:?}"),
            }
            Ok(Granted::Done)
        }
    }

    fn port(tap: &str) -> PortRules {
        let checks = broker::Checks { mac: true, ..broker::Checks::default() };
        PortRules { tap: tap.to_owned(), mac: [2, 0, 0, 0, 0, 1], addresses: Vec::new(), checks }
    }

    #[test]
    fn rules_that_are_lost_are_put_back_and_those_of_nobody_here_are_left_alone() {
        let host = Arc::new(Noted::default());
        let firewall = Firewall::new(host.clone(), vec![port("vnet0")]);
        let def = "<network><name>n</name><uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid>\
                   <bridge name='b'/><ip address='10.0.0.1' prefix='24'/></network>";
        let def = NetworkDef::parse(def).unwrap().value;
        let uuid = def.uuid.unwrap();
        firewall.claim(uuid, &def).unwrap();
        firewall.admit(uuid, &def).unwrap();
        let made = host.0.lock().unwrap().clone();
        assert_eq!((made.networks.len(), made.ports.len()), (1, 1));
        assert!(!firewall.repair().unwrap(), "nothing was wrong");
        *host.0.lock().unwrap() = RuleSet::default();
        assert!(firewall.repair().unwrap());
        assert_eq!(*host.0.lock().unwrap(), made);

        let other = Firewall::new(host.clone(), Vec::new());
        assert!(!other.repair().unwrap());
        assert_eq!(*host.0.lock().unwrap(), made);
    }

    #[test]
    fn a_tap_has_the_rules_of_its_latest_guest() {
        let host = Arc::new(Noted::default());
        let firewall = Firewall::new(host.clone(), Vec::new());
        // A name that is there: others are forgotten.
        firewall.guard(vec![("lo".to_owned(), Some(port("lo")))]).unwrap();
        firewall.guard(vec![("vnet-gone".to_owned(), Some(port("vnet-gone")))]).unwrap();
        let taps = || -> Vec<String> {
            host.0.lock().unwrap().ports.iter().map(|port| port.tap.clone()).collect()
        };
        assert_eq!(taps(), ["lo", "vnet-gone"]);
        firewall.guard(vec![("lo".to_owned(), None)]).unwrap();
        assert!(taps().is_empty(), "{:?}", taps());
    }
}
