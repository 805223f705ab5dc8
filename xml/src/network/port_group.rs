//! `<portgroup>`: what interfaces of one kind have in common, and `<vlan>` of all that have no group.

use super::{ForwardMode, NetworkDef};
use crate::cursor::Cursor;
use crate::device::interface::{Bandwidth, Vlan};
use crate::diagnostic::Kind;
use crate::element::element;
use crate::report::quote;
use crate::value::YesNo;

element! {
    #[derive(Default)]
    pub struct PortGroup {
        attr name: String,
        /// That of interfaces that name none.
        attr default: Option<YesNo>,
        attr("trustGuestRxFilters") trust_guest_rx_filters: Option<YesNo>,
        /// Of each interface that has none of its own.
        child bandwidth: Option<Bandwidth>,
        child vlan: Option<Vlan>,
    }
    refuse ["virtualport"];
}

impl NetworkDef {
    /// The group of an interface that names `group`, or names none. An unknown name is an error.
    pub fn port_group(&self, group: Option<&str>) -> Result<Option<&PortGroup>, UnknownGroup> {
        let Some(name) = group else {
            return Ok(self.port_groups.iter().find(|group| group.default == Some(YesNo::Yes)));
        };
        self.port_groups.iter().find(|group| group.name == name).map(Some).ok_or(UnknownGroup)
    }

    pub(super) fn check_groups(&self, at: Cursor<'_>) {
        for (index, group) in at.children("portgroup").enumerate() {
            let Some(def) = self.port_groups.get(index) else { continue };
            let before = &self.port_groups[..index];
            if before.iter().any(|other| other.name == def.name) {
                let message = format!("there is a port group {} already", quote(&def.name));
                group.attribute_error("name", Kind::Invalid, message);
            }
            let is_default = |group: &PortGroup| group.default == Some(YesNo::Yes);
            if is_default(def) && before.iter().any(is_default) {
                let message = "another port group is the default already".to_owned();
                group.attribute_error("default", Kind::Invalid, message);
            }
        }
        if self.forward_mode() == Some(ForwardMode::Bridge) {
            return;
        }
        let groups = at.children("portgroup").filter_map(|group| group.child("vlan"));
        for vlan in at.child("vlan").into_iter().chain(groups) {
            let message = "VLANs are for a bridge of the host that tells them apart: \
                           <forward mode='bridge'/>";
            vlan.error(Kind::Unsupported, message.to_owned());
        }
    }
}

/// The network has no port group of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownGroup;
