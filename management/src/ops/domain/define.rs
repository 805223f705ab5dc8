//! Store, forget, rename definitions; mark them for autostart.

use crate::auth::Access;
use crate::domain::{DomainId, DomainRef};
use crate::error::{Error, Problem};
use crate::manager::{Context, Operation};

/// What [`DefineDomain`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defined {
    pub domain: DomainId,
    /// An existing definition was replaced.
    pub updated: bool,
    /// Things accepted and left out.
    pub warnings: Vec<Problem>,
}

/// Store a definition (virDomainDefineXML). A definition with the UUID of an existing domain
/// replaces that domain's; a running domain goes on as it is until its next start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefineDomain {
    /// libvirt domain XML.
    pub xml: String,
    /// Check everything and store nothing.
    pub check_only: bool,
}

impl Operation for DefineDomain {
    type Output = Defined;
    const NAME: &'static str = "domain.define";
    const ACCESS: Access = Access::Write;

    async fn run(self, cx: &Context) -> Result<Defined, Error> {
        cx.pending()
    }
}

/// Forget a definition (virDomainUndefine). A running domain becomes transient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndefineDomain {
    pub domain: DomainRef,
}

impl Operation for UndefineDomain {
    type Output = ();
    const NAME: &'static str = "domain.undefine";
    const ACCESS: Access = Access::Write;

    async fn run(self, cx: &Context) -> Result<(), Error> {
        cx.pending()
    }
}

/// Give an inactive domain another name (virDomainRename).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenameDomain {
    pub domain: DomainRef,
    pub name: String,
}

impl Operation for RenameDomain {
    type Output = ();
    const NAME: &'static str = "domain.rename";
    const ACCESS: Access = Access::Write;

    async fn run(self, cx: &Context) -> Result<(), Error> {
        cx.pending()
    }
}

/// Start the domain when the host boots, or no longer do (virDomainSetAutostart).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAutostart {
    pub domain: DomainRef,
    pub autostart: bool,
}

impl Operation for SetAutostart {
    type Output = ();
    const NAME: &'static str = "domain.set-autostart";
    const ACCESS: Access = Access::Write;

    async fn run(self, cx: &Context) -> Result<(), Error> {
        cx.pending()
    }
}
