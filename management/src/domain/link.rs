//! The cable of an interface: pulled and plugged in a running guest, in the definition, or in both.

use std::sync::Arc;

use vmm_protocol::control::Request;
use xml::device::interface::{Interface, LinkState};
use xml::{DomainDef, MacAddress};

use super::actor::Actor;
use super::handle::Live;
use crate::error::{Code, Error};
use crate::events::Lifecycle;
use crate::store::StoredDomain;
use crate::translate;

/// Which definition a change touches. If none is named, the live one of a running domain, else the
/// stored one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Affects {
    pub live: bool,
    pub config: bool,
}

impl Actor {
    pub(super) async fn set_link(
        &mut self,
        interface: &str,
        up: bool,
        affects: Affects,
    ) -> Result<(), Error> {
        let live = affects.live || (!affects.config && self.run.is_some());
        let config = affects.config || !live;
        // All is found before anything is changed.
        let cable = if live { Some(self.live_cable(interface)?) } else { None };
        let stored = if config { self.stored_with_link(interface, up)? } else { None };
        if let Some((alias, _)) = &cable {
            self.plug(alias, up).await?;
        }
        let Some((stored, def)) = stored else { return Ok(()) };
        if let Err(error) = self.put(stored, def).await {
            if let Some((alias, was_up)) = cable
                && let Err(error) = self.plug(&alias, was_up).await
            {
                tracing::warn!(domain = self.name, error = %error.chain(), "a link stays changed");
            }
            return Err(error);
        }
        self.announce_lifecycle(Lifecycle::DefinedUpdated, None, None);
        Ok(())
    }

    /// The alias of a running domain's interface, and whether its cable is plugged in.
    fn live_cable(&self, name: &str) -> Result<(String, bool), Error> {
        let def = translate::with_aliases(&self.running()?.live.def);
        let found = &def.devices.interfaces[self.interface(&def, name)?];
        let alias = found.alias.clone().ok_or_else(|| self.no_interface(&def, name))?;
        Ok((alias, is_up(found)))
    }

    /// The stored definition as it shall be; none if it is so already.
    fn stored_with_link(
        &self,
        name: &str,
        up: bool,
    ) -> Result<Option<(StoredDomain, DomainDef)>, Error> {
        let old = self.stored("it has no definition to change")?;
        let mut def = old.def.clone();
        // A tap's name may be of this run alone; the MAC address is in both definitions.
        let live = self.run.as_ref().map(|run| &run.live.def);
        let mac = live.and_then(|live| mac_of(live, name));
        let at = match (self.interface(&def, name), mac) {
            (Err(_), Some(mac)) => self.interface(&def, &mac.to_string())?,
            (found, _) => found?,
        };
        let link = &mut def.devices.interfaces[at].link;
        if link.replace(state(up)) == Some(state(up)) {
            return Ok(None);
        }
        let mut stored = old.stored.clone();
        stored.generation = stored.generation.saturating_add(1);
        stored.xml = def.to_xml();
        Ok(Some((stored, def)))
    }

    async fn plug(&mut self, alias: &str, up: bool) -> Result<(), Error> {
        self.tell(Request::SetLink { id: alias.to_owned(), up }).await?;
        self.take_link(alias, up).await;
        Ok(())
    }

    /// What the VMM did: shown in the live definition, and written down for the next daemon. Called
    /// for its event too, which is seen also by a daemon that comes after the one that asked.
    pub(super) async fn take_link(&mut self, alias: &str, up: bool) {
        let Some(run) = &self.run else { return };
        let def = translate::with_aliases(&run.live.def);
        let interfaces = &def.devices.interfaces;
        let at = interfaces.iter().position(|i| i.alias.as_deref() == Some(alias));
        let Some(at) = at.filter(|at| interfaces[*at].link != Some(state(up))) else { return };
        // What it was started from has the same interfaces.
        self.change_live(|def| {
            if let Some(interface) = def.devices.interfaces.get_mut(at) {
                interface.link = Some(state(up));
            }
        })
        .await;
    }

    /// Show a change that the VMM has made in the live definition, and write it down for the next
    /// daemon.
    pub(super) async fn change_live(&mut self, change: impl Fn(&mut DomainDef)) {
        let Some(run) = &mut self.run else { return };
        let mut def = translate::with_aliases(&run.live.def);
        change(&mut def);
        run.record.live = def.to_xml();
        // With the change, what it was started from tells what would be different at the next
        // start, and it is all that a transient domain has.
        if let Ok(mut started) = translate::stored(&run.record.definition) {
            change(&mut started);
            run.record.definition = started.to_xml();
        }
        self.show_live(def).await;
    }

    /// `def` is what the domain is now, as its record says already.
    pub(super) async fn show_live(&mut self, def: DomainDef) {
        let Some(run) = &mut self.run else { return };
        run.live = Arc::new(Live {
            record: run.record.clone(),
            def,
            run_dir: run.live.run_dir.clone(),
            sandbox: run.live.sandbox.clone(),
        });
        self.keep_record().await;
    }

    /// Write the record down for the next daemon, here and in the VMM.
    pub(super) async fn keep_record(&mut self) {
        let dir = self.node.run_dir(self.uuid);
        let Some(run) = &self.run else { return };
        if let Err(error) = run.record.write(&dir) {
            tracing::warn!(%error, dir = %dir.display(), "cannot update the domain's record");
        }
        let record = run.record.to_text();
        if let Err(error) = self.tell(Request::SetLiveRecord { record }).await {
            tracing::warn!(domain = self.name, error = %error.chain(), "the VMM keeps an old record");
        }
    }

    fn interface(&self, def: &DomainDef, name: &str) -> Result<usize, Error> {
        match position(def, name) {
            Ok(found) => found.ok_or_else(|| self.no_interface(def, name)),
            Err(Several) => {
                let text = format!("domain {:?} has several interfaces {name:?}", self.name);
                Err(Error::new(Code::InvalidArgument, text))
            }
        }
    }

    fn no_interface(&self, def: &DomainDef, name: &str) -> Error {
        let known: Vec<_> = def.devices.interfaces.iter().map(describe).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let text = format!("domain {:?} has no interface {name:?}; it has {known}", self.name);
        Error::new(Code::DeviceNotFound, text)
    }
}

struct Several;

/// Where the interface with this MAC address, or on this tap, stands in the definition.
fn position(def: &DomainDef, name: &str) -> Result<Option<usize>, Several> {
    let mac = name.parse::<MacAddress>().ok();
    let is_it = |interface: &Interface| {
        let target = interface.target.as_ref().and_then(|target| target.dev.as_deref());
        target == Some(name) || (mac.is_some() && interface.mac_address() == mac)
    };
    let interfaces = def.devices.interfaces.iter().enumerate();
    let mut found = interfaces.filter(|(_, interface)| is_it(interface)).map(|(at, _)| at);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(Several),
        (first, None) => Ok(first),
    }
}

/// The MAC address of the one interface with this name.
pub(super) fn mac_of(def: &DomainDef, name: &str) -> Option<MacAddress> {
    let at = position(def, name).ok().flatten()?;
    def.devices.interfaces[at].mac_address()
}

fn describe(interface: &Interface) -> String {
    let mac = interface.mac_address().map(|mac| mac.to_string()).unwrap_or_default();
    match interface.target.as_ref().and_then(|target| target.dev.as_deref()) {
        Some(target) => format!("{target} ({mac})"),
        None => mac,
    }
}

/// A cable is plugged in unless it is said that it is not.
pub(crate) fn is_up(interface: &Interface) -> bool {
    interface.link != Some(LinkState::Down)
}

fn state(up: bool) -> LinkState {
    if up { LinkState::Up } else { LinkState::Down }
}
