//! What keeps a running guest in.

use crate::auth::{Access, Subject};
use crate::domain::{DomainRef, SecurityFact};
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};

/// What the process of a running domain may do (virDomainGetSecurityLabel has a part of it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSecurity {
    pub domain: DomainRef,
}

impl Operation for DomainSecurity {
    type Output = Vec<SecurityFact>;
    const NAME: &'static str = "domain.security";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<SecurityFact>, Error> {
        let view = cx.find(&self.domain)?.view();
        let process = view.live.as_ref().and_then(|live| Some((live.record.process?, live)));
        let Some((process, live)) = process else {
            let text = format!("domain {:?} is not running: there is no process", view.name);
            return Err(Error::new(Code::InvalidState, text));
        };
        let (layers, broker) = (live.sandbox.clone(), cx.node.broker.clone());
        let work = move || Ok(broker.confinement(process)?);
        let mut facts = crate::domain::actor::blocking(work).await?;
        if facts.is_empty() {
            let text = format!("domain {:?} has just ended", view.name);
            return Err(Error::new(Code::InvalidState, text));
        }
        facts.iter_mut().for_each(|fact| or_its_word(fact, &layers));
        facts.push(landlock(&layers));
        Ok(facts)
    }
}

/// Where the kernel shows a fact to root alone, what the process has said when it gave that up.
fn or_its_word(fact: &mut SecurityFact, layers: &[(String, String)]) {
    let name = match fact.name.as_str() {
        "Namespaces" => "namespaces",
        "Root directory" => "root",
        _ => return,
    };
    let Some((_, word)) = layers.iter().find(|(layer, _)| layer == name) else { return };
    if fact.value.starts_with("unknown") && !word.starts_with("no:") {
        fact.value = format!("{word} (its own word)");
        // A namespace of processes is made by the broker, where the host lets it.
        fact.confined = name != "namespaces" || word.split(',').any(|own| own == "pid");
    }
}

/// The kernel shows nobody which rules of Landlock hold: this is the process's own word.
fn landlock(layers: &[(String, String)]) -> SecurityFact {
    let layer = layers.iter().find(|(layer, _)| layer == "landlock");
    let text = layer.map_or("no", |(_, text)| text.as_str());
    let confined = layer.is_some() && !text.starts_with("no");
    SecurityFact { name: "Landlock".to_owned(), value: text.to_owned(), confined }
}
