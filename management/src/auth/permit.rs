//! The one decision whether a caller may do what it asks for.

use super::{Access, Caller, Scope, Subject, Target};
use crate::error::{Code, Error};
use crate::manager::Context;

impl Context {
    pub(crate) fn permit(
        &self,
        caller: &Caller,
        operation: &str,
        needed: Access,
        subject: &Subject<'_>,
        target: Option<&Target>,
    ) -> Result<(), Error> {
        let has_access = has_access(caller, operation, needed);
        let permitted = has_access.and_then(|()| match &caller.scope {
            None => Ok(()),
            Some(scope) => self.in_scope(scope, operation, subject, target),
        });
        if permitted.as_ref().is_err_and(|error| error.code == Code::Denied) {
            tracing::warn!(caller = %caller.name, operation, "denied");
        }
        permitted
    }

    /// What is not in the scope is refused in the same words whether it exists or not.
    fn in_scope(
        &self,
        scope: &Scope,
        operation: &str,
        subject: &Subject<'_>,
        target: Option<&Target>,
    ) -> Result<(), Error> {
        let uuid = target.and_then(|target| target.uuid);
        let known = uuid.and_then(|uuid| self.node.get(uuid));
        let is_inside = known.is_some_and(|known| scope.has(known.uuid, &known.view().name));
        let what = match subject {
            Subject::Domains => return Ok(()),
            // A definition may replace one that is there, of the same domain; it makes none.
            Subject::Domain(_) | Subject::Document(_) if is_inside => return Ok(()),
            Subject::Domain(domain) if uuid.is_none() && scope.mentions(&domain.to_string()) => {
                // Said here: the operation would go on to suggest the names of others.
                let text = format!("there is no domain {:?}", domain.to_string());
                return Err(Error::new(Code::NotFound, text));
            }
            Subject::Domain(domain) => format!("domain {:?}", domain.to_string()),
            Subject::Document(_) => "a definition of another domain".to_owned(),
            Subject::Definition(defines, _) => format!("a definition of a {}", defines.kind()),
            Subject::Other(kind, name) => format!("{kind} {name:?}"),
            Subject::Node => "the node".to_owned(),
        };
        let text = format!("{operation} is about {what}, and this caller may reach {scope} only");
        Err(Error::new(Code::Denied, text))
    }
}

fn has_access(caller: &Caller, operation: &str, needed: Access) -> Result<(), Error> {
    if caller.access >= needed {
        return Ok(());
    }
    let text = format!(
        "{operation} needs {} access, and this connection grants {} access",
        needed.name(),
        caller.access.name()
    );
    Err(Error::new(Code::Denied, text))
}
