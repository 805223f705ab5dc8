//! What no single element can see: the domain's type, and names and addresses that must be unique.

use std::collections::BTreeMap;

use crate::cursor::{Cursor, elements, plain_name, quote};
use crate::diagnostic::Kind;
use crate::domain::{DomainDef, DomainType};

pub(crate) fn check_domain(def: &DomainDef, at: Cursor<'_>) {
    if def.kind != DomainType::Kvm {
        let mut report = at.at_attribute("type");
        report.expected = Some("type='kvm'".to_owned());
        report.report(
            Kind::Unsupported,
            format!("Manor runs its guests on KVM only, not on {}", def.kind),
        );
    }
    if let (Some(max), size) = (&def.max_memory, def.memory.size)
        && max.size < size
        && let Some(at) = at.child("maxMemory")
    {
        at.error(Kind::Invalid, "<maxMemory> is less than <memory>".to_owned());
    }
    if def.current_memory.is_some_and(|current| current > def.memory.size)
        && let Some(at) = at.child("currentMemory")
    {
        at.error(Kind::Invalid, "<currentMemory> is more than <memory>".to_owned());
    }
    if let Some(devices) = at.child("devices") {
        check_unique(devices);
    }
}

/// Aliases, MACs, boot orders, disk names, controllers and addresses name one device each.
fn check_unique(devices: Cursor<'_>) {
    let mut seen = Seen::default();
    for device in
        elements(devices.node()).filter_map(|node| Some((plain_name(node)?, devices.of(node))))
    {
        let (kind, at) = device;
        seen.attribute(at, "alias", "name", "alias");
        seen.attribute(at, "boot", "order", "boot order");
        match kind {
            "disk" => seen.attribute(at, "target", "dev", "disk name"),
            "interface" => seen.attribute(at, "mac", "address", "MAC address"),
            "controller" => {
                if let (Some(of), Some(index)) = (at.attribute("type"), at.attribute("index")) {
                    seen.note(at, "index", "controller", format!("{of} {index}"), index);
                }
            }
            _ => {}
        }
        seen.address(at, kind);
    }
}

/// Where each thing was seen first.
#[derive(Default)]
struct Seen(BTreeMap<(&'static str, String), u32>);

impl Seen {
    fn attribute(
        &mut self,
        device: Cursor<'_>,
        child: &'static str,
        name: &str,
        what: &'static str,
    ) {
        let Some(at) = device.child(child) else { return };
        let Some(value) = at.attribute(name) else { return };
        self.note(at, name, what, value.to_ascii_lowercase(), value);
    }

    fn address(&mut self, device: Cursor<'_>, kind: &str) {
        let Some(at) = device.child("address") else { return };
        let Some(of) = at.attribute("type") else { return };
        let part = |name| at.attribute(name).map_or(Some(0), number);
        let key = match of {
            "pci"
                if ["bus", "slot", "function"].iter().any(|name| at.attribute(name).is_some()) =>
            {
                let parts = (part("domain"), part("bus"), part("slot"), part("function"));
                let (Some(domain), Some(bus), Some(slot), Some(function)) = parts else { return };
                format!("pci {domain:04x}:{bus:02x}:{slot:02x}.{function:x}")
            }
            "drive" => {
                let bus = device
                    .child("target")
                    .and_then(|target| target.attribute("bus"))
                    .unwrap_or(kind);
                let parts = (part("controller"), part("bus"), part("target"), part("unit"));
                let (Some(controller), Some(drive_bus), Some(target), Some(unit)) = parts else {
                    return;
                };
                format!("{bus} {controller}:{drive_bus}:{target}:{unit}")
            }
            "virtio-serial" => {
                let (Some(controller), Some(port)) = (part("controller"), part("port")) else {
                    return;
                };
                format!("virtio-serial {controller}:{port}")
            }
            _ => return,
        };
        self.note(at, "", "address", key.clone(), &key);
    }

    fn note(
        &mut self,
        at: Cursor<'_>,
        attribute: &str,
        what: &'static str,
        key: String,
        shown: &str,
    ) {
        let line = at.line();
        if let Some(first) = self.0.insert((what, key.clone()), line) {
            self.0.insert((what, key), first);
            let message = format!("the {what} {} is taken already, on line {first}", quote(shown));
            match attribute {
                "" => at.error(Kind::Invalid, message),
                name => at.attribute_error(name, Kind::Invalid, message),
            }
        }
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
