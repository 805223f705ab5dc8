//! Replace one domain's definition, seen as it was.

use uuid::Uuid;

use super::define::{Defined, identity};
use crate::auth::{Access, Subject};
use crate::domain::handle::{Act, Definition};
use crate::domain::{DomainRef, Turn};
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};
use crate::store::StoredDomain;
use crate::translate::NewIds;
use crate::translate::{self, Checked};

/// Replace the definition of a domain that has one. The document is of that domain: its name is
/// the domain's, and so is its UUID, if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedefineDomain {
    pub domain: DomainRef,
    /// libvirt domain XML.
    pub xml: String,
    /// Refuse if the stored definition is no longer of this generation.
    pub if_generation: Option<u64>,
}

impl Operation for RedefineDomain {
    type Output = Defined;
    const NAME: &'static str = "domain.redefine";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Defined, Error> {
        let handle = cx.find(&self.domain)?;
        let current = handle.view().name;
        let Checked { def, warnings } =
            translate::define(&self.xml, &mut IdsOf(handle.uuid), &cx.host())?;
        let domain = identity(&def)?;
        if domain.uuid != handle.uuid || domain.name != current {
            let text = format!(
                "the document is of domain {:?} ({}), and the definition to replace is of {current:?} ({})",
                domain.name, domain.uuid, handle.uuid
            );
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let stored = StoredDomain {
            uuid: domain.uuid,
            name: domain.name.clone(),
            generation: 1,
            autostart: false,
            turn: Turn::default(),
            platform: translate::PLATFORM,
            xml: def.to_xml(),
        };
        let definition = Box::new(Definition { stored, def });
        handle.act(Act::Redefine(definition, self.if_generation), cx.deadline()).await?;
        Ok(Defined { domain, updated: true, warnings })
    }
}

/// A document without a UUID is of the domain it is meant for.
struct IdsOf(Uuid);

impl xml::Identity for IdsOf {
    fn uuid(&mut self) -> Uuid {
        self.0
    }

    fn mac(&mut self) -> [u8; 3] {
        NewIds.mac()
    }
}
