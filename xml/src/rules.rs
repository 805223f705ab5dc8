//! What no single element can see: the kind of guest, amounts that must agree, and names and addresses that are one
//! device's only.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::cursor::{Cursor, plain_name};
use crate::diagnostic::Kind;
use crate::domain::cpu::Topology;
use crate::domain::os::OsKind;
use crate::domain::{DomainDef, DomainType};
use crate::report::quote;

pub(crate) fn check_domain(def: &DomainDef, at: Cursor<'_>) {
    if def.title.as_ref().is_some_and(|title| title.contains('\n'))
        && let Some(title) = at.child("title")
    {
        title.error(Kind::Invalid, "a title is one line".to_owned());
    }
    check_kind(def, at);
    check_amounts(def, at);
    check_pins(at);
    if let Some(devices) = at.child("devices") {
        if let Some(boot) = at.child("os").and_then(|os| os.child("boot"))
            && devices.node().elements().any(|device| devices.of(device).child("boot").is_some())
        {
            let message =
                "the boot order is given here and by <boot order='…'/> of devices; choose one"
                    .to_owned();
            boot.error(Kind::Invalid, message);
        }
        check_devices(devices);
    }
}

fn check_kind(def: &DomainDef, at: Cursor<'_>) {
    // Of a made-up hypervisor, for those who have one: whether that is so, is known elsewhere.
    if !matches!(def.kind, DomainType::Kvm | DomainType::Test) {
        let mut report = at.at_attribute("type");
        report.expected = Some("type='kvm'".to_owned());
        report.report(
            Kind::Unsupported,
            format!("Manor runs its guests on KVM only, not on {}", def.kind),
        );
    }
    if def.os.kind.kind != OsKind::Hvm
        && let Some(kind) = at.child("os").and_then(|os| os.child("type"))
    {
        let mut report = kind.here();
        report.expected = Some("<type>hvm</type>".to_owned());
        report.report(
            Kind::Unsupported,
            format!("a KVM guest is a whole machine, not {}", def.os.kind.kind),
        );
    }
}

fn check_amounts(def: &DomainDef, at: Cursor<'_>) {
    if let Some(max) = &def.max_memory
        && max.size < def.memory.size
        && let Some(at) = at.child("maxMemory")
    {
        at.error(Kind::Invalid, "<maxMemory> is less than <memory>".to_owned());
    }
    if def.current_memory.is_some_and(|current| current > def.memory.size)
        && let Some(at) = at.child("currentMemory")
    {
        at.error(Kind::Invalid, "<currentMemory> is more than <memory>".to_owned());
    }
    let vcpus = def.vcpu.as_ref().map_or(1, |vcpu| u32::from(vcpu.max));
    let topology = def.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref());
    if let Some(threads) = topology.and_then(Topology::vcpus)
        && threads != vcpus
        && threads != 0
        && let Some(at) = at.child("cpu").and_then(|cpu| cpu.child("topology"))
    {
        let message = format!("the topology has {threads} vCPUs, and <vcpu> has {vcpus}");
        at.error(Kind::Invalid, message);
    }
}

/// One pin for each vCPU and I/O thread, and one I/O thread for each id.
fn check_pins(at: Cursor<'_>) {
    let mut seen = Seen::default();
    if let Some(tune) = at.child("cputune") {
        tune.children("vcpupin").for_each(|pin| seen.own_attribute(pin, "vcpu", "pin of vCPU"));
        tune.children("iothreadpin")
            .for_each(|pin| seen.own_attribute(pin, "iothread", "pin of I/O thread"));
    }
    if let Some(threads) = at.child("iothreadids") {
        threads
            .children("iothread")
            .for_each(|thread| seen.own_attribute(thread, "id", "I/O thread"));
    }
    if let Some(numa) = at.child("cpu").and_then(|cpu| cpu.child("numa")) {
        numa.children("cell").for_each(|cell| seen.own_attribute(cell, "id", "NUMA cell"));
    }
}

fn check_devices(devices: Cursor<'_>) {
    let mut seen = Seen::default();
    for node in devices.node().elements() {
        let (Some(kind), at) = (plain_name(node), devices.of(node)) else { continue };
        // A console repeats the serial port it shows, alias and address included.
        if kind == "console" {
            continue;
        }
        seen.attribute(at, "alias", "name", "alias");
        seen.attribute(at, "boot", "order", "boot order");
        match kind {
            "disk" => seen.attribute(at, "target", "dev", "disk name"),
            "interface" => seen.attribute(at, "mac", "address", MAC),
            "controller" => {
                // A USB 2 controller and its companions are one, and share an index.
                let companion =
                    at.attribute("model").is_some_and(|model| model.starts_with("ich9-"));
                if let (Some(of), Some(index), false) =
                    (at.attribute("type"), at.attribute("index"), companion)
                {
                    seen.note(at, Some("index"), "controller", format!("{of} {index}"));
                }
            }
            _ => {}
        }
        seen.address(at, kind);
    }
}

const MAC: &str = "MAC address";

/// Where (as offset) each thing was seen first.
#[derive(Default)]
struct Seen(BTreeMap<(&'static str, String), usize>);

impl Seen {
    fn attribute(
        &mut self,
        device: Cursor<'_>,
        child: &'static str,
        name: &str,
        what: &'static str,
    ) {
        if let Some(at) = device.child(child) {
            self.own_attribute(at, name, what);
        }
    }

    fn own_attribute(&mut self, at: Cursor<'_>, name: &str, what: &'static str) {
        if let Some(value) = at.attribute(name) {
            self.note(at, Some(name), what, value.to_ascii_lowercase());
        }
    }

    fn address(&mut self, device: Cursor<'_>, kind: &str) {
        let Some(at) = device.child("address") else { return };
        if let Some(key) = address_key(device, at, kind) {
            self.note(at, None, "address", key);
        }
    }

    fn note(&mut self, at: Cursor<'_>, attribute: Option<&str>, what: &'static str, key: String) {
        let shown = quote(&key);
        match self.0.entry((what, key)) {
            Entry::Vacant(free) => {
                free.insert(at.node().range().start);
            }
            Entry::Occupied(first) => {
                let report = attribute.map_or_else(|| at.here(), |name| at.at_attribute(name));
                let line = report.line_at(*first.get());
                let message = format!("the {what} {shown} is taken already, on line {line}");
                // A guest that bonds its interfaces may want this; libvirt lets it pass.
                if what == MAC {
                    report.warn(Kind::Invalid, message);
                } else {
                    report.report(Kind::Invalid, message);
                }
            }
        }
    }
}

/// What no two devices may share; `None` for addresses without a place, or of buses where sharing is meant.
fn address_key(device: Cursor<'_>, at: Cursor<'_>, kind: &str) -> Option<String> {
    let part = |name| at.attribute(name).map_or(Some(0), number);
    match at.attribute("type")? {
        "pci" => {
            ["bus", "slot", "function"].iter().find(|name| at.attribute(name).is_some())?;
            let (domain, bus) = (part("domain")?, part("bus")?);
            Some(format!("{domain:04x}:{bus:02x}:{:02x}.{:x}", part("slot")?, part("function")?))
        }
        "drive" if kind == "disk" => {
            let bus = device.child("target").and_then(|target| target.attribute("bus"))?;
            let (controller, drive_bus) = (part("controller")?, part("bus")?);
            Some(format!("{bus} {controller}:{drive_bus}:{}:{}", part("target")?, part("unit")?))
        }
        // Port 0 asks for any free one.
        "virtio-serial" => {
            let port = part("port").filter(|port| *port != 0)?;
            Some(format!("virtio-serial {}:{port}", part("controller")?))
        }
        _ => None,
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
