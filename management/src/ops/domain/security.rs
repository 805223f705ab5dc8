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
        let layers = live.sandbox.clone();
        let work = move || {
            // Held, so that its number stays its own meanwhile.
            let held = process.open();
            Ok(held.map(|_held| crate::domain::security::facts(process.pid, &layers)))
        };
        let facts = crate::domain::actor::blocking(work).await?.unwrap_or_default();
        if facts.is_empty() {
            let text = format!("domain {:?} has just ended", view.name);
            return Err(Error::new(Code::InvalidState, text));
        }
        Ok(facts)
    }
}
