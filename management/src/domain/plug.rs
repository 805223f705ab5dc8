//! Devices that come and go: in a running guest, in the definition, or in both.
//!
//! ```text
//! attach: opened → intent written down → VMM told → in the live definition, intent forgotten
//! detach: VMM asked → guest lets go → the VMM says so → out of the live definition
//! ```
//! A daemon that comes after one that stopped in between hears the VMM's event, and finds in the
//! intent what was meant.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use vmm_protocol::control::{MAX_FILES, Request};
use xml::device::Device;
use xml::device::disk::{Disk, DiskDevice, Location};
use xml::{DomainDef, Parsed};

use super::actor::{Actor, Link, Run, blocking};
use super::clean;
use super::launch::{Launch, Opener, Table};
use super::link::Affects;
use crate::error::{Code, Error};
use crate::events::{EventKind, Lifecycle};
use crate::journal::Origin;
use crate::store::StoredDomain;
use crate::translate::device::{self, Built, Key, Opened};
use crate::translate::{self, NewIds};

/// How long a guest is waited for that was asked to let go of a device. By native hotplug it lets 5 s
/// pass, in case the button is pressed again (PCI Express 4.0 §6.7.1.5).
pub(crate) const LETTING_GO: Duration = Duration::from_secs(8);

/// A device that the VMM is about to be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlugIntent {
    /// As the live definition shows it.
    pub live: String,
    /// As a definition has it.
    pub definition: String,
}

/// Which device is meant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Named {
    /// By its alias, target, MAC address or tap.
    Name(String),
    Like(Box<Device>),
}

impl Named {
    pub(crate) fn key(&self, def: &DomainDef) -> Option<Key> {
        match self {
            Self::Name(name) => device::key(def, name),
            Self::Like(like) => device::meant(def, like),
        }
    }
}

/// A device that is found good for the running domain, and how it is opened there.
struct Plan {
    device: Device,
    launch: Launch,
}

impl Actor {
    pub(super) async fn attach_device(
        &mut self,
        mut device: Parsed<Device>,
        affects: Affects,
    ) -> Result<(), Error> {
        let live = affects.live || (!affects.config && self.run.is_some());
        let config = affects.config || !live;
        // All is found good before anything is changed.
        let plan = if live { Some(self.plan(&mut device)?) } else { None };
        let stored = if config { Some(self.stored_with_device(&mut device)?) } else { None };
        let plugged = match plan {
            Some(plan) => Some(self.give(plan).await?),
            None => None,
        };
        let Some((stored, def)) = stored else { return Ok(()) };
        if let Err(error) = self.put(stored, def).await {
            if let Some(id) = plugged
                && let Err(error) = self.tell(Request::Detach { id }).await
            {
                tracing::warn!(domain = self.name, error = %error.chain(), "a device stays");
            }
            return Err(error);
        }
        self.announce_lifecycle(Lifecycle::DefinedUpdated, None, None);
        Ok(())
    }

    fn plan(&self, device: &mut Parsed<Device>) -> Result<Plan, Error> {
        let live = &self.running()?.live.def;
        device::check_pluggable(&device.value)?;
        let (_, mut added) = device::added(live, device, &mut NewIds)?;
        device::check_host(live, &added)?;
        keep_address(&mut device.value, &added);
        device::name(live, &mut added);
        Ok(Plan { device: added, launch: self.launch(live.clone()) })
    }

    /// Give the running machine a device; its alias comes back.
    async fn give(&mut self, plan: Plan) -> Result<String, Error> {
        let node = self.node.clone();
        let cgroup = self.run.as_ref().and_then(|run| run.record.cgroup.clone());
        let work = blocking(move || {
            let Plan { device, launch } = plan;
            let opened = open(&*node.broker, &launch, &device, cgroup.as_deref());
            let (opened, files) = opened?;
            Ok((config_of(&launch.def, device, &opened)?, files))
        });
        let ready = match work.await {
            Ok(ready) => ready,
            Err(error) => {
                self.sweep().await;
                return Err(error);
            }
        };
        let (Ready { config, live, definition }, files) = ready;
        let alias = config.id().to_owned();
        let intent = PlugIntent { live: live.to_xml(), definition: definition.to_xml() };
        self.intend_plug(&alias, Some(intent))?;
        let (limits, errors) = (device::limits(&live), device::errors(&live));
        match self.tell_with(config.attach(limits, errors), files).await {
            Ok(()) => self.plugged(&alias, None).await,
            Err(error) => {
                // Where it is not known whether the VMM has done it, its event tells.
                if !matches!(error.code, Code::Timeout | Code::VmmUnreachable) {
                    self.intend_plug(&alias, None)?;
                    self.sweep().await;
                }
                return Err(error);
            }
        }
        Ok(alias)
    }

    /// Write down what the VMM is about to be given, or that it will not be.
    fn intend_plug(&mut self, alias: &str, intent: Option<PlugIntent>) -> Result<(), Error> {
        let dir = self.node.run_dir(self.uuid);
        let Some(run) = &mut self.run else { return Ok(()) };
        let before = run.record.plugs.clone();
        match intent {
            Some(intent) => run.record.plugs.insert(alias.to_owned(), intent),
            None => run.record.plugs.remove(alias),
        };
        run.record.write(&dir).map_err(|source| {
            run.record.plugs = before;
            let text = format!("cannot update the domain's record in {}", dir.display());
            Error::new(Code::HostFailure, text).with_source(source)
        })
    }

    /// The VMM has a device that was meant for it: show it in the live definition.
    async fn plugged(&mut self, alias: &str, origin: Option<Origin>) {
        let Some(run) = &mut self.run else { return };
        let Some(intent) = run.record.plugs.remove(alias) else { return };
        let read = |text: &str| Device::parse_stored(text).map(|parsed| parsed.value);
        let (Ok(live), Ok(definition)) = (read(&intent.live), read(&intent.definition)) else {
            tracing::error!(domain = self.name, alias, "the record of a device cannot be read");
            return;
        };
        let mut def = translate::with_aliases(&run.live.def);
        device::insert(&mut def, live);
        run.record.live = def.to_xml();
        // All that a transient domain has.
        if let Ok(mut started) = translate::stored(&run.record.definition) {
            device::insert(&mut started, definition);
            run.record.definition = started.to_xml();
        }
        self.show_live(def).await;
        self.announce(EventKind::DeviceAdded { device: alias.to_owned() }, origin);
    }

    /// The VMM says so. Whoever told it to has heard it before, unless that was another daemon.
    pub(super) async fn on_device_added(&mut self, alias: &str, origin: Option<Origin>) {
        self.plugged(alias, origin).await;
    }

    pub(super) async fn detach_device(
        &mut self,
        named: &Named,
        affects: Affects,
    ) -> Result<(), Error> {
        let live = affects.live || (!affects.config && self.run.is_some());
        let config = affects.config || !live;
        let plugged = if live { Some(self.plugged_one(named)?) } else { None };
        let stored = if config { Some(self.stored_without_device(named)?) } else { None };
        if let Some(id) = plugged {
            self.tell(Request::Detach { id: id.clone() }).await?;
            self.wait_for_removal(&id).await;
        }
        if let Some((stored, def)) = stored {
            self.put(stored, def).await?;
            self.announce_lifecycle(Lifecycle::DefinedUpdated, None, None);
        }
        Ok(())
    }

    /// The alias of a running domain's device that can go.
    fn plugged_one(&self, named: &Named) -> Result<String, Error> {
        let def = translate::with_aliases(&self.running()?.live.def);
        let found = named.key(&def).and_then(|key| key.find(&def));
        let found = found.ok_or_else(|| self.no_device(&def, named))?;
        device::check_pluggable(&found)?;
        found.alias().map(str::to_owned).ok_or_else(|| self.no_device(&def, named))
    }

    /// Give the guest a moment: who detached a device mostly wants it to be gone.
    async fn wait_for_removal(&mut self, alias: &str) {
        let deadline = Instant::now() + LETTING_GO;
        while self.has_live(alias) {
            let Some(run) = &mut self.run else { return };
            let Link::Up { events, .. } = &mut run.link else { return };
            let event = tokio::select! {
                biased;
                destroy = self.destroys.recv() => {
                    self.destroy = destroy;
                    return;
                }
                event = tokio::time::timeout_at(deadline, events.recv()) => event,
            };
            match event {
                Ok(Some(event)) => Box::pin(self.on_event(event)).await,
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn has_live(&self, alias: &str) -> bool {
        let Some(run) = &self.run else { return false };
        let def = translate::with_aliases(&run.live.def);
        device::key(&def, alias).is_some()
    }

    /// The guest has let go of a device, asked or by itself.
    pub(super) async fn on_device_removed(&mut self, alias: &str, origin: Option<Origin>) {
        let Some(run) = &mut self.run else { return };
        let mut def = translate::with_aliases(&run.live.def);
        let Some(key) = device::key(&def, alias) else { return };
        if device::remove(&mut def, alias).is_none() {
            return;
        }
        run.record.live = def.to_xml();
        if let Ok(mut started) = translate::stored(&run.record.definition) {
            key.remove(&mut started);
            run.record.definition = started.to_xml();
        }
        self.show_live(def).await;
        self.sweep().await;
        self.announce(EventKind::DeviceRemoved { device: clean(alias) }, origin);
    }

    /// Remove macvtaps that the domain has no more, and forget what was said of taps that are gone.
    async fn sweep(&self) {
        let (node, owner) = (self.node.clone(), self.uuid.to_string());
        let keep = self.run.as_ref().map(macvtaps).unwrap_or_default();
        let work = move || {
            node.broker.remove_direct(&owner, keep)?;
            node.networks.sweep()
        };
        if let Err(error) = blocking(work).await {
            tracing::error!(error = %error.chain(), "rules of taps that are gone stay");
        }
    }

    /// The stored definition with one device more.
    fn stored_with_device(
        &self,
        device: &mut Parsed<Device>,
    ) -> Result<(StoredDomain, DomainDef), Error> {
        let old = self.stored("it has no definition to change")?;
        let (def, added) = device::added(&old.def, device, &mut NewIds)?;
        keep_address(&mut device.value, &added);
        Ok((next(&old.stored, &def), def))
    }

    fn stored_without_device(&self, named: &Named) -> Result<(StoredDomain, DomainDef), Error> {
        let old = self.stored("it has no definition to change")?;
        let mut def = old.def.clone();
        let key = self.stored_key(&def, named)?;
        key.remove(&mut def);
        Ok((next(&old.stored, &def), def))
    }

    /// A name may be of the running domain alone; target and MAC address are in both definitions.
    pub(super) fn stored_key(&self, def: &DomainDef, named: &Named) -> Result<Key, Error> {
        let live = self.run.as_ref().map(|run| translate::with_aliases(&run.live.def));
        let of_live = live.and_then(|live| named.key(&live));
        let found = of_live.filter(|key| key.find(def).is_some()).or_else(|| named.key(def));
        found.ok_or_else(|| self.no_device(def, named))
    }

    pub(super) fn no_device(&self, def: &DomainDef, named: &Named) -> Error {
        let disks = def.devices.disks.iter().map(|disk| disk.target.dev.clone());
        let macs = def.devices.interfaces.iter().filter_map(xml::device::Interface::mac_address);
        let aliases = def.devices.rngs.iter().map(|rng| &rng.alias);
        let aliases = aliases.chain(def.devices.inputs.iter().map(|input| &input.alias));
        let aliases = aliases.chain(def.devices.vsock.iter().map(|vsock| &vsock.alias));
        let aliases = aliases.flatten().cloned();
        let known: Vec<_> = disks.chain(macs.map(|mac| mac.to_string())).chain(aliases).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let what = match named {
            Named::Name(name) => format!("device {name:?}"),
            Named::Like(like) => match &**like {
                Device::Disk(disk) => format!("disk {:?}", disk.target.dev),
                Device::Interface(interface) => match interface.mac_address() {
                    Some(mac) => format!("interface {mac}"),
                    None => "single interface: name one by its <mac address='…'/>".to_owned(),
                },
                other => format!("such {}", other.element()),
            },
        };
        let text = format!("domain {:?} has no {what}; it has {known}", self.name);
        Error::new(Code::DeviceNotFound, text)
    }
}

/// Those of a running domain, also that of an interface which the VMM may have by now.
fn macvtaps(run: &Run) -> Vec<String> {
    let mut def = run.live.def.clone();
    for intent in run.record.plugs.values() {
        if let Ok(device) = Device::parse_stored(&intent.live) {
            device::insert(&mut def, device.value);
        }
    }
    super::interfaces::macvtaps(&def)
}

/// What was made up for one definition holds for the other, too.
fn keep_address(device: &mut Device, complete: &Device) {
    if let (Device::Interface(device), Device::Interface(complete)) = (device, complete) {
        device.mac = complete.mac;
    }
}

pub(super) fn next(stored: &StoredDomain, def: &DomainDef) -> StoredDomain {
    let mut stored = stored.clone();
    stored.generation = stored.generation.saturating_add(1);
    stored.xml = def.to_xml();
    stored
}

/// Open what a device is on the host, and say what may come through it. Blocks.
fn open(
    broker: &dyn broker::Broker,
    launch: &Launch,
    device: &Device,
    cgroup: Option<&Path>,
) -> Result<(Opened, Vec<std::os::fd::OwnedFd>), Error> {
    let mut table = Table::of_request();
    let mut opener = Opener { broker, table: &mut table, launch, cgroup };
    let opened = match device {
        Device::Disk(disk) if is_empty(disk) => Opened::Nothing,
        Device::Disk(disk) => Opened::Disk(opener.disk(disk)?),
        Device::Interface(interface) => {
            let tap = opener.tap(interface)?;
            super::interfaces::guard(std::iter::once((&**interface, &tap)), launch)?;
            Opened::Tap(tap)
        }
        Device::Vsock(vsock) => Opened::Vsock(opener.vsock(vsock)?),
        Device::Rng(_) | Device::Input(_) => Opened::Nothing,
    };
    let files = table.into_files();
    if files.len() > MAX_FILES {
        let text = format!(
            "the device has {} files, and {MAX_FILES} can be given to a guest that runs; flatten \
             its chain of images (manor image convert)",
            files.len()
        );
        return Err(Error::new(Code::Unsupported, text));
    }
    Ok((opened, files))
}

/// A drive without a medium.
fn is_empty(disk: &Disk) -> bool {
    disk.device() == DiskDevice::Cdrom && disk.location() == Location::Empty
}

/// A device for the VMM, for the live definition, and for others.
struct Ready {
    config: Built,
    live: Device,
    definition: Device,
}

fn config_of(def: &DomainDef, device: Device, opened: &Opened) -> Result<Ready, Error> {
    let config = device::config(def, &device, opened)?;
    let mut live = device.clone();
    device::show(def, &mut live, opened);
    Ok(Ready { config, live, definition: device })
}
