//! Networks: with their bridges' names, and the addresses that they give to whom.

use std::path::Path;

use xml::NetworkDef;

use super::carry_out::Deed;
use super::judge::Judge;
use super::{ImportDocument, Judgement};
use crate::network::NetworkRef;
use crate::translate::{NewIds, invalid};

impl Judge<'_> {
    pub(super) fn network(&self, document: &ImportDocument) -> (Judgement, Option<Deed>) {
        let mut def = match NetworkDef::parse(&document.xml) {
            Ok(parsed) => parsed.value,
            Err(error) => {
                return (Judgement::of(document, None).refuse_as(invalid(error)), None);
            }
        };
        let written = def.clone();
        def.fill_defaults(&mut NewIds);
        let (name, uuid) = (def.name.to_string(), def.uuid.unwrap_or_default());
        let mut judgement = Judgement { name: name.clone(), ..Judgement::of(document, Some(uuid)) };
        let networks = &self.node.networks;
        if let Ok(known) = networks.find(&NetworkRef::from(uuid)) {
            let now = known.now();
            let stored = now.stored.as_deref().and_then(|xml| NetworkDef::parse_stored(xml).ok());
            if now.view.name != name || stored.is_none_or(|stored| stored.value != def) {
                let reason = format!(
                    "there is a network {:?} with this UUID, and it is defined otherwise: compare `manor \
                     net-dumpxml {}`, and undefine it to take this one",
                    now.view.name, now.view.name
                );
                return (judgement.refuse(reason), None);
            }
            if document.autostart && !now.view.autostart {
                judgement.change("it is marked to start with the host".to_owned());
                return (judgement.accept(), Some(Deed::NetworkAutostart { uuid }));
            }
            return (judgement.present(), None);
        }
        let replaced = networks.untouched_default().filter(|known| known.now().view.name == name);
        if let Err(error) = networks.may_define(&def, replaced.as_ref()) {
            return (judgement.refuse_as(error), None);
        }
        if replaced.is_some() {
            judgement.change(format!(
                "it takes the place of the network {name:?} that Manor came with, which nobody has changed"
            ));
        }
        if written.mac != def.mac {
            judgement.change("its bridge gets a MAC address".to_owned());
        }
        self.bridge_in_use(&def, &mut judgement);
        let (def, autostart) = (Box::new(def), document.autostart);
        (judgement.accept(), Some(Deed::Network { def, autostart, replaced }))
    }

    fn bridge_in_use(&self, def: &NetworkDef, judgement: &mut Judgement) {
        let Some(bridge) = def.bridge_name() else { return };
        let exists = Path::new("/sys/class/net").join(bridge).exists();
        if def.is_foreign_bridge() {
            if !exists {
                judgement.note(format!("this host has no bridge {bridge:?} now"));
            }
        } else if exists && !self.node.networks.has_bridge(bridge) {
            judgement.note(format!(
                "this host has a bridge {bridge:?} now, of libvirt's network as it seems: before `manor \
                 net-start {0}`, end that with `virsh net-destroy {0}`, and keep it from coming back with \
                 `virsh net-autostart {0} --disable`",
                def.name
            ));
        }
    }
}
