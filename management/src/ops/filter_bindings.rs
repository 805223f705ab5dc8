//! Filters as they are bound to interfaces of running guests. Nobody makes or removes a binding by
//! itself: an interface has one for as long as it is there and its definition names a filter.

use std::fmt::Write as _;

use xml::device::interface::Interface;

use crate::auth::{Access, Subject};
use crate::error::{Code, Error};
use crate::host::escape;
use crate::manager::{Context, Operation};
use crate::registry::Attached;

/// A filter, and the tap that it is in force at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterBinding {
    pub device: String,
    pub filter: String,
    /// libvirt's filter binding XML.
    pub xml: String,
}

/// All of them, by their taps (virConnectListAllNWFilterBindings).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFilterBindings;

impl Operation for ListFilterBindings {
    type Output = Vec<FilterBinding>;
    const NAME: &'static str = "network.filter-bindings";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<Vec<FilterBinding>, Error> {
        let all = cx.node.attached_where(|interface| interface.filterref.is_some());
        let mut bindings: Vec<_> = all.iter().filter_map(binding).collect();
        bindings.sort_by(|one, other| one.device.cmp(&other.device));
        Ok(bindings)
    }
}

/// The one of a tap (virNWFilterBindingLookupByPortDev).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeFilterBinding {
    pub device: String,
}

impl Operation for DescribeFilterBinding {
    type Output = FilterBinding;
    const NAME: &'static str = "network.filter-binding";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Other("filter binding", self.device.as_str().into())
    }

    async fn run(self, cx: &Context) -> Result<FilterBinding, Error> {
        let is_it = |interface: &Interface| device(interface) == Some(self.device.as_str());
        let found = cx.node.attached_where(is_it);
        found.iter().find_map(binding).ok_or_else(|| {
            let text = format!("no filter is bound to an interface {:?}", self.device);
            Error::new(Code::NotFound, text)
        })
    }
}

fn device(interface: &Interface) -> Option<&str> {
    interface.target.as_ref()?.dev.as_deref()
}

fn binding(Attached { domain, uuid, interface }: &Attached) -> Option<FilterBinding> {
    let (device, filter) = (device(interface)?, interface.filterref.as_ref()?);
    let mut xml = format!(
        "<filterbinding>\n  <owner>\n    <name>{}</name>\n    <uuid>{uuid}</uuid>\n  </owner>\n  \
         <portdev name='{}'/>\n  <mac address='{}'/>\n",
        escape(domain),
        escape(device),
        interface.mac_address()?,
    );
    let name = escape(&filter.filter);
    if filter.parameters.is_empty() {
        let _ = writeln!(xml, "  <filterref filter='{name}'/>");
    } else {
        let _ = writeln!(xml, "  <filterref filter='{name}'>");
        for parameter in &filter.parameters {
            let (name, value) = (escape(&parameter.name), escape(&parameter.value));
            let _ = writeln!(xml, "    <parameter name='{name}' value='{value}'/>");
        }
        xml.push_str("  </filterref>\n");
    }
    xml.push_str("</filterbinding>\n");
    Some(FilterBinding { device: device.to_owned(), filter: filter.filter.clone(), xml })
}
