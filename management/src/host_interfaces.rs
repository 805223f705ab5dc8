//! The host's network interfaces as libvirt's interface XML has them, read from /sys. They are
//! shown, and left to whoever configures the host.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::host::escape;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInterface {
    pub name: String,
    pub mac: String,
    /// It is up.
    pub active: bool,
    pub xml: String,
}

/// By name. Ports of bridges are in their bridges' XML as well.
pub(crate) fn read(sys: &Path) -> Vec<HostInterface> {
    let class = sys.join("class/net");
    let entries = fs::read_dir(&class).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| class.join(name).is_dir()).collect();
    names.sort();
    let interface = |name: String| {
        let path = class.join(&name);
        let mut xml = String::new();
        write_interface(&class, &name, 0, &mut xml);
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

fn write_interface(class: &Path, name: &str, indent: usize, out: &mut String) {
    let path = class.join(name);
    let is_bridge = path.join("bridge").is_dir();
    let kind = if is_bridge { "bridge" } else { "ethernet" };
    let _ = writeln!(out, "{:indent$}<interface type='{kind}' name='{}'>", "", escape(name));
    let more = indent + 2;
    if is_bridge {
        let _ = writeln!(out, "{:more$}<bridge>", "");
        let ports = fs::read_dir(path.join("brif")).into_iter().flatten().flatten();
        let mut ports: Vec<_> =
            ports.filter_map(|port| port.file_name().into_string().ok()).collect();
        ports.sort();
        // A port is no bridge itself: this goes one level down.
        for port in ports.iter().filter(|port| !class.join(port).join("bridge").is_dir()) {
            write_interface(class, port, more + 2, out);
        }
        let _ = writeln!(out, "{:more$}</bridge>", "");
    } else {
        let (state, speed) = (text(&path, "operstate"), text(&path, "speed"));
        let speed = speed.parse::<u32>().ok().map(|speed| format!(" speed='{speed}'"));
        let speed = speed.unwrap_or_default();
        let state = if state.is_empty() { "unknown" } else { &state };
        let _ = writeln!(out, "{:more$}<link{speed} state='{}'/>", "", escape(state));
        let mac = text(&path, "address");
        if !mac.is_empty() {
            let _ = writeln!(out, "{:more$}<mac address='{}'/>", "", escape(&mac));
        }
    }
    let mtu = text(&path, "mtu");
    if mtu.parse::<u32>().is_ok() {
        let _ = writeln!(out, "{:more$}<mtu size='{mtu}'/>", "");
    }
    let _ = writeln!(out, "{:indent$}</interface>", "");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_told_with_the_ports_of_bridges() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join("class/net").join(path);
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
        let found = read(dir.path());
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
}
