//! The host's network interfaces as libvirt's interface XML has them, read from /sys. They are
//! shown, and left to whoever configures the host.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::host::{Host, escape};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInterface {
    pub name: String,
    pub mac: String,
    /// It is up.
    pub active: bool,
    pub xml: String,
}

/// By name. Ports of bridges and of bonds are in the XML of these as well.
pub(crate) fn read(host: &Host) -> Vec<HostInterface> {
    let class = host.sys().join("class/net");
    let entries = fs::read_dir(&class).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| class.join(name).is_dir()).collect();
    names.sort();
    let writer = Writer { host, class: &class };
    let interface = |name: String| {
        let path = class.join(&name);
        let mut xml = String::new();
        writer.interface(&name, 0, &mut xml);
        let mac = text(&path, "address");
        HostInterface { mac, active: is_up(&path), xml, name }
    };
    names.into_iter().map(interface).collect()
}

fn text(path: &Path, name: &str) -> String {
    fs::read_to_string(path.join(name)).unwrap_or_default().trim().to_owned()
}

/// IFF_UP, of netdevice(7).
fn is_up(path: &Path) -> bool {
    let flags = text(path, "flags");
    let flags = flags.strip_prefix("0x").and_then(|flags| u32::from_str_radix(flags, 16).ok());
    flags.is_some_and(|flags| flags & 1 != 0)
}

/// What an interface is made of.
enum Kind {
    Ethernet,
    Bridge,
    Bond,
    /// With its number, on another interface.
    Vlan(String, String),
}

struct Writer<'a> {
    host: &'a Host,
    class: &'a Path,
}

impl Writer<'_> {
    fn kind(&self, name: &str) -> Kind {
        let path = self.class.join(name);
        if path.join("bridge").is_dir() {
            return Kind::Bridge;
        }
        if path.join("bonding").is_dir() {
            return Kind::Bond;
        }
        // `VID: 10  REORDER_HDR: 1 …`, then `Device: eth0`.
        let vlan = self.host.read(Path::new("proc/net/vlan").join(name));
        let word = |after: &str| {
            let (_, rest) = vlan.split_once(after)?;
            rest.split_whitespace().next().map(str::to_owned)
        };
        match (word("VID:"), word("Device:")) {
            (Some(tag), Some(below)) if tag.parse::<u16>().is_ok() => Kind::Vlan(tag, below),
            _ => Kind::Ethernet,
        }
    }

    fn interface(&self, name: &str, indent: usize, out: &mut String) {
        let (path, more) = (self.class.join(name), indent + 2);
        let kind = self.kind(name);
        let word = match kind {
            Kind::Ethernet => "ethernet",
            Kind::Bridge => "bridge",
            Kind::Bond => "bond",
            Kind::Vlan(..) => "vlan",
        };
        let _ = writeln!(out, "{:indent$}<interface type='{word}' name='{}'>", "", escape(name));
        match kind {
            Kind::Ethernet => link(&path, more, out),
            Kind::Bridge => self.bridge(&path, more, out),
            Kind::Bond => self.bond(&path, more, out),
            Kind::Vlan(tag, below) => {
                link(&path, more, out);
                let _ = writeln!(out, "{:more$}<vlan tag='{tag}'>", "");
                let below = escape(&below);
                let _ = writeln!(out, "{:more$}  <interface name='{below}'/>", "");
                let _ = writeln!(out, "{:more$}</vlan>", "");
            }
        }
        let mtu = text(&path, "mtu");
        if mtu.parse::<u32>().is_ok() {
            let _ = writeln!(out, "{:more$}<mtu size='{mtu}'/>", "");
        }
        let _ = writeln!(out, "{:indent$}</interface>", "");
    }

    fn bridge(&self, path: &Path, indent: usize, out: &mut String) {
        let stp = match text(path, "bridge/stp_state").as_str() {
            "" => "",
            "0" => " stp='off'",
            _ => " stp='on'",
        };
        // Told in hundredths of a second.
        let delay = text(path, "bridge/forward_delay").parse::<u32>().ok();
        let delay = delay.map(|delay| format!(" delay='{}'", delay / 100)).unwrap_or_default();
        let _ = writeln!(out, "{:indent$}<bridge{stp}{delay}>", "");
        let ports = fs::read_dir(path.join("brif")).into_iter().flatten().flatten();
        let ports = ports.filter_map(|port| port.file_name().into_string().ok());
        self.ports(ports, indent + 2, out);
        let _ = writeln!(out, "{:indent$}</bridge>", "");
    }

    fn bond(&self, path: &Path, indent: usize, out: &mut String) {
        // `active-backup 1`: the word and its number.
        let mode = text(path, "bonding/mode");
        let mode = mode.split_whitespace().next().map(|mode| format!(" mode='{}'", escape(mode)));
        let _ = writeln!(out, "{:indent$}<bond{}>", "", mode.unwrap_or_default());
        let number =
            |name: &str| text(path, &format!("bonding/{name}")).parse::<u32>().unwrap_or(0);
        let frequency = number("miimon");
        if frequency > 0 {
            let (up, down) = (number("updelay"), number("downdelay"));
            let _ = writeln!(
                out,
                "{:indent$}  <miimon freq='{frequency}' downdelay='{down}' updelay='{up}' \
                 carrier='netif'/>",
                ""
            );
        }
        let ports = text(path, "bonding/slaves");
        self.ports(ports.split_whitespace().map(str::to_owned), indent + 2, out);
        let _ = writeln!(out, "{:indent$}</bond>", "");
    }

    fn ports(&self, ports: impl Iterator<Item = String>, indent: usize, out: &mut String) {
        let mut ports: Vec<_> = ports.collect();
        ports.sort();
        for port in ports {
            // A bridge is no port of one, nor a bond of a bond; what is in a bond is in no bridge. This ends.
            match self.kind(&port) {
                Kind::Bridge => {}
                Kind::Bond if indent > 4 => {}
                _ => self.interface(&port, indent, out),
            }
        }
    }
}

fn link(path: &Path, indent: usize, out: &mut String) {
    let (state, speed) = (text(path, "operstate"), text(path, "speed"));
    let speed = speed.parse::<u32>().ok().map(|speed| format!(" speed='{speed}'"));
    let speed = speed.unwrap_or_default();
    let state = if state.is_empty() { "unknown" } else { &state };
    let _ = writeln!(out, "{:indent$}<link{speed} state='{}'/>", "", escape(state));
    let mac = text(path, "address");
    if !mac.is_empty() {
        let _ = writeln!(out, "{:indent$}<mac address='{}'/>", "", escape(&mac));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_told_with_the_ports_of_bridges() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join("sys/class/net").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("br0/bridge/x", "");
        write("br0/brif/eth0", "");
        write("br0/flags", "0x1003\n");
        write("eth0/address", "52:54:00:11:22:33\n");
        write("eth0/operstate", "down\n");
        write("eth0/speed", "-1\n");
        write("eth0/flags", "0x1002\n");
        write("bonding_masters", "bond0");
        let found = read(&Host::made_up(dir.path().to_owned()));
        let told: Vec<_> =
            found.iter().map(|one| (one.name.as_str(), one.mac.as_str(), one.active)).collect();
        assert_eq!(told, [("br0", "", true), ("eth0", "52:54:00:11:22:33", false)]);
        assert_eq!(
            found[0].xml,
            "<interface type='bridge' name='br0'>\n  <bridge>\n    \
             <interface type='ethernet' name='eth0'>\n      <link state='down'/>\n      \
             <mac address='52:54:00:11:22:33'/>\n    </interface>\n  </bridge>\n</interface>\n"
        );
    }
    #[test]
    fn bonds_and_vlans_are_told_as_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/class/net/bond0/bonding/mode", "active-backup 1\n");
        write("sys/class/net/bond0/bonding/miimon", "100\n");
        write("sys/class/net/bond0/bonding/slaves", "eth1 eth0\n");
        write("sys/class/net/br0/bridge/stp_state", "0\n");
        write("sys/class/net/br0/bridge/forward_delay", "1500\n");
        write("sys/class/net/br0/brif/bond0", "");
        for name in ["eth0", "eth1", "lan"] {
            write(&format!("sys/class/net/{name}/operstate"), "up\n");
        }
        write("proc/net/vlan/lan", "lan  VID: 10\t REORDER_HDR: 1\nDevice: eth0\n");
        let found = read(&Host::made_up(dir.path().to_owned()));
        let xml = |name: &str| &found.iter().find(|one| one.name == name).unwrap().xml;
        let ports = "<interface type='ethernet' name='eth0'>\n      <link state='up'/>\n    \
                     </interface>\n    <interface type='ethernet' name='eth1'>";
        let bond = xml("bond0");
        assert!(
            bond.starts_with("<interface type='bond' name='bond0'>\n  <bond mode='active-backup'>")
        );
        assert!(bond.contains("<miimon freq='100'") && bond.contains(ports), "{bond}");
        let bridge = xml("br0");
        assert!(bridge.contains("<bridge stp='off' delay='15'>"), "{bridge}");
        assert!(bridge.contains("    <interface type='bond' name='bond0'>"), "{bridge}");
        let vlan = xml("lan");
        assert!(vlan.contains("<vlan tag='10'>\n    <interface name='eth0'/>"), "{vlan}");
    }
}
