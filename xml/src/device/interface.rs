//! `<interface>`: a guest's network card and what it is connected to.

use std::path::PathBuf;

use crate::cursor::Cursor;
use crate::device::address::DeviceAddress;
use crate::device::disk::DeviceBoot;
use crate::diagnostic::Kind;
use crate::element::element;
use crate::mac::MacAddress;
use crate::value::{OnOff, YesNo, names};

names! {
    pub enum InterfaceType {
        Network = "network", Bridge = "bridge", Ethernet = "ethernet", User = "user", Direct = "direct",
        Internal = "internal", VhostUser = "vhostuser", Mcast = "mcast", Client = "client", Server = "server",
        Udp = "udp", Hostdev = "hostdev", Vdpa = "vdpa", Null = "null", Vds = "vds",
    }
    pub enum DirectMode { Vepa = "vepa", Private = "private", Bridge = "bridge", Passthrough = "passthrough" }
    pub enum InterfaceBackend { Qemu = "qemu", Vhost = "vhost", Kvm = "kvm", Vfio = "vfio", Xen = "xen" }
    pub enum TxMode { IoThread = "iothread", Timer = "timer" }
    pub enum LinkState { Up = "up", Down = "down" }
    pub enum MacType { Generated = "generated", Static = "static" }
    pub enum NativeMode { Tagged = "tagged", Untagged = "untagged" }
    pub enum VirtualPortType {
        Qbg = "802.1Qbg", Qbh = "802.1Qbh", OpenVSwitch = "openvswitch", Midonet = "midonet",
    }
    pub enum MacTable { Kernel = "kernel", Libvirt = "libvirt" }
    pub enum IpFamily { Ipv4 = "ipv4", Ipv6 = "ipv6" }
    pub enum UserProtocol { Tcp = "tcp", Udp = "udp" }
    pub enum UserBackend { Default = "default", Passt = "passt" }
}

element! {
    pub struct Interface {
        attr("type") kind: InterfaceType,
        attr("trustGuestRxFilters") trust_guest_rx_filters: Option<YesNo>,
        child mac: Option<Mac>,
        child source: Option<InterfaceSource>,
        child("ip") ips: Vec<IpAddress>,
        child("portForward") port_forwards: Vec<UserForward>,
        child vlan: Option<Vlan>,
        child("virtualport") virtual_port: Option<VirtualPort>,
        child bandwidth: Option<Bandwidth>,
        leaf("port" "isolated") isolated: Option<YesNo>,
        leaf("script" "path") script: Option<PathBuf>,
        leaf("downscript" "path") down_script: Option<PathBuf>,
        child target: Option<InterfaceTarget>,
        leaf("model" "type") model: Option<String>,
        child driver: Option<InterfaceDriver>,
        child backend: Option<Backend>,
        child filterref: Option<FilterRef>,
        child tune: Option<Tune>,
        leaf("link" "state") link: Option<LinkState>,
        leaf("mtu" "size") mtu: Option<u32>,
        child coalesce: Option<Coalesce>,
        child boot: Option<DeviceBoot>,
        child rom: Option<Rom>,
        leaf("alias" "name") alias: Option<String>,
        leaf("acpi" "index") acpi_index: Option<u32>,
        child address: Option<DeviceAddress>,
    }
    refuse ["@managed", "guest", "route", "backenddomain", "teaming"];
    check Interface::check;
}

/// What each type of interface needs in its `<source>`, and what else it may have there.
const SOURCES: &[(InterfaceType, &[&str], &[&str])] = &[
    (InterfaceType::Network, &["network"], &["portgroup", "portid", "bridge"]),
    (InterfaceType::Bridge, &["bridge"], &["macTableManager"]),
    (InterfaceType::Direct, &["dev"], &["mode"]),
    (InterfaceType::Internal, &["name"], &[]),
    (InterfaceType::VhostUser, &["path"], &["type", "mode"]),
    (InterfaceType::Vdpa, &["dev"], &[]),
    (InterfaceType::Ethernet, &[], &[]),
    (InterfaceType::Null, &[], &[]),
    (InterfaceType::User, &[], &["dev"]),
    (InterfaceType::Mcast, &["address", "port"], &[]),
    (InterfaceType::Client, &["address", "port"], &[]),
    (InterfaceType::Server, &["port"], &["address"]),
    (InterfaceType::Udp, &["address", "port"], &[]),
];

impl Interface {
    pub fn mac_address(&self) -> Option<MacAddress> {
        self.mac.map(|mac| mac.address)
    }

    fn check(&self, at: Cursor<'_>) {
        let Some((_, required, optional)) = SOURCES.iter().find(|(kind, ..)| *kind == self.kind)
        else {
            return;
        };
        let Some(source) = at.child("source") else {
            if !required.is_empty() {
                at.missing_child("source");
            }
            return;
        };
        // A name valid for no type at all has been reported as unknown already.
        let foreign = |name: &str| {
            let of_another = SOURCES.iter().any(|(_, r, o)| r.contains(&name) || o.contains(&name));
            of_another && !required.contains(&name) && !optional.contains(&name)
        };
        let mut told = false;
        for attribute in source.node().attributes().map(|a| a.name).filter(|name| foreign(name)) {
            let mut report = source.at_attribute(attribute);
            report.expected = required.first().map(|name| format!("{name}='…'"));
            let message =
                format!("an interface of type='{}' has no source {attribute}='…'", self.kind);
            report.report(Kind::Invalid, message);
            told = true;
        }
        for name in required.iter().filter(|name| !told && source.attribute(name).is_none()) {
            source.missing_attribute(name);
        }
    }
}

element! {
    #[derive(Copy)]
    pub struct Mac {
        attr address: MacAddress,
        attr("type") kind: Option<MacType>,
        attr check: Option<YesNo>,
    }
}

element! {
    /// Only the attributes of the interface's own type may be set.
    #[derive(Default)]
    pub struct InterfaceSource {
        attr("type") kind: Option<String>,
        attr network: Option<String>,
        attr portgroup: Option<String>,
        attr portid: Option<String>,
        attr bridge: Option<String>,
        attr("macTableManager") mac_table: Option<MacTable>,
        attr dev: Option<String>,
        attr path: Option<PathBuf>,
        attr mode: Option<String>,
        attr name: Option<String>,
        attr address: Option<String>,
        attr port: Option<u16>,
        child local: Option<Endpoint>,
    }
    refuse ["address", "@switchid", "@portgroupid", "@connectionid", "ip", "route", "vendor", "product", "reconnect"];
    check InterfaceSource::check;
}

impl InterfaceSource {
    fn check(&self, at: Cursor<'_>) {
        // `mode` is of vhost-user (client, server) or of direct attachment.
        let names = if self.path.is_some() { &["client", "server"][..] } else { DirectMode::NAMES };
        if let Some(mode) = self.mode.as_deref().filter(|mode| !names.contains(mode)) {
            let mut report = at.at_attribute("mode");
            report.one_of(mode, names);
            let message =
                format!("mode={} is not a value libvirt knows", crate::report::quote(mode));
            report.report(Kind::Invalid, message);
        }
    }
}

element! {
    pub struct Endpoint {
        attr address: Option<String>,
        attr port: Option<u16>,
    }
}

element! {
    pub struct IpAddress {
        attr address: String,
        attr family: Option<IpFamily>,
        attr prefix: Option<u32>,
        attr peer: Option<String>,
    }
}

element! {
    /// Ports of the host that lead to a guest of type='user'; none: all.
    pub struct UserForward {
        attr proto: UserProtocol,
        attr address: Option<String>,
        attr dev: Option<String>,
        child("range") ranges: Vec<UserRange>,
    }
}

element! {
    /// From `start` on, to those of the guest from `to` on; or ports that are left out.
    #[derive(Copy)]
    pub struct UserRange {
        attr start: u16,
        attr end: Option<u16>,
        attr to: Option<u16>,
        attr exclude: Option<YesNo>,
    }
    check UserRange::check;
}

impl UserRange {
    pub fn is_excluded(&self) -> bool {
        self.exclude == Some(YesNo::Yes)
    }

    fn check(&self, at: Cursor<'_>) {
        let (start, end) = (self.start, self.end.unwrap_or(self.start));
        if start == 0 || end < start {
            let message = format!("{start} to {end} is no range of ports");
            at.attribute_error("start", Kind::Invalid, message);
        }
        let last = self.to.and_then(|to| to.checked_add(end.saturating_sub(start)));
        if self.to == Some(0) || (self.to.is_some() && last.is_none()) {
            let message = "the ports of the guest are from 1 to 65535".to_owned();
            at.attribute_error("to", Kind::Limit, message);
        }
        if self.to.is_some() && self.is_excluded() {
            let message = "ports that are left out lead nowhere; remove to= or exclude=".to_owned();
            at.attribute_error("to", Kind::Invalid, message);
        }
    }
}

element! {
    #[derive(Default)]
    pub struct InterfaceTarget {
        attr dev: Option<String>,
        attr managed: Option<YesNo>,
    }
    check InterfaceTarget::check;
}

impl InterfaceTarget {
    /// The kernel's rule for names of network devices.
    fn check(&self, at: Cursor<'_>) {
        let valid = |name: &str| {
            (1..16).contains(&name.len())
                && name != "."
                && name != ".."
                && !name
                    .chars()
                    .any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
        };
        if let Some(dev) = self.dev.as_deref().filter(|dev| !valid(dev)) {
            let mut report = at.at_attribute("dev");
            report.expected = Some("1 to 15 bytes without '/', ':' or white space".to_owned());
            report.report(
                Kind::Invalid,
                format!("{} cannot name a network device", crate::report::quote(dev)),
            );
        }
    }
}

element! {
    #[derive(Default)]
    pub struct InterfaceDriver {
        attr name: Option<InterfaceBackend>,
        attr("txmode") tx_mode: Option<TxMode>,
        attr ioeventfd: Option<OnOff>,
        attr("event_idx") event_idx: Option<OnOff>,
        attr queues: Option<u32>,
        attr("rx_queue_size") rx_queue_size: Option<u32>,
        attr("tx_queue_size") tx_queue_size: Option<u32>,
        attr iommu: Option<OnOff>,
        attr ats: Option<OnOff>,
        attr packed: Option<OnOff>,
        attr("page_per_vq") page_per_vq: Option<OnOff>,
        attr rss: Option<OnOff>,
        attr("rss_hash_report") rss_hash_report: Option<OnOff>,
        child host: Option<HostOffloads>,
        child guest: Option<GuestOffloads>,
    }
}

element! {
    /// What the host does for the guest's outgoing packets.
    #[derive(Default)]
    pub struct HostOffloads {
        attr csum: Option<OnOff>,
        attr gso: Option<OnOff>,
        attr tso4: Option<OnOff>,
        attr tso6: Option<OnOff>,
        attr ecn: Option<OnOff>,
        attr ufo: Option<OnOff>,
        attr("mrg_rxbuf") mrg_rxbuf: Option<OnOff>,
    }
}

element! {
    /// What the guest can take in incoming packets.
    #[derive(Default)]
    pub struct GuestOffloads {
        attr csum: Option<OnOff>,
        attr tso4: Option<OnOff>,
        attr tso6: Option<OnOff>,
        attr ecn: Option<OnOff>,
        attr ufo: Option<OnOff>,
    }
}

element! {
    #[derive(Default)]
    pub struct Backend {
        attr("type") kind: Option<UserBackend>,
        attr tap: Option<PathBuf>,
        attr vhost: Option<PathBuf>,
        attr("logFile") log_file: Option<PathBuf>,
    }
}

element! {
    pub struct FilterRef {
        attr filter: String,
        child("parameter") parameters: Vec<FilterParameter>,
    }
}

element! {
    pub struct FilterParameter {
        attr name: String,
        attr value: String,
    }
    check FilterParameter::check;
}

impl FilterParameter {
    /// libvirt's rule; it drops the others without a word.
    fn check(&self, at: Cursor<'_>) {
        if !crate::filter::is_variable_name(&self.name) {
            let mut report = at.at_attribute("name");
            report.expected = Some("letters, digits and '_'".to_owned());
            let name = crate::report::quote(&self.name);
            report.report(Kind::Invalid, format!("{name} cannot name a variable of a filter"));
        }
    }
}

element! {
    #[derive(Default)]
    pub struct Tune {
        child("sndbuf") send_buffer: Option<u64>,
    }
}

element! {
    #[derive(Default)]
    pub struct Coalesce {
        child rx: Option<CoalesceRx>,
    }
}

element! {
    #[derive(Default)]
    pub struct CoalesceRx {
        leaf("frames" "max") frames: Option<u32>,
    }
}

element! {
    #[derive(Default)]
    pub struct Rom {
        attr enabled: Option<YesNo>,
        attr bar: Option<OnOff>,
        attr file: Option<PathBuf>,
    }
}

element! {
    /// Rates in KiB/s, bursts in KiB.
    #[derive(Default)]
    pub struct Bandwidth {
        child inbound: Option<Rate>,
        child outbound: Option<Rate>,
    }
    refuse ["@classID"];
}

element! {
    #[derive(Default)]
    pub struct Rate {
        attr average: Option<u32>,
        attr peak: Option<u32>,
        attr floor: Option<u32>,
        attr burst: Option<u32>,
    }
    check Rate::check;
}

impl Rate {
    fn check(&self, at: Cursor<'_>) {
        if self.average.is_none() && self.floor.is_none() {
            at.missing_attribute("average");
        }
    }
}

element! {
    #[derive(Default)]
    pub struct Vlan {
        attr trunk: Option<YesNo>,
        child("tag") tags: Vec<VlanTag>,
    }
    check Vlan::check;
}

impl Vlan {
    /// The guest tags frames itself. A native VLAN makes sense beside others alone.
    pub fn is_trunk(&self) -> bool {
        self.trunk == Some(YesNo::Yes)
            || self.tags.len() > 1
            || self.tags.iter().any(|tag| tag.native_mode.is_some())
    }

    fn check(&self, at: Cursor<'_>) {
        if self.tags.is_empty() {
            at.missing_child("tag");
        }
        if self.trunk == Some(YesNo::No) && self.is_trunk() {
            let message = "several tags, or a nativeMode, are a trunk; remove trunk='no'";
            at.attribute_error("trunk", Kind::Invalid, message.to_owned());
        }
        let native = at.children("tag").filter(|tag| tag.attribute("nativeMode").is_some());
        for second in native.skip(1) {
            let message = "one VLAN alone is where frames without a tag belong".to_owned();
            second.attribute_error("nativeMode", Kind::Invalid, message);
        }
    }
}

element! {
    pub struct VlanTag {
        attr id: u32,
        attr("nativeMode") native_mode: Option<NativeMode>,
    }
    check VlanTag::check;
}

impl VlanTag {
    fn check(&self, at: Cursor<'_>) {
        // IEEE 802.1Q, table 9-2: 0 is no VLAN, and 4095 is reserved.
        if !(1..4095).contains(&self.id) {
            at.attribute_error(
                "id",
                Kind::Limit,
                format!("VLAN {} is not from 1 to 4094", self.id),
            );
        }
    }
}

element! {
    pub struct VirtualPort {
        attr("type") kind: Option<VirtualPortType>,
        child parameters: Option<VirtualPortParameters>,
    }
}

element! {
    #[derive(Default)]
    pub struct VirtualPortParameters {
        attr managerid: Option<u32>,
        attr typeid: Option<u32>,
        attr typeidversion: Option<u32>,
        attr instanceid: Option<String>,
        attr interfaceid: Option<String>,
        attr profileid: Option<String>,
    }
}
