//! One network: what is done to it, by its worker.

use std::path::PathBuf;
use std::sync::Arc;

use broker::Broker;
use network::config::Confinement;
use uuid::Uuid;
use xml::NetworkDef;

use super::firewall::Firewall;
use super::foreign::Foreign;
use super::leases::{self, Leases};
use super::service::{self, Places, Service};
use super::{LeaseView, NetworkView, plan, user};
use crate::domain::Affects;
use crate::domain::exit::Exit;
use crate::error::{Code, Error};
use crate::events::{EventKind, NetworkChange};
use crate::host::Host;
use crate::journal::Journal;
use crate::store::{Store, StoredNetwork};
use crate::translate::invalid;
use crate::worker;

/// What the workers of all networks work with.
pub(super) struct Shared {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) store: Store<StoredNetwork>,
    pub(super) journal: Arc<Journal>,
    pub(super) firewall: Firewall,
    pub(super) foreign: Foreign,
    /// A directory for each active network.
    pub(super) run_dir: PathBuf,
    pub(super) leases: Leases,
    pub(super) log_dir: PathBuf,
    pub(super) settings: crate::config::Networks,
    pub(super) host: Host,
}

/// In a network's run directory: the definition it is active with.
pub(super) const RECORD: &str = "network.xml";

/// What there was when the worker was last done with something.
pub(crate) struct Published {
    pub(crate) view: NetworkView,
    /// What it is active with, else what is stored.
    pub(crate) def: NetworkDef,
    /// What is stored, as it is written down.
    pub(crate) stored: Option<String>,
    /// Of its process.
    pub(super) exit: Option<Arc<Exit>>,
    /// Neither stored nor active: the worker has ended, or will.
    pub(super) gone: bool,
}

pub(crate) struct State {
    shared: Arc<Shared>,
    uuid: Uuid,
    stored: Option<StoredNetwork>,
    def: NetworkDef,
    active: bool,
    service: Option<Service>,
    /// What does not work while it is active.
    problem: Option<String>,
    /// Claimed, and nothing was done with it yet.
    fresh: bool,
}

impl worker::State for State {
    type Published = Published;
    const KIND: &'static str = "network";

    fn publish(&self) -> Published {
        let def = &self.def;
        let view = NetworkView {
            name: self.name(),
            uuid: self.uuid,
            forward: def.forward_mode().map(xml::network::ForwardMode::name),
            bridge: def.bridge_name().map(str::to_owned),
            addresses: def.subnets().map(|subnet| (subnet.address, subnet.prefix)).collect(),
            active: self.active,
            persistent: self.stored.is_some(),
            autostart: self.stored.as_ref().is_some_and(|stored| stored.autostart),
            problems: self.problem.iter().cloned().collect(),
        };
        Published {
            view,
            def: def.clone(),
            stored: self.stored.as_ref().map(|stored| stored.xml.clone()),
            exit: self.service.as_ref().map(|service| service.exit.clone()),
            gone: self.is_gone(),
        }
    }

    fn touched(&mut self) {
        self.fresh = false;
    }

    fn is_gone(&self) -> bool {
        self.stored.is_none() && !self.active && !self.fresh
    }
}

impl State {
    pub(super) fn new(
        shared: Arc<Shared>,
        uuid: Uuid,
        stored: Option<StoredNetwork>,
        def: NetworkDef,
    ) -> Self {
        let (active, service, problem, fresh) = (false, None, None, true);
        Self { shared, uuid, stored, def, active, service, problem, fresh }
    }

    fn name(&self) -> String {
        self.def.name.to_string()
    }

    fn tell(&self, change: NetworkChange) {
        let (network, network_uuid) = (self.name(), self.uuid);
        let kind = EventKind::Network { network, network_uuid, change };
        self.shared.journal.publish(None, kind, None);
    }

    fn need_active(&self) -> Result<(), Error> {
        if self.active {
            return Ok(());
        }
        let name = self.name();
        let text = format!("network {name:?} is not active; start it (net-start {name})");
        Err(Error::new(Code::InvalidState, text))
    }

    fn need_inactive(&self) -> Result<(), Error> {
        if !self.active {
            return Ok(());
        }
        let name = self.name();
        let text = format!("network {name:?} is active already");
        Err(Error::new(Code::InvalidState, text))
    }

    /// The stored one with this change to it.
    fn change(&mut self, change: impl FnOnce(&mut StoredNetwork)) -> Result<(), Error> {
        let Some(stored) = &self.stored else {
            let text = format!("network {:?} is transient: it has no definition", self.name());
            return Err(Error::new(Code::InvalidState, text));
        };
        self.stored = Some(self.shared.store.change(stored, change)?);
        Ok(())
    }

    /// Store a definition. An active network goes on with what it has until it starts again, but for
    /// its `<bandwidth>`, which guests notice without being cut off.
    pub(crate) fn define(&mut self, def: NetworkDef) -> Result<(), Error> {
        service::check(&def)?;
        if self.active && !self.def.is_foreign_bridge() && self.def.bandwidth != def.bandwidth {
            // Before it is stored, so that a limit which the host cannot keep changes nothing.
            let bandwidth = def.bandwidth.clone();
            self.reshape(NetworkDef { bandwidth, ..self.def.clone() })?;
        }
        let xml = def.to_xml();
        if self.stored.is_some() {
            self.change(|stored| stored.xml = xml)?;
        } else {
            let (uuid, name) = (self.uuid, def.name.to_string());
            let stored = StoredNetwork { uuid, name, generation: 1, autostart: false, xml };
            self.shared.store.put(&stored)?;
            self.stored = Some(stored);
        }
        if !self.active {
            self.def = def;
        }
        self.tell(NetworkChange::Defined);
        Ok(())
    }

    /// Change one entry: of the network as it is active, of its definition, or of both.
    pub(crate) fn update(
        &mut self,
        change: impl Fn(&NetworkDef) -> Result<NetworkDef, Error>,
        affects: Affects,
    ) -> Result<(), Error> {
        let live = affects.live || (!affects.config && self.active);
        let config = affects.config || !live;
        if live {
            self.need_active()?;
        }
        // All is found before anything is changed.
        let stored = match (&self.stored, config) {
            (Some(stored), true) => {
                let def = NetworkDef::parse_stored(&stored.xml).map_err(invalid)?.value;
                let def = change(&def)?;
                service::check(&def)?;
                Some(def)
            }
            (None, true) => return self.change(|_| ()),
            (_, false) => None,
        };
        if live {
            self.reshape(change(&self.def)?)?;
        }
        if let Some(def) = stored {
            let xml = def.to_xml();
            self.change(|stored| stored.xml = xml)?;
            if !self.active {
                self.def = def;
            }
            self.tell(NetworkChange::Defined);
        }
        Ok(())
    }

    /// Have the active network be by another definition, of the same bridge and addresses.
    fn reshape(&mut self, def: NetworkDef) -> Result<(), Error> {
        service::check(&def)?;
        let before = std::mem::replace(&mut self.def, def);
        let limited = before.bandwidth != self.def.bandwidth;
        let changed = self.enforce(limited);
        let changed = changed.and_then(|()| match &self.service {
            Some(service) => service.configure(&self.def, &self.places()),
            None => Ok(()),
        });
        if changed.is_err() {
            self.def = before;
            if let Err(error) = self.enforce(limited) {
                tracing::error!(network = self.name(), error = %error.chain(), "is half changed");
            }
        }
        changed
    }

    /// Write down what is to be, and have the host's side of it so. A limit that stays is left alone: what
    /// waits in its queue would be lost.
    fn enforce(&self, limited: bool) -> Result<(), Error> {
        self.remember()?;
        self.shared.firewall.admit(self.uuid, &self.def)?;
        if limited { self.shared.firewall.shape(self.uuid) } else { Ok(()) }
    }

    /// Forget the definition. A network that is active goes on, and vanishes when it stops.
    pub(crate) fn undefine(&mut self) -> Result<(), Error> {
        if self.stored.is_none() {
            return self.change(|_| ());
        }
        self.shared.store.remove(self.uuid)?;
        self.stored = None;
        if !self.active {
            let _ = std::fs::remove_file(self.places().leases);
        }
        self.tell(NetworkChange::Undefined);
        Ok(())
    }

    pub(crate) fn set_autostart(&mut self, autostart: bool) -> Result<(), Error> {
        self.change(|stored| stored.autostart = autostart)
    }

    fn places(&self) -> Places {
        Places {
            run_dir: self.shared.run_dir.join(self.uuid.to_string()),
            leases: self.shared.leases.path(self.uuid),
            log: self.shared.log_dir.join(format!("network-{}.log", self.uuid)),
        }
    }

    /// `taps` are those of guests that are in it already, from before it stopped.
    pub(crate) fn start(&mut self, taps: Vec<String>) -> Result<(), Error> {
        self.need_inactive()?;
        service::check(&self.def)?;
        self.shared.firewall.claim(self.uuid, &self.def)?;
        let made = self.remember().and_then(|()| self.make());
        if let Err(error) = made.map_err(|error| self.without_root(error)) {
            if let Err(left) = self.unmake() {
                tracing::error!(network = self.name(), error = %left.chain(), "is half there");
            }
            return Err(error);
        }
        self.active = true;
        if let (Some(bridge), false) = (self.def.bridge_name(), taps.is_empty()) {
            // The network is there all the same.
            if let Err(error) = self.shared.broker.reattach(bridge, taps) {
                let error = Error::from(error).chain();
                tracing::error!(network = self.name(), error, "guests are not in it again");
                self.problem = Some(error);
            }
        }
        self.tell(NetworkChange::Started);
        Ok(())
    }

    /// Why it could not work at all, where that is so.
    fn without_root(&self, error: Error) -> Error {
        if self.shared.broker.makes_networks() {
            return error;
        }
        let text = format!(
            "network {:?} needs a daemon of root: one of another user makes no bridges; its guests have \
             <interface type='user'/>",
            self.name()
        );
        Error::new(error.code, text).with_source(error.chain())
    }

    /// Write down what is about to be.
    fn remember(&self) -> Result<(), Error> {
        let dir = self.places().run_dir;
        self.shared.broker.make_run_dir(&dir)?;
        let unfinished = dir.join(RECORD).with_extension("tmp");
        let written = std::fs::write(&unfinished, self.def.to_xml());
        written.and_then(|()| std::fs::rename(&unfinished, dir.join(RECORD))).map_err(|source| {
            let text = format!("cannot write the network's record in {}", dir.display());
            Error::new(Code::HostFailure, text).with_source(source)
        })
    }

    /// Everything that an active network has; what is there already stays as it is.
    fn make(&mut self) -> Result<(), Error> {
        if self.def.is_foreign_bridge() {
            return plan::need_bridge(&self.def);
        }
        self.shared.broker.make_bridge(plan::bridge(&self.def))?;
        self.shared.firewall.shape(self.uuid)?;
        self.shared.firewall.admit(self.uuid, &self.def)?;
        if self.service.is_none() && plan::needs_service(&self.def) {
            let places = self.places();
            let service = match Service::find(&places) {
                Some(service) => {
                    // The host may have other resolvers by now.
                    if let Err(error) = service.configure(&self.def, &places) {
                        let name = self.name();
                        tracing::warn!(network = name, error = %error.chain(), "serves as before");
                    }
                    service
                }
                None => self.start_service(&places)?,
            };
            self.service = Some(service);
        }
        // Of guests that had them before, or were given them while no daemon was there.
        leases::look(&self.shared, self.uuid, &self.name());
        Ok(())
    }

    fn start_service(&self, places: &Places) -> Result<Service, Error> {
        let Shared { broker, settings, .. } = &*self.shared;
        let user = user::of(&settings.user, &**broker)?;
        let confinement = Confinement { user, seccomp: settings.seccomp };
        Service::start(&**broker, &self.def, places, confinement)
    }

    /// Remove what [`make`](Self::make) has made, and the record of it last.
    fn unmake(&mut self) -> Result<(), Error> {
        let places = self.places();
        if let Some(service) = self.service.take() {
            service.stop(&*self.shared.broker, &places)?;
        }
        if let (Some(name), false) = (self.def.bridge_name(), self.def.is_foreign_bridge()) {
            self.shared.broker.remove_bridge(name, &self.def.name)?;
        }
        self.shared.firewall.release(self.uuid)?;
        self.shared.leases.forget(self.uuid);
        Ok(self.shared.broker.remove_run_dir(&places.run_dir)?)
    }

    /// Have its process ask whom the host asks by now.
    pub(super) fn refresh(&self) -> Result<(), Error> {
        match &self.service {
            Some(service) => service.configure(&self.def, &self.places()),
            None => Ok(()),
        }
    }

    /// Found active by a new daemon: complete what there is of it.
    pub(super) fn adopt(&mut self) -> Result<(), Error> {
        self.active = true;
        let made = self.shared.firewall.claim(self.uuid, &self.def).and_then(|()| self.make());
        self.note(&made);
        made
    }

    fn note(&mut self, made: &Result<(), Error>) {
        self.problem = made.as_ref().err().map(Error::chain);
    }

    /// A process has ended: if it did so by itself, guests need another. Whether they did.
    pub(super) fn revive(&mut self, ended: &Arc<Exit>) -> Result<bool, Error> {
        // Where it was stopped, it is not this network's any more.
        let own = self.service.as_ref().is_some_and(|service| Arc::ptr_eq(&service.exit, ended));
        if !own {
            return Ok(false);
        }
        self.service = None;
        let made = self.make();
        self.note(&made);
        made.map(|()| true)
    }

    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        self.need_active()?;
        self.unmake()?;
        self.active = false;
        self.problem = None;
        match &self.stored {
            // It was read before it was stored.
            Some(stored) => {
                if let Ok(def) = NetworkDef::parse_stored(&stored.xml) {
                    self.def = def.value;
                }
            }
            None => drop(std::fs::remove_file(self.places().leases)),
        }
        self.tell(NetworkChange::Stopped);
        Ok(())
    }

    /// Addresses that guests have at `now`, seconds since 1970.
    pub(crate) fn leases(&self, now: u64) -> Result<Vec<LeaseView>, Error> {
        let leases = self.shared.leases.read(self.uuid)?;
        let subnets: Vec<_> = self.def.subnets().collect();
        let view = |lease: network::Lease| {
            let subnet = subnets.iter().find(|subnet| subnet.contains(lease.address))?;
            Some(LeaseView {
                mac: lease.mac.to_string(),
                address: lease.address,
                prefix: subnet.prefix,
                hostname: lease.hostname,
                client_id: lease.client_id.map(|id| id.to_string()),
                expires: lease.expires,
            })
        };
        let mut leases: Vec<_> =
            leases.into_iter().filter(|lease| lease.is_live(now)).filter_map(view).collect();
        leases.sort_by_key(|lease| lease.address);
        Ok(leases)
    }
}
