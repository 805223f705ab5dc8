//! Devices that are changed where they are: of a running domain the medium of a drive and the cable of
//! an interface, of a definition anything.

use xml::device::disk::{DiskDevice, Location};
use xml::device::{Device, Interface};
use xml::{DomainDef, Parsed};

use super::actor::Actor;
use super::link::{Affects, is_up};
use super::media::{MediumAction, MediumChange, MediumSource};
use super::moves::check_movable;
use super::plug::{Named, next};
use crate::error::{Code, Error};
use crate::events::Lifecycle;
use crate::plan::take_error_policies;
use crate::store::StoredDomain;
use crate::translate::device::Key;
use crate::translate::{self, NewIds, device};

/// What is to be done to the running guest.
#[derive(Default)]
struct Updated {
    /// The interface that is to be in another bridge, by its MAC address.
    moves: Option<(String, Box<Interface>)>,
    /// The one that has another filter, by its MAC address.
    filter: Option<(String, Box<Interface>)>,
    /// The one whose cable is to be moved, and where.
    link: Option<(String, bool)>,
    /// The definition with another policy for a disk's errors.
    policy: Option<DomainDef>,
}

impl Actor {
    /// Change a device that stays.
    pub(super) async fn update_device(
        &mut self,
        new: Parsed<Device>,
        affects: Affects,
    ) -> Result<(), Error> {
        let live = affects.live || (!affects.config && self.run.is_some());
        let config = affects.config || !live;
        if let Device::Rng(_) | Device::Input(_) | Device::Vsock(_) = &new.value {
            let text = format!(
                "<{}> is not changed where it is: detach the device, and attach it as it is to be",
                new.value.element()
            );
            return Err(Error::new(Code::Unsupported, text));
        }
        if let Device::Disk(disk) = &new.value
            && disk.device() == DiskDevice::Cdrom
        {
            let action = match disk.location() {
                Location::File(path) => {
                    MediumAction::Update(MediumSource { path: path.to_owned(), block: false })
                }
                Location::Block(path) => {
                    MediumAction::Update(MediumSource { path: path.to_owned(), block: true })
                }
                _ => MediumAction::Eject,
            };
            let change = MediumChange { disk: disk.target.dev.clone(), action, force: false };
            return self.change_medium(change, affects).await;
        }
        let updated = if live { self.updated(&new)? } else { Updated::default() };
        let Updated { moves, filter, link, policy } = updated;
        let stored = if config { Some(self.stored_with_update(&new)?) } else { None };
        // First: in its other bridge it is never with less than it shall have.
        if let Some((mac, interface)) = filter {
            self.change_filter(&mac, &interface).await?;
        }
        if let Some((mac, interface)) = moves {
            self.move_interface(&mac, &interface).await?;
        }
        if let Some((interface, up)) = link {
            self.set_link(&interface, up, Affects { live: true, config: false }).await?;
        }
        if let Some(policy) = policy {
            self.tune_like(&policy).await?;
        }
        if let Some((stored, def)) = stored {
            self.put(stored, def).await?;
            self.announce_lifecycle(Lifecycle::DefinedUpdated, None, None);
        }
        Ok(())
    }

    /// Nothing, if all is as it shall be.
    ///
    /// # Errors
    /// When something else would change, which the running machine cannot.
    fn updated(&self, parsed: &Parsed<Device>) -> Result<Updated, Error> {
        let new = &parsed.value;
        let def = translate::with_aliases(&self.running()?.live.def);
        let named = Named::Like(Box::new(new.clone()));
        let key = named.key(&def);
        let old = key.as_ref().and_then(|key| key.find(&def));
        let old = old.ok_or_else(|| self.no_device(&def, &named))?;
        let changes = device::changes(&old, new);
        let (old, new) = match (&old, new) {
            (Device::Interface(old), Device::Interface(new)) => (old, new),
            (_, Device::Disk(new)) if changes == ["error_policy"] => {
                let mut def = self.running()?.live.def.clone();
                let key = Key::of_disk(new);
                if let Some(disk) = def.devices.disks.iter_mut().find(|disk| key.is_disk(disk)) {
                    take_error_policies(disk, new);
                }
                return Ok(Updated { policy: Some(def), ..Updated::default() });
            }
            _ => {
                let other = changes.iter().find(|change| **change != "error_policy");
                return other.map_or_else(|| Ok(Updated::default()), |change| Err(fixed(change)));
            }
        };
        if let Some(change) =
            changes.iter().find(|change| !matches!(**change, "link" | "source" | "filterref"))
        {
            return Err(fixed(change));
        }
        let name = old.mac_address().map(|mac| mac.to_string()).unwrap_or_default();
        let moves = if changes.contains(&"source") {
            check_movable(old, new)?;
            Some((name.clone(), new.clone()))
        } else {
            None
        };
        if let Some(key) = key.filter(|_| changes.contains(&"filterref")) {
            // What it says is looked at as in a definition.
            device::replaced(&def, &key, parsed, &mut NewIds)?;
        }
        let filter = changes.contains(&"filterref").then(|| (name.clone(), new.clone()));
        let link = (is_up(old) != is_up(new)).then(|| (name, is_up(new)));
        Ok(Updated { moves, filter, link, policy: None })
    }

    /// The same device in its place, with all that its description says.
    fn stored_with_update(&self, new: &Parsed<Device>) -> Result<(StoredDomain, DomainDef), Error> {
        let old = self.stored("it has no definition to change")?;
        let named = Named::Like(Box::new(new.value.clone()));
        let key = self.stored_key(&old.def, &named)?;
        let def = device::replaced(&old.def, &key, new, &mut NewIds)?;
        Ok((next(&old.stored, &def), def))
    }
}

fn fixed(change: &str) -> Error {
    let text = format!(
        "{change} cannot be changed while the guest runs; --config changes it for the next start"
    );
    Error::new(Code::Unsupported, text)
}
