//! Questions about domains. None waits for a VMM.

use std::sync::Arc;

use crate::auth::{Access, Scope, Subject};
use crate::domain::channels::Frozen;
use crate::domain::handle::View;
use crate::domain::link;
use crate::domain::listing::Listed;
use crate::domain::{
    Affects, DiskRow, DomainDetails, DomainRef, DomainSummary, InterfaceRow, State,
};
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};
use crate::translate::{self, migratable::migratable};
use xml::DomainDef;
use xml::device::disk::{Disk, Location};
use xml::device::graphics::Graphics;
use xml::device::interface::Interface;

/// Words a list can be filtered by.
const STATES: [&str; 6] = ["running", "paused", "in shutdown", "shut off", "crashed", "no state"];

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListDomains {
    pub filter: DomainFilter,
    /// Also how long each was on host CPUs, for which every process is looked at; else that is 0.
    pub cpu_times: bool,
}

impl Operation for ListDomains {
    type Output = Vec<Arc<DomainSummary>>;
    const NAME: &'static str = "domain.list";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domains
    }

    fn narrow(mut all: Self::Output, scope: &Scope) -> Option<Self::Output> {
        all.retain(|domain| scope.has(domain.uuid, &domain.name));
        Some(all)
    }

    async fn run(self, cx: &Context) -> Result<Self::Output, Error> {
        let filter = &self.filter;
        for word in &filter.states {
            if !STATES.contains(&word.as_str()) {
                let text = format!("there is no state {word:?}; there are {}", STATES.join(", "));
                return Err(Error::new(Code::InvalidArgument, text));
            }
        }
        let all = cx.node.listed();
        let found = all.iter().filter(|row| filter.admits(&row.summary));
        let shown = |row: &Listed| if self.cpu_times { row.timed() } else { row.summary.clone() };
        Ok(found.map(shown).collect())
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

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<DomainSummary, Error> {
        Ok(cx.find(&self.domain)?.view().summary())
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

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<DomainDetails, Error> {
        let view = cx.find(&self.domain)?.view();
        let summary = view.summary();
        Ok(details(cx, &view, summary))
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

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<State, Error> {
        Ok(cx.find(&self.domain)?.view().state)
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

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<String, Error> {
        Ok(without_secrets(definition(cx, &self.domain, self.inactive)?).to_xml())
    }
}

/// The definition with its secrets; otherwise as [`DumpXml`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpSecureXml {
    pub domain: DomainRef,
    pub inactive: bool,
    /// As another host would take it up (`VIR_DOMAIN_XML_MIGRATABLE`).
    pub migratable: bool,
}

impl Operation for DumpSecureXml {
    type Output = String;
    const NAME: &'static str = "domain.dump-secure-xml";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let def = definition(cx, &self.domain, self.inactive)?;
        if !self.migratable {
            return Ok(def.to_xml());
        }
        let view = cx.find(&self.domain)?.view();
        let started = started_from(&view).filter(|_| !self.inactive);
        let started = started.unwrap_or_else(|| def.clone());
        Ok(migratable(def, &started).to_xml())
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

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<DiskRow>, Error> {
        let def = definition(cx, &self.domain, self.inactive)?;
        Ok(def.devices.disks.iter().map(disk_row).collect())
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

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<InterfaceRow>, Error> {
        let def = definition(cx, &self.domain, self.inactive)?;
        Ok(def.devices.interfaces.iter().map(interface_row).collect())
    }
}

impl DomainFilter {
    /// Whether it is one of those that are meant.
    #[must_use]
    pub fn admits(&self, domain: &DomainSummary) -> bool {
        let either = |wanted: bool, other: bool, is: bool| wanted == other || wanted == is;
        either(self.active, self.inactive, domain.state.is_active())
            && either(self.persistent, self.transient, domain.persistent)
            && either(self.autostart, self.no_autostart, domain.autostart)
            && (self.states.is_empty()
                || self.states.iter().any(|word| word == domain.state.name()))
    }
}

fn details(cx: &Context, view: &View, summary: DomainSummary) -> DomainDetails {
    let def = view.current();
    let live = view.live.as_ref();
    let stored = view.definition.as_ref().map(|definition| &definition.stored);
    let platform = live.map(|live| live.record.platform).or(stored.map(|stored| stored.platform));
    let pending = live
        .zip(stored)
        .is_some_and(|(live, stored)| live.record.definition.trim_end() != stored.xml.trim_end());
    let uptime = live.map(|live| {
        let age = jiff::Timestamp::now().duration_since(live.record.started);
        u64::try_from(age.as_millis()).unwrap_or(0)
    });
    let mut warnings = live.map(|live| live.record.degraded.clone()).unwrap_or_default();
    warnings.extend(live.and_then(|live| live.record.frozen).map(|frozen| match frozen {
        Frozen::Held => "the guest's file systems are frozen; domfsthaw thaws them".to_owned(),
        Frozen::Asked => "the guest's file systems may be frozen; domfsthaw thaws them".to_owned(),
    }));
    warnings.extend(cx.degraded.iter().cloned());
    DomainDetails {
        summary,
        os_type: "hvm".to_owned(),
        description: def.and_then(|def| def.description.clone()),
        machine: def.and_then(|def| def.os.kind.machine.clone()).unwrap_or_default(),
        platform_version: platform.unwrap_or_default(),
        turn: stored.map(|stored| stored.turn).unwrap_or_default(),
        generation: stored.map(|stored| stored.generation),
        pending_changes: pending,
        uptime,
        pid: live.and_then(|live| live.record.process).map(|process| process.pid),
        consoles: def.map(super::console::consoles).unwrap_or_default(),
        sandbox: live.map(|live| live.sandbox.clone()).unwrap_or_default(),
        last_exit: view.last_exit.clone(),
        warnings,
    }
}

fn definition(cx: &Context, domain: &DomainRef, inactive: bool) -> Result<DomainDef, Error> {
    let view = cx.find(domain)?.view();
    let stored = view.definition.as_ref().map(|definition| definition.def.clone());
    let found = if inactive {
        // A transient domain's inactive definition is what it was started from.
        stored.or_else(|| started_from(&view))
    } else {
        let mut current = view.current().cloned();
        if let Some((def, live)) = current.as_mut().zip(view.live.as_ref()) {
            def.id = i32::try_from(live.record.id).ok();
            view.show_channels(def);
            view.show_mirrors(def);
        }
        current
    };
    let missing =
        || Error::new(Code::NotFound, format!("domain {:?} has no definition", view.name));
    found.ok_or_else(missing)
}

fn started_from(view: &View) -> Option<DomainDef> {
    translate::stored(&view.live.as_ref()?.record.definition).ok()
}

/// The definition that a question with these flags is about.
pub(super) fn definition_of(view: &View, affects: Affects) -> Result<&DomainDef, Error> {
    let state =
        |text: &str| Error::new(Code::InvalidState, format!("domain {:?} {text}", view.name));
    let stored = view.definition.as_ref().map(|definition| &definition.def);
    match (affects.live, affects.config) {
        (true, true) => {
            let text = "a question is about the live definition or the stored one, not both";
            Err(Error::new(Code::InvalidArgument, text))
        }
        (false, true) => stored.ok_or_else(|| state("is transient: it has no stored definition")),
        (true, false) => {
            view.live.as_ref().map(|live| &live.def).ok_or_else(|| state("is not running"))
        }
        (false, false) => view.current().ok_or_else(|| state("has no definition")),
    }
}

/// Passwords are for those who may change the definition.
pub(crate) fn without_secrets(mut def: DomainDef) -> DomainDef {
    for graphics in &mut def.devices.graphics {
        match graphics {
            Graphics::Vnc(vnc) => vnc.password = None,
            Graphics::Spice(spice) => spice.password = None,
            _ => {}
        }
    }
    def
}

/// What is behind a disk, in a word.
pub(crate) fn disk_source(disk: &Disk) -> Option<String> {
    match disk.location() {
        Location::File(path) | Location::Block(path) | Location::Dir(path) => {
            Some(path.display().to_string())
        }
        Location::Volume { pool, volume } => Some(format!("{pool}/{volume}")),
        // As virsh: what it is there, not where that is.
        Location::Network { source, .. } => source.name.clone(),
        Location::Other(_) | Location::Empty => None,
    }
}

pub(super) fn disk_row(disk: &Disk) -> DiskRow {
    DiskRow {
        kind: disk.kind().to_string(),
        device: disk.device().to_string(),
        target: disk.target.dev.clone(),
        source: disk_source(disk),
    }
}

pub(super) fn interface_row(interface: &Interface) -> InterfaceRow {
    let source = interface.source.as_ref();
    InterfaceRow {
        target: interface.target.as_ref().and_then(|target| target.dev.clone()),
        kind: interface.kind.to_string(),
        source: source.and_then(|s| s.network.clone().or(s.bridge.clone()).or(s.dev.clone())),
        model: interface.model.clone(),
        mac: interface.mac_address().map(|mac| mac.to_string()).unwrap_or_default(),
        link_up: link::is_up(interface),
    }
}
