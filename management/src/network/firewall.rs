//! Who reaches whom, and who may say to be whom: the rules of all active networks and of all guests' taps, which
//! the host has in one piece.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::{
    AddressHolder, Broker, FilterRule, FilterSide, FilterStep, FilterVerdict, Floor, NetworkRules,
    PortFilter, PortRules, RuleSet, Traffic,
};
use ipnet::IpNet;
use uuid::Uuid;
use xml::network::Subnet;
use xml::{MacAddress, NetworkDef};

use super::plan;
use crate::error::{Code, Error};
use crate::filters::{self, Filters, Instance, Library};
use crate::translate::bandwidth;
use crate::translate::ports::Port;

pub(super) struct Firewall {
    broker: Arc<dyn Broker>,
    filters: Arc<Filters>,
    wanted: Mutex<Wanted>,
}

#[derive(Default)]
struct Wanted {
    networks: BTreeMap<Uuid, Active>,
    /// By the names of their taps.
    ports: BTreeMap<String, Port>,
}

/// By their addresses, the MAC addresses of guests.
pub(super) type Holders = BTreeMap<IpAddr, [u8; 6]>;

struct Active {
    name: String,
    bridge: Option<String>,
    subnets: Vec<Subnet>,
    /// None until the network is made, and of a bridge that is not ours.
    rules: Option<NetworkRules>,
    /// Where its guests' addresses may be.
    within: Vec<IpNet>,
    reserved: Holders,
    leased: Holders,
    /// How much all its guests exchange with others.
    traffic: Traffic,
}

impl Active {
    fn claimed(def: &NetworkDef) -> Self {
        Self {
            name: def.name.to_string(),
            bridge: def.bridge_name().map(str::to_owned),
            subnets: def.subnets().collect(),
            rules: None,
            within: plan::within(def),
            reserved: plan::reserved(def),
            leased: Holders::new(),
            traffic: bandwidth::of_network(def),
        }
    }

    /// Who has a lease has the address, though it may be kept for another by now.
    fn holders(&self) -> Holders {
        let mut holders = self.reserved.clone();
        holders.extend(&self.leased);
        holders
    }
}

impl Firewall {
    /// `ports` are those of domains that run already, and `active` the networks that they are in.
    pub(super) fn new(
        broker: Arc<dyn Broker>,
        filters: Arc<Filters>,
        ports: Vec<Port>,
        active: &HashMap<Uuid, NetworkDef>,
    ) -> Self {
        let library = filters.library();
        let found = |mut port: Port| {
            if let Err(error) = fill(&mut port, &library) {
                let (tap, error) = (&port.rules.tap, error.chain());
                tracing::error!(tap, error, "nothing comes through until its filter can be had");
                port.rules.filter = Some(nothing());
            }
            (port.rules.tap.clone(), port)
        };
        let ports = ports.into_iter().map(found).collect();
        // All that is in force is wanted from the beginning: the first network that is taken up again
        // would have the rules of the others removed.
        let network = |(uuid, def): (&Uuid, &NetworkDef)| {
            (*uuid, Active { rules: plan::rules(def), ..Active::claimed(def) })
        };
        let networks = active.iter().map(network).collect();
        Self { broker, filters, wanted: Mutex::new(Wanted { networks, ports }) }
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may come through new taps; none: everything. In force when this returns.
    pub(super) fn guard(&self, mut ports: Vec<(String, Option<Port>)>) -> Result<(), Error> {
        let mut wanted = self.wanted();
        // While this is held nobody changes what filters are.
        let library = self.filters.library();
        for (_, port) in &mut ports {
            port.as_mut().map_or(Ok(()), |port| fill(port, &library))?;
        }
        let before = wanted.ports.clone();
        // A tap is gone with its guest, and its name is another's then.
        wanted.ports.retain(|tap, _| is_there(tap));
        for (tap, port) in ports {
            match port {
                Some(port) => drop(wanted.ports.insert(tap, port)),
                None => drop(wanted.ports.remove(&tap)),
            }
        }
        if wanted.ports == before {
            return Ok(());
        }
        if let Err(error) = wanted.check_floors(&before) {
            wanted.ports = before;
            return Err(error);
        }
        if let Err(error) = self.apply(&wanted) {
            // What the kernel does not take would be in the way of everybody's rules from now on.
            wanted.ports = before;
            return Err(error);
        }
        for active in wanted.networks.values() {
            if floors(&wanted.ports, &active.name) != floors(&before, &active.name) {
                self.share(active, &wanted.ports)?;
            }
        }
        Ok(())
    }

    /// Put filters as they are in `library` in force at all taps that have them, then `keep` them; if
    /// either fails, all is as it was.
    pub(super) fn refilter(
        &self,
        library: &Library,
        keep: &mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut wanted = self.wanted();
        let before = wanted.ports.clone();
        let mut ports = before.clone();
        ports.retain(|tap, _| is_there(tap));
        for (tap, port) in &mut ports {
            match fill(port, library) {
                // It had none that is known before, and waits for it.
                Err(_) if port.rules.filter == Some(nothing()) => {}
                Err(error) => {
                    let text = format!("interface {tap:?} has it: {}", error.message);
                    return Err(Error::new(error.code, text));
                }
                Ok(()) => {}
            }
        }
        if ports == before {
            return keep();
        }
        wanted.ports = ports;
        let done = self.apply(&wanted);
        let is_in_force = done.is_ok();
        let Err(error) = done.and_then(|()| keep()) else { return Ok(()) };
        wanted.ports = before;
        if is_in_force && let Err(error) = self.apply(&wanted) {
            tracing::error!(error = %error.chain(), "filters are in force that are not kept");
        }
        Err(error)
    }

    /// Have a network's bridge pass as much as it should, also if that is everything: it may have had a
    /// limit when its daemon died.
    pub(super) fn shape(&self, uuid: Uuid) -> Result<(), Error> {
        let wanted = self.wanted();
        match wanted.networks.get(&uuid) {
            Some(active) => self.share(active, &wanted.ports),
            None => Ok(()),
        }
    }

    fn share(&self, active: &Active, ports: &BTreeMap<String, Port>) -> Result<(), Error> {
        let bridge = active.bridge.as_deref().unwrap_or_default();
        Ok(self.broker.share(bridge, active.traffic, floors(ports, &active.name))?)
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
        let mut active = Active::claimed(def);
        if let Some(before) = wanted.networks.remove(&uuid) {
            (active.rules, active.leased) = (before.rules, before.leased);
        }
        wanted.networks.insert(uuid, active);
        Ok(())
    }

    /// Put a network's rules in force.
    pub(super) fn admit(&self, uuid: Uuid, def: &NetworkDef) -> Result<(), Error> {
        let mut wanted = self.wanted();
        if let Some(active) = wanted.networks.get_mut(&uuid) {
            active.rules = plan::rules(def);
            (active.within, active.reserved) = (plan::within(def), plan::reserved(def));
            active.traffic = bandwidth::of_network(def);
        }
        self.apply(&wanted)
    }

    /// Guests have these addresses of a network from now on.
    pub(super) fn hold(&self, uuid: Uuid, leased: Holders) -> Result<(), Error> {
        let mut wanted = self.wanted();
        let Some(active) = wanted.networks.get_mut(&uuid) else { return Ok(()) };
        let before = active.holders();
        active.leased = leased;
        let after = active.holders();
        let (gone, come) = (without(&before, &after), without(&after, &before));
        if wanted.ports.is_empty() || gone.is_empty() && come.is_empty() {
            // Nobody is asked who it is.
            return Ok(());
        }
        match self.broker.network_holders(gone, come) {
            Ok(()) => Ok(()),
            // Somebody else was there, or rules of an older daemon are in force.
            Err(_) => self.apply(&wanted),
        }
    }

    /// The networks that are active, with their names.
    pub(super) fn active(&self) -> Vec<(Uuid, String)> {
        let wanted = self.wanted();
        wanted.networks.iter().map(|(uuid, active)| (*uuid, active.name.clone())).collect()
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
        let ports: Vec<_> = self.ports.values().map(|port| self.port(port)).collect();
        // Subnets are apart, and what is of a link is made of the bridge's MAC address.
        let mut holders = Holders::new();
        if !ports.is_empty() {
            self.networks.values().for_each(|active| holders.extend(active.holders()));
        }
        RuleSet { networks, ports, holders: list(holders) }
    }

    /// Whether the networks can keep what is promised now and was not before.
    fn check_floors(&self, before: &BTreeMap<String, Port>) -> Result<(), Error> {
        let new = self.ports.iter().filter(|(tap, port)| {
            port.floor.is_some() && before.get(*tap).and_then(|port| port.floor) != port.floor
        });
        for (_, port) in new {
            let name = port.network.as_deref().unwrap_or_default();
            let active = self.networks.values().find(|active| active.name == name);
            let whole = active.and_then(|active| active.traffic.inbound).map(|rate| rate.average);
            let given = floors(&self.ports, name);
            let given = given.iter().fold(0, |sum: u64, floor| sum.saturating_add(floor.rate));
            let text = match whole {
                Some(whole) if given <= whole => continue,
                Some(whole) => format!(
                    "network {name:?} would promise its guests {} kB/s (<inbound floor=…>), and passes {} \
                     kB/s on average; raise its <bandwidth>, or lower a floor",
                    given / 1000,
                    whole / 1000
                ),
                None if name.is_empty() => {
                    "a floor (<inbound floor=…>) is a part of the rate of a \
                     network that Manor makes; remove it, or choose such a network"
                        .to_owned()
                }
                None => format!(
                    "network {name:?} has no rate of which to promise a part (<inbound floor=…>): give it \
                     <bandwidth><inbound average=…/></bandwidth>, or remove the floor"
                ),
            };
            return Err(Error::new(Code::InvalidArgument, text));
        }
        Ok(())
    }

    fn port(&self, port: &Port) -> PortRules {
        let of_port = |active: &&Active| port.network.as_ref() == Some(&active.name);
        let within = self.networks.values().find(of_port).map(|active| active.within.clone());
        PortRules { within: within.unwrap_or_default(), ..port.rules.clone() }
    }
}

fn is_there(tap: &str) -> bool {
    std::path::Path::new("/sys/class/net").join(tap).exists()
}

/// The rules of a port's filter, by what filters are.
fn fill(port: &mut Port, library: &Library) -> Result<(), Error> {
    let Some(filter) = &port.filter else { return Ok(()) };
    let Instance { checks, addresses, filter } =
        filters::instance(library, filter, MacAddress(port.rules.mac))?;
    (port.rules.checks, port.rules.addresses) = (checks, addresses);
    port.rules.filter = Some(filter);
    Ok(())
}

/// Of a guest that runs, and whose filter nobody knows any more.
fn nothing() -> PortFilter {
    let drop = FilterRule {
        label: "no filter is known".to_owned(),
        matching: Vec::new(),
        states: 0,
        verdict: FilterVerdict::Drop,
    };
    let side = FilterSide { frames: vec![FilterStep::Rule(drop)], packets: Vec::new() };
    PortFilter { sent: side.clone(), received: side }
}

/// What guests of a network are promised.
fn floors(ports: &BTreeMap<String, Port>, network: &str) -> Vec<Floor> {
    let here = |port: &&Port| port.network.as_deref() == Some(network);
    let floor = |port: &Port| Some(Floor { mac: port.rules.mac, rate: port.floor? });
    ports.values().filter(here).filter_map(floor).collect()
}

fn list(holders: Holders) -> Vec<AddressHolder> {
    holders.into_iter().map(|(address, mac)| AddressHolder { address, mac }).collect()
}

fn without(these: &Holders, those: &Holders) -> Vec<AddressHolder> {
    let differs = |(address, mac): &(&IpAddr, &[u8; 6])| those.get(*address) != Some(*mac);
    list(these.iter().filter(differs).map(|(address, mac)| (*address, *mac)).collect())
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;

    use broker::{BrokerError, Granted, NetworkAct, Request};

    use super::*;

    /// A host whose rules are a note of them, how often all of them were made, and what was promised.
    #[derive(Default)]
    struct Noted(Mutex<RuleSet>, std::sync::atomic::AtomicU32, Mutex<Vec<String>>);

    impl Broker for Noted {
        fn perform(&self, request: Request, _: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
            let mut noted = self.0.lock().unwrap();
            match request {
                Request::Network(NetworkAct::Rules(rules)) => {
                    self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    *noted = rules;
                }
                Request::Network(NetworkAct::Holders { before, after }) => {
                    if !before.iter().all(|holder| noted.holders.contains(holder)) {
                        let source = std::io::ErrorKind::NotFound.into();
                        return Err(BrokerError::Rules { what: "elements".to_owned(), source });
                    }
                    noted.holders.retain(|holder| !before.contains(holder));
                    noted.holders.extend(after);
                    noted.holders.sort();
                }
                Request::Network(NetworkAct::Shape { interface, floors, .. }) => {
                    let floors: Vec<_> = floors.iter().map(|floor| floor.rate).collect();
                    self.2.lock().unwrap().push(format!("{interface} {floors:?}"));
                }
                Request::Network(NetworkAct::LookRules(rules)) => {
                    return Ok(Granted::Intact(*noted == rules));
                }
                other => panic!("{other:?}"),
            }
            Ok(Granted::Done)
        }
    }

    /// None of anybody's own.
    fn filters() -> Arc<Filters> {
        let dir = tempfile::tempdir().unwrap();
        Arc::new(Filters::open(Arc::new(crate::store::Disk), dir.path()).0)
    }

    fn port(tap: &str) -> Port {
        let checks = broker::Checks { mac: true, ..broker::Checks::default() };
        let rules = PortRules {
            tap: tap.to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: Vec::new(),
            within: Vec::new(),
            checks,
            filter: None,
        };
        Port { rules, network: Some("n".to_owned()), filter: None, floor: None }
    }

    fn network(rest: &str) -> (Uuid, NetworkDef) {
        let def = format!(
            "<network><name>n</name><uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid>\
             <bridge name='b'/><mac address='52:54:00:00:00:01'/>{rest}</network>"
        );
        let def = NetworkDef::parse(&def).unwrap().value;
        (def.uuid.unwrap(), def)
    }

    #[test]
    fn rules_that_are_lost_are_put_back_and_those_of_nobody_here_are_left_alone() {
        let host = Arc::new(Noted::default());
        let firewall = Firewall::new(host.clone(), filters(), vec![port("vnet0")], &HashMap::new());
        let (uuid, def) = network("<ip address='10.0.0.1' prefix='24'/>");
        firewall.claim(uuid, &def).unwrap();
        firewall.admit(uuid, &def).unwrap();
        let made = host.0.lock().unwrap().clone();
        assert_eq!((made.networks.len(), made.ports.len()), (1, 1));
        assert!(!firewall.repair().unwrap(), "nothing was wrong");
        *host.0.lock().unwrap() = RuleSet::default();
        assert!(firewall.repair().unwrap());
        assert_eq!(*host.0.lock().unwrap(), made);

        let other = Firewall::new(host.clone(), filters(), Vec::new(), &HashMap::new());
        assert!(!other.repair().unwrap());
        assert_eq!(*host.0.lock().unwrap(), made);
    }

    #[test]
    fn a_tap_has_the_rules_of_its_latest_guest() {
        let host = Arc::new(Noted::default());
        let firewall = Firewall::new(host.clone(), filters(), Vec::new(), &HashMap::new());
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

    #[test]
    fn a_network_promises_no_more_than_it_has() {
        let host = Arc::new(Noted::default());
        let firewall = Firewall::new(host.clone(), filters(), Vec::new(), &HashMap::new());
        let (uuid, def) = network(
            "<bandwidth><inbound average='100'/></bandwidth><ip address='10.0.0.1' prefix='24'/>",
        );
        let promised = |floor| Some(Port { floor: Some(floor), ..port("lo") });
        let start = |floor| firewall.guard(vec![("lo".to_owned(), promised(floor))]);
        let alone = start(1000).unwrap_err().chain();
        assert!(alone.contains("network \"n\" has no rate of which to promise a part"), "{alone}");
        firewall.claim(uuid, &def).unwrap();
        firewall.admit(uuid, &def).unwrap();
        let much = start(100_001).unwrap_err().chain();
        assert!(much.contains("100 kB/s (<inbound floor=…>), and passes 100 kB/s"), "{much}");
        assert!(host.2.lock().unwrap().is_empty() && host.0.lock().unwrap().ports.is_empty());
        start(60_000).unwrap();
        start(60_000).unwrap();
        // One that moves to another network, or goes, gives it back.
        firewall.guard(vec![("lo".to_owned(), None)]).unwrap();
        assert_eq!(*host.2.lock().unwrap(), ["b [60000]", "b []"]);
    }

    const LEASING: &str = "<ip address='10.0.0.1' prefix='24'><dhcp>\
         <range start='10.0.0.10' end='10.0.0.99'/><host mac='52:54:00:00:00:05' ip='10.0.0.5'/>\
         <host name='x' id='01:02' ip='10.0.0.6'/></dhcp></ip><ip address='10.0.1.1' prefix='24'/>\
         <ip family='ipv6' address='fd00:7::1' prefix='64'/>\
         <route address='10.9.0.0' prefix='16' gateway='10.0.0.5'/>";

    #[test]
    fn guests_may_have_addresses_of_their_network_where_it_gives_them() {
        let host = Arc::new(Noted::default());
        let (uuid, def) = network(LEASING);
        // As a daemon begins that finds both: nothing that is in force goes in between.
        let active = HashMap::from([(uuid, def.clone())]);
        let firewall = Firewall::new(host.clone(), filters(), vec![port("vnet0")], &active);
        assert_eq!(firewall.networks().len(), 1);
        firewall.claim(uuid, &def).unwrap();
        firewall.admit(uuid, &def).unwrap();
        let made = host.0.lock().unwrap().clone();
        let within: Vec<_> = made.ports[0].within.iter().map(ToString::to_string).collect();
        assert_eq!(within, ["10.0.0.0/24", "10.0.1.0/24", "fd00:7::/64", "10.9.0.0/16"]);
        let held: Vec<_> =
            made.holders.iter().map(|it| (it.address.to_string(), it.mac[5])).collect();
        let held: Vec<_> = held.iter().map(|(address, mac)| (address.as_str(), *mac)).collect();
        let link = ("fe80::5054:ff:fe00:1", 1);
        let own = [("10.0.0.1", 1), ("10.0.0.5", 5), ("10.0.1.1", 1), ("fd00:7::1", 1), link];
        assert_eq!(held, own, "who is known by another thing than a MAC address holds nothing");
        // Where nobody gives addresses, everybody has their own.
        let (_, def) = network("<ip address='10.0.0.1' prefix='24'/>");
        firewall.admit(uuid, &def).unwrap();
        assert!(host.0.lock().unwrap().ports[0].within.is_empty());
        firewall.release(uuid).unwrap();
        assert!(host.0.lock().unwrap().holders.is_empty());
    }

    #[test]
    fn a_lease_changes_who_holds_what_and_makes_no_rules_anew() {
        let host = Arc::new(Noted::default());
        let (uuid, def) = network(LEASING);
        let firewall = Firewall::new(host.clone(), filters(), vec![port("vnet0")], &HashMap::new());
        firewall.claim(uuid, &def).unwrap();
        firewall.admit(uuid, &def).unwrap();
        let made = || host.1.load(std::sync::atomic::Ordering::Relaxed);
        let of = |address: &str| {
            let address: IpAddr = address.parse().unwrap();
            let held = host.0.lock().unwrap().holders.clone();
            held.iter().find(|holder| holder.address == address).map(|holder| holder.mac[5])
        };
        let lease = |last: u8, mac: u8| (IpAddr::from([10, 0, 0, last]), [2, 0, 0, 0, 0, mac]);
        let before = made();
        firewall.hold(uuid, Holders::from([lease(20, 7), lease(5, 8)])).unwrap();
        assert_eq!((of("10.0.0.20"), of("10.0.0.5")), (Some(7), Some(8)), "a lease is first");
        firewall.hold(uuid, Holders::from([lease(20, 9)])).unwrap();
        assert_eq!((of("10.0.0.20"), of("10.0.0.5")), (Some(9), Some(5)), "as it was kept");
        assert!(!firewall.repair().unwrap(), "that is what is wanted");
        assert_eq!(made(), before);
        // Somebody flushed the sets: all is made anew.
        host.0.lock().unwrap().holders.clear();
        firewall.hold(uuid, Holders::new()).unwrap();
        assert_eq!((made(), of("10.0.0.20"), of("10.0.0.1")), (before + 1, None, Some(1)));
        firewall.hold(Uuid::nil(), Holders::from([lease(30, 1)])).unwrap();
        assert_eq!(of("10.0.0.30"), None, "of no network");
    }
}
