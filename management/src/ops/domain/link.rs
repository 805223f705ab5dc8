//! The cables of a domain's interfaces.

use crate::auth::{Access, Subject};
use crate::domain::handle::Act;
use crate::domain::{Affects, DomainRef};
use crate::error::Error;
use crate::manager::{Context, Operation};

/// Plug an interface's cable in, or pull it (what virsh does with virDomainUpdateDeviceFlags).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetLink {
    pub domain: DomainRef,
    /// Its MAC address, or the name of its tap.
    pub interface: String,
    pub up: bool,
    pub affects: Affects,
}

impl Operation for SetLink {
    type Output = ();
    const NAME: &'static str = "domain.set-link";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let Self { domain, interface, up, affects } = self;
        cx.act(&domain, Act::SetLink { interface, up, affects }).await
    }
}
