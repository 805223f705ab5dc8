//! What a domain needs of the host and is not there: it can be defined, and not started yet.

use std::path::Path;

use uuid::Uuid;
use xml::DomainDef;
use xml::device::disk::Location;
use xml::device::interface::InterfaceType;

use super::Judgement;
use super::domain::missing;
use super::judge::Judge;

impl Judge<'_> {
    pub(super) fn needs(&self, def: &DomainDef, uuid: Uuid, judgement: &mut Judgement) {
        let broker = &*self.node.broker;
        for disk in &def.devices.disks {
            match disk.location() {
                Location::File(path) | Location::Block(path) if missing(broker, path) => {
                    let (target, path) = (&disk.target.dev, path.display());
                    judgement.note(format!("the image of {target} is not there: {path}"));
                }
                Location::Volume { pool, .. } if !self.pools.contains(pool) => {
                    let target = &disk.target.dev;
                    judgement.note(format!("{target} is in pool {pool:?}, which is not here"));
                }
                _ => {}
            }
        }
        for interface in &def.devices.interfaces {
            let Some(source) = &interface.source else { continue };
            if let Some(network) = source.network.as_ref().filter(|it| !self.networks.contains(*it))
            {
                judgement
                    .note(format!("an interface is in network {network:?}, which is not here"));
            }
            let bridge = source.bridge.as_ref().filter(|_| interface.kind == InterfaceType::Bridge);
            let here = |name: &String| Path::new("/sys/class/net").join(name).exists();
            if let Some(bridge) = bridge.filter(|name| !here(name)) {
                judgement.note(format!("this host has no bridge {bridge:?} now"));
            }
        }
        self.same_addresses(def, uuid, judgement);
    }

    /// Two guests of one MAC address, in one network, are heard by turns.
    fn same_addresses(&self, def: &DomainDef, uuid: Uuid, judgement: &mut Judgement) {
        let of = |def: &DomainDef| {
            let interfaces = def.devices.interfaces.iter();
            interfaces
                .filter_map(xml::device::Interface::mac_address)
                .map(|mac| mac.to_string())
                .collect()
        };
        let mine: Vec<String> = of(def);
        for other in self.node.all() {
            let view = other.view();
            let Some(definition) = view.definition.as_ref().filter(|_| view.uuid != uuid) else {
                continue;
            };
            let theirs: Vec<String> = of(&definition.def);
            if let Some(mac) = mine.iter().find(|mac| theirs.contains(mac)) {
                judgement.note(format!(
                    "domain {:?} has the same MAC address, {mac}: they cannot run at once in one network",
                    view.name
                ));
            }
        }
    }
}
