//! Pools: their volumes stay where they are.

use uuid::Uuid;
use xml::PoolDef;

use super::carry_out::Deed;
use super::judge::Judge;
use super::{ImportDocument, Judgement};
use crate::storage::PoolRef;
use crate::translate::invalid;

impl Judge<'_> {
    pub(super) fn pool(&self, document: &ImportDocument) -> (Judgement, Option<Deed>) {
        let mut def = match PoolDef::parse(&document.xml) {
            Ok(parsed) => parsed.value,
            Err(error) => {
                return (Judgement::of(document, None).refuse_as(invalid(error)), None);
            }
        };
        def.fill_defaults(Uuid::new_v4);
        let (name, uuid) = (def.name.to_string(), def.uuid.unwrap_or_default());
        let mut judgement = Judgement { name: name.clone(), ..Judgement::of(document, Some(uuid)) };
        // Of the moment, and of no definition.
        (def.capacity, def.allocation, def.available) = (None, None, None);
        if let Err(error) = self.node.pools.may_define(&def) {
            return (judgement.refuse(error.message), None);
        }
        let known = self.node.pools.find(&PoolRef(uuid.to_string())).ok();
        let Some(known) = known else {
            let autostart = document.autostart;
            return (judgement.accept(), Some(Deed::Pool { def: Box::new(def), autostart }));
        };
        if known.now().def != def {
            let reason = format!(
                "there is a pool {name:?} with this UUID, and it is defined otherwise: compare `manor \
                 pool-dumpxml {name}`, and undefine it to take this one"
            );
            return (judgement.refuse(reason), None);
        }
        if document.autostart && !known.view().autostart {
            judgement.change("it is marked to start with the host".to_owned());
            return (judgement.accept(), Some(Deed::PoolAutostart { uuid }));
        }
        (judgement.present(), None)
    }
}
