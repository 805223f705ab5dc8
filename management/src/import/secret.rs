//! Secrets: by UUID, with their values.

use xml::SecretDef;

use super::carry_out::Deed;
use super::judge::Judge;
use super::{ImportDocument, Judgement};
use crate::secrets::SecretRef;
use crate::translate::invalid;

impl Judge<'_> {
    pub(super) fn secret(&self, document: &ImportDocument) -> (Judgement, Option<Deed>) {
        let def = match SecretDef::parse(&document.xml) {
            Ok(parsed) => parsed.value,
            Err(error) => {
                return (Judgement::of(document, None).refuse_as(invalid(error)), None);
            }
        };
        let usage = def.usage.as_ref().map(|usage| SecretRef::Usage(usage.kind, usage.id().into()));
        let mut judgement = Judgement::of(document, def.uuid);
        let Some(uuid) = def.uuid else {
            return (judgement.refuse("it has no <uuid>"), None);
        };
        let secret = SecretRef::Uuid(uuid);
        if let Ok(known) = self.secrets.xml(&secret) {
            let is_same = SecretDef::parse(&known).is_ok_and(|known| known.value == def);
            let value = document.value.clone().filter(|_| !self.secrets.has_value(&secret));
            return match (is_same, value) {
                (true, None) => (judgement.present(), None),
                (true, Some(value)) => {
                    judgement.change("its value is set, which it does not have yet".to_owned());
                    (judgement.accept(), Some(Deed::SecretValue { secret, value }))
                }
                (false, _) => {
                    let reason = format!(
                        "there is another secret with this UUID already: compare `secret-dumpxml \
                         {uuid}`, and undefine it to take this one"
                    );
                    (judgement.refuse(reason), None)
                }
            };
        }
        if let Some(taken) = usage.and_then(|usage| self.secrets.view(&usage).ok()) {
            let reason = format!(
                "secret {} is for the same use already: undefine it to take this one",
                taken.uuid
            );
            return (judgement.refuse(reason), None);
        }
        if document.value.is_none() {
            judgement
                .note(format!("it has no value yet: tell it with `virsh secret-set-value {uuid}`"));
        }
        let deed = Deed::Secret { def: Box::new(def), value: document.value.clone() };
        (judgement.accept(), Some(deed))
    }
}
