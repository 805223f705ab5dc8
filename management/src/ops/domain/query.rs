//! Questions about domains. None waits for a VMM.

use crate::auth::Access;
use crate::domain::{DiskRow, DomainDetails, DomainRef, DomainSummary, InterfaceRow, State};
use crate::error::Error;
use crate::manager::{Context, Operation};

/// Which domains a list shall hold. Of each pair, none set and both set mean the same: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DomainFilter {
    pub active: bool,
    pub inactive: bool,
    pub persistent: bool,
    pub transient: bool,
    pub autostart: bool,
    pub no_autostart: bool,
    /// Words of [`State::name`]; any if empty.
    pub states: Vec<String>,
}

/// All domains with their states, in one reply (virConnectListAllDomains). Active ones come first,
/// by id, then the others by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListDomains {
    pub filter: DomainFilter,
}

impl Operation for ListDomains {
    type Output = Vec<DomainSummary>;
    const NAME: &'static str = "domain.list";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<Vec<DomainSummary>, Error> {
        cx.pending()
    }
}

/// Find one domain (virDomainLookupBy…).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindDomain {
    pub domain: DomainRef,
}

impl Operation for FindDomain {
    type Output = DomainSummary;
    const NAME: &'static str = "domain.find";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<DomainSummary, Error> {
        cx.pending()
    }
}

/// Everything about one domain (virDomainGetInfo and its sisters).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeDomain {
    pub domain: DomainRef,
}

impl Operation for DescribeDomain {
    type Output = DomainDetails;
    const NAME: &'static str = "domain.describe";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<DomainDetails, Error> {
        cx.pending()
    }
}

/// State with its reason (virDomainGetState).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetDomainState {
    pub domain: DomainRef,
}

impl Operation for GetDomainState {
    type Output = State;
    const NAME: &'static str = "domain.state";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<State, Error> {
        cx.pending()
    }
}

/// The definition as XML (virDomainGetXMLDesc): the live one of a running domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpXml {
    pub domain: DomainRef,
    /// The stored definition, also while the domain runs.
    pub inactive: bool,
}

impl Operation for DumpXml {
    type Output = String;
    const NAME: &'static str = "domain.dump-xml";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<String, Error> {
        cx.pending()
    }
}

/// The definition with its secrets; otherwise as [`DumpXml`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpSecureXml {
    pub domain: DomainRef,
    pub inactive: bool,
}

impl Operation for DumpSecureXml {
    type Output = String;
    const NAME: &'static str = "domain.dump-secure-xml";
    const ACCESS: Access = Access::Write;

    async fn run(self, cx: &Context) -> Result<String, Error> {
        cx.pending()
    }
}

/// Disks (domblklist).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListDisks {
    pub domain: DomainRef,
    pub inactive: bool,
}

impl Operation for ListDisks {
    type Output = Vec<DiskRow>;
    const NAME: &'static str = "domain.list-disks";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<Vec<DiskRow>, Error> {
        cx.pending()
    }
}

/// Network interfaces (domiflist).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListInterfaces {
    pub domain: DomainRef,
    pub inactive: bool,
}

impl Operation for ListInterfaces {
    type Output = Vec<InterfaceRow>;
    const NAME: &'static str = "domain.list-interfaces";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<Vec<InterfaceRow>, Error> {
        cx.pending()
    }
}
