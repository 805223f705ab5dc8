//! An interface of a running guest that comes into another bridge: its tap stays, and so does all that
//! the guest sees of it but for its cable, which is pulled meanwhile, so that its DHCP client asks anew.
//!
//! ```text
//! intent written down → cable pulled → out of the bridge → rules of the new port → into the other
//!   → cable plugged in → in the live definition, intent forgotten
//!              └─ fails ─▶ the same again, with what was before
//! ```
//! A daemon that comes after one that stopped in between does all of it once more.

use std::time::Duration;

use broker::BridgePort;
use tokio::time::Instant;
use vmm_protocol::control::{EventKind as VmmEvent, Request};
use xml::DomainDef;
use xml::device::Device;
use xml::device::interface::{Interface, InterfaceType};

use super::actor::{Actor, Link, blocking};
use super::interfaces::{Port, port, traffic};
use super::link::is_up;
use crate::error::{Code, Error};
use crate::translate;

/// How long the VMM's own word of a cable is waited for, once it has done it.
const CABLE: Duration = Duration::from_secs(1);

/// # Errors
/// When an interface cannot come from the one place to the other while its guest runs.
pub(crate) fn check_movable(from: &Interface, to: &Interface) -> Result<(), Error> {
    let fixed =
        |it: &&Interface| !matches!(it.kind, InterfaceType::Network | InterfaceType::Bridge);
    let Some(fixed) = [from, to].into_iter().find(fixed) else { return Ok(()) };
    let text = format!(
        "source cannot be changed while the guest runs for an interface of type='{}', but between \
         type='network' and 'bridge'; --config changes it for the next start",
        fixed.kind
    );
    Err(Error::new(Code::Unsupported, text))
}

impl Actor {
    /// Let the interface with this MAC address lead to where `to` does.
    pub(super) async fn move_interface(&mut self, mac: &str, to: &Interface) -> Result<(), Error> {
        let old = self.live_interface(mac)?;
        check_movable(&old, to)?;
        let mut new = old.clone();
        lead(&mut new, to);
        let Port { bridge, .. } = port(&self.launch(self.running()?.live.def.clone()), &new)?;
        if let Some(source) = new.source.as_mut().filter(|source| source.network.is_some()) {
            source.bridge = bridge;
        }
        self.intend_move(Some(Device::Interface(Box::new(new.clone())).to_xml()))?;
        let Err(error) = self.connect(&new).await else {
            self.moved(&old, &new).await;
            return Ok(());
        };
        // It stays written down: done when the VMM answers again.
        if matches!(error.code, Code::Timeout | Code::VmmUnreachable) {
            return Err(error);
        }
        self.go_back(&old).await;
        Err(error)
    }

    /// The daemon before this one, or the VMM's connection, was gone in the middle of it.
    pub(super) async fn finish_move(&mut self) {
        let Some(text) = self.run.as_ref().and_then(|run| run.record.moving.clone()) else {
            return;
        };
        let read = Device::parse_stored(&text).map(|parsed| parsed.value);
        let Ok(Device::Interface(new)) = read else {
            tracing::error!(domain = self.name, "the record of an interface cannot be read");
            return;
        };
        let mac = new.mac_address().map(|mac| mac.to_string()).unwrap_or_default();
        let Ok(mut old) = self.live_interface(&mac) else { return };
        // Pulled perhaps, but not by anybody who wants it so.
        old.link = new.link;
        match self.connect(&new).await {
            Ok(()) => self.moved(&old, &new).await,
            Err(error) => {
                tracing::warn!(domain = self.name, mac, error = %error.chain(), "is not moved");
                self.go_back(&old).await;
            }
        }
    }

    /// Let the interface with this MAC address have the filter that `to` has.
    pub(super) async fn change_filter(&mut self, mac: &str, to: &Interface) -> Result<(), Error> {
        let old = self.live_interface(mac)?;
        let new = Interface { filterref: to.filterref.clone(), ..old.clone() };
        self.guard_as(&new).await?;
        // A daemon that comes after one that stopped here has the filter that is written down.
        let Err(error) = self.keep_interface(&new) else {
            self.settle(&new).await;
            return Ok(());
        };
        if let Err(error) = self.guard_as(&old).await {
            tracing::error!(domain = self.name, mac, error = %error.chain(), "has the filter it was to have");
        }
        Err(error)
    }

    /// What may come through the tap of a live interface from now on.
    async fn guard_as(&self, interface: &Interface) -> Result<(), Error> {
        let (node, interface) = (self.node.clone(), interface.clone());
        blocking(move || {
            let tap = interface.target.as_ref().and_then(|target| target.dev.clone());
            let tap = tap.unwrap_or_default();
            let network = translate::ports::network(&interface);
            let own = network.is_some_and(|network| node.networks.is_own(network));
            let rules = translate::ports::of(&interface, &tap, own);
            node.networks.guard(vec![(tap, rules)])
        })
        .await
    }

    /// Write an interface of the live definition down as it shall be.
    fn keep_interface(&mut self, now: &Interface) -> Result<(), Error> {
        let dir = self.node.run_dir(self.uuid);
        let Some(run) = &mut self.run else { return Ok(()) };
        let mac = now.mac_address().map(|mac| mac.to_string()).unwrap_or_default();
        let mut def = translate::with_aliases(&run.live.def);
        if let Some(at) = at(&def, &mac) {
            def.devices.interfaces[at] = now.clone();
        }
        let before = std::mem::replace(&mut run.record.live, def.to_xml());
        run.record.write(&dir).map_err(|source| {
            run.record.live = before;
            let text = format!("cannot update the domain's record in {}", dir.display());
            Error::new(Code::HostFailure, text).with_source(source)
        })
    }

    fn live_interface(&self, mac: &str) -> Result<Interface, Error> {
        let def = translate::with_aliases(&self.running()?.live.def);
        let found = at(&def, mac).map(|at| def.devices.interfaces[at].clone());
        found.ok_or_else(|| {
            let text = format!("domain {:?} has no interface {mac}", self.name);
            Error::new(Code::DeviceNotFound, text)
        })
    }

    fn intend_move(&mut self, moving: Option<String>) -> Result<(), Error> {
        let dir = self.node.run_dir(self.uuid);
        let Some(run) = &mut self.run else { return Ok(()) };
        let before = std::mem::replace(&mut run.record.moving, moving);
        run.record.write(&dir).map_err(|source| {
            run.record.moving = before;
            let text = format!("cannot update the domain's record in {}", dir.display());
            Error::new(Code::HostFailure, text).with_source(source)
        })
    }

    async fn go_back(&mut self, old: &Interface) {
        let Err(error) = self.connect(old).await else { return self.settle(old).await };
        let error = error.chain();
        tracing::error!(domain = self.name, error, "an interface is in no network any more");
        if let Err(error) = self.intend_move(None) {
            tracing::warn!(domain = self.name, error = %error.chain(), "a move stays under way");
        }
    }

    /// Put the tap of a live interface where its definition says, wherever it is now.
    async fn connect(&mut self, interface: &Interface) -> Result<(), Error> {
        let launch = self.launch(self.running()?.live.def.clone());
        let Port { bridge, vlans, known_mac } = port(&launch, interface)?;
        let traffic = traffic(&launch, interface)?;
        let tap = interface.target.as_ref().and_then(|target| target.dev.clone());
        let (Some(bridge), Some(tap)) = (bridge, tap) else {
            let text = "the interface has no tap that could be in a bridge";
            return Err(Error::new(Code::InvalidState, text));
        };
        let alias = interface.alias.clone().unwrap_or_default();
        if is_up(interface) {
            self.set_cable(&alias, false).await?;
        }
        let mtu = interface.mtu.and_then(|mtu| u16::try_from(mtu).ok());
        let mac = interface.mac_address().map(|mac| mac.0);
        let known_mac = mac.filter(|_| known_mac);
        let (node, interface_now) = (self.node.clone(), interface.clone());
        blocking(move || {
            // In no bridge it needs no rules: between those of the old port and of the new there is no
            // moment with the wrong ones.
            node.broker.leave_bridge(&tap)?;
            let network = translate::ports::network(&interface_now);
            let own = network.is_some_and(|network| node.networks.is_own(network));
            let rules = translate::ports::of(&interface_now, &tap, own);
            node.networks.guard(vec![(tap.clone(), rules)])?;
            if interface_now.bandwidth.is_none() {
                // Its group's, in place of that of the group it was in.
                node.broker.shape(&tap, traffic)?;
            }
            Ok(node.broker.join_bridge(BridgePort { bridge, tap, mtu, vlans, known_mac })?)
        })
        .await?;
        if is_up(interface) { self.set_cable(&alias, true).await } else { Ok(()) }
    }

    /// Returns when the VMM's event is taken: one that came later would show the cable as it is no more.
    async fn set_cable(&mut self, alias: &str, up: bool) -> Result<(), Error> {
        self.tell(Request::SetLink { id: alias.to_owned(), up }).await?;
        let deadline = Instant::now() + CABLE;
        loop {
            let Some(run) = &mut self.run else { return Ok(()) };
            let Link::Up { events, .. } = &mut run.link else { return Ok(()) };
            let Ok(Some(event)) = tokio::time::timeout_at(deadline, events.recv()).await else {
                return Ok(());
            };
            let is_it = matches!(
                &event.kind,
                VmmEvent::LinkChanged { id, up: is } if id == alias && *is == up
            );
            Box::pin(self.on_event(event)).await;
            if is_it {
                return Ok(());
            }
        }
    }

    async fn moved(&mut self, old: &Interface, new: &Interface) {
        self.settle(new).await;
        self.announce_port(old, false);
        self.announce_port(new, true);
    }

    /// Show an interface as it is in the live definition, and forget that something was to be done to it.
    async fn settle(&mut self, now: &Interface) {
        let Some(run) = &mut self.run else { return };
        let mac = now.mac_address().map(|mac| mac.to_string()).unwrap_or_default();
        let mut def = translate::with_aliases(&run.live.def);
        if let Some(at) = at(&def, &mac) {
            def.devices.interfaces[at] = now.clone();
        }
        run.record.live = def.to_xml();
        // All that a transient domain has.
        if let Ok(mut started) = translate::stored(&run.record.definition)
            && let Some(at) = at(&started, &mac)
        {
            lead(&mut started.devices.interfaces[at], now);
            started.devices.interfaces[at].filterref.clone_from(&now.filterref);
            run.record.definition = started.to_xml();
        }
        run.record.moving = None;
        self.show_live(def).await;
    }
}

fn at(def: &DomainDef, mac: &str) -> Option<usize> {
    let is_it = |it: &Interface| it.mac_address().is_some_and(|is| is.to_string() == mac);
    def.devices.interfaces.iter().position(is_it)
}

/// Let `interface` lead to where `to` does; everything else of it stays.
fn lead(interface: &mut Interface, to: &Interface) {
    interface.kind = to.kind;
    interface.source.clone_from(&to.source);
    interface.vlan.clone_from(&to.vlan);
    // The network's, which is what it is at present.
    if let Some(source) = interface.source.as_mut().filter(|source| source.network.is_some()) {
        source.bridge = None;
    }
}
