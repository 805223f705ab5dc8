//! Interfaces of a guest that starts: the taps that they are on the host, in which bridge, and what
//! may come through them.

use std::os::fd::OwnedFd;

use broker::{Direct, DirectMode, Passt, PortVlans, Tap, Traffic};
use vmm_protocol::config::Fd;
use vmm_protocol::control::MAX_FILES;
use xml::device::interface::{Interface, InterfaceBackend, InterfaceType, MacTable, Vlan};
use xml::network::PortGroup;
use xml::{DomainDef, NetworkDef, OnOff, YesNo};

use super::launch::{Launch, Opener};
use crate::error::{Code, Error};
use crate::network::NetworkRef;
use crate::translate::{self, OpenTap};

/// iPXE for virtio cards, with an image for a BIOS and one for UEFI.
const NETWORK_ROM: &str = "efi-virtio.rom";

impl Opener<'_> {
    /// What an interface that is in the boot order needs to be booted from.
    pub(super) fn network_rom(
        &mut self,
        def: &DomainDef,
        index: usize,
    ) -> Result<Option<Fd>, Error> {
        let ordered = translate::boot_order_of_interface(def, index).is_some();
        if !ordered || def.os.kernel.is_some() {
            return Ok(None);
        }
        let rom = def.devices.interfaces.get(index).and_then(|interface| interface.rom.as_ref());
        if rom.is_some_and(|rom| rom.enabled == Some(YesNo::No) || rom.bar == Some(OnOff::Off)) {
            return Ok(None);
        }
        if let Some(path) = rom.and_then(|rom| rom.file.as_ref()) {
            return self.input("network boot ROM", path).map(Some);
        }
        let found = self.launch.firmware.option_rom(NETWORK_ROM);
        if found.is_none() {
            let name = &def.name;
            tracing::warn!(domain = %name, "no {NETWORK_ROM}, of the package ipxe-qemu: no boot from the network");
        }
        found.map(|path| self.input("network boot ROM", &path)).transpose()
    }

    /// What the guest's interface leads to.
    pub(super) fn tap(&mut self, interface: &Interface) -> Result<OpenTap, Error> {
        if interface.kind == InterfaceType::User {
            return self.passt(interface);
        }
        let is_root = self.broker.is_root();
        self.host_tap(interface)
            .map_err(|error| if is_root { error } else { without_root(interface, error) })
    }

    fn host_tap(&mut self, interface: &Interface) -> Result<OpenTap, Error> {
        let target = interface.target.as_ref();
        let name = target.and_then(|target| target.dev.clone());
        let mac = interface.mac_address().map_or([0; 6], |mac| mac.0);
        let mtu = interface.mtu.and_then(|mtu| u16::try_from(mtu).ok());
        let queues = interface.driver.as_ref().and_then(|driver| driver.queues).unwrap_or(1);
        let queues = u16::try_from(queues).unwrap_or(1);
        if interface.kind == InterfaceType::Direct {
            let name = name.filter(|name| kept(name, "macvtap"));
            let owner = self.launch.uuid.to_string();
            let direct = Direct { name, mac, mtu, queues, owner, ..direct(interface) };
            return self.opened(interface, Tap::Direct(direct), None);
        }
        let managed = target.and_then(|target| target.managed);
        let Port { bridge, vlans, known_mac } = port(self.launch, interface)?;
        let request = match (interface.kind, &bridge, name) {
            (InterfaceType::Bridge | InterfaceType::Network, Some(bridge), name) => {
                let bridge = bridge.clone();
                let name = name.filter(|name| kept(name, "vnet"));
                Tap::Bridged { bridge, name, mac, mtu, queues, vlans, known_mac }
            }
            // A tap with a name is the user's own, unless it is said that it is ours to make, or there
            // is none.
            (_, _, Some(name)) if managed != Some(YesNo::Yes) => {
                let existing = Tap::Existing { name: name.clone(), queues };
                return match self.opened(interface, existing, None) {
                    Err(error) if managed.is_none() && error.code == Code::ResourceMissing => {
                        let own = Tap::Standalone { name: Some(name.clone()), mac, mtu, queues };
                        // One that is there and no tap is what was wrong.
                        self.opened(interface, own, None).map_err(|other| match other.code {
                            Code::Busy => error,
                            _ => other,
                        })
                    }
                    other => other,
                };
            }
            (_, _, name) => Tap::Standalone { name, mac, mtu, queues },
        };
        self.opened(interface, request, bridge)
    }

    fn opened(
        &mut self,
        interface: &Interface,
        request: Tap,
        bridge: Option<String>,
    ) -> Result<OpenTap, Error> {
        let tap = self.broker.tap(request)?;
        let traffic = traffic(self.launch, interface)?;
        if traffic != Traffic::default() {
            self.broker.shape(&tap.name, traffic)?;
        }
        let vhost = self.vhost(interface, tap.queues.len())?;
        let mut add =
            |files: Vec<OwnedFd>| files.into_iter().map(|file| self.table.add(file)).collect();
        let (queues, vhost) = (add(tap.queues), add(vhost));
        Ok(OpenTap { name: tap.name, bridge, queues, vhost, ..OpenTap::default() })
    }

    /// The host's kernel moves the packets where it can, unless the definition says otherwise.
    fn vhost(&self, interface: &Interface, queues: usize) -> Result<Vec<OwnedFd>, Error> {
        let wanted = interface.driver.as_ref().and_then(|driver| driver.name);
        // A running VMM is given a limited number of files at once.
        let many = queues > MAX_FILES / 2 && wanted.is_none();
        if many || wanted == Some(InterfaceBackend::Qemu) {
            return Ok(Vec::new());
        }
        let mut devices = Vec::with_capacity(queues);
        for _ in 0..queues {
            match self.broker.vhost_net()? {
                Some(device) => devices.push(device),
                None if wanted == Some(InterfaceBackend::Vhost) => {
                    let text = "there is no /dev/vhost-net on this host, or it may not be opened: load the \
                                module (modprobe vhost_net), or remove <driver name='vhost'/>";
                    return Err(Error::new(Code::ResourceMissing, text));
                }
                None => return Ok(Vec::new()),
            }
        }
        Ok(devices)
    }

    /// A process that is the guest's network, and ends with it.
    fn passt(&mut self, interface: &Interface) -> Result<OpenTap, Error> {
        let user = match &self.launch.networks {
            Some(networks) => networks.unprivileged()?,
            None => None,
        };
        let alias = interface.alias.as_deref().unwrap_or("the interface");
        let name = format!("{alias} of domain {:?}", self.launch.def.name.to_string());
        let passt = Passt { user, ..translate::user::passt(interface) };
        let stream = self.broker.passt(&name, passt, self.cgroup)?;
        Ok(OpenTap { stream: Some(self.table.add(stream)), ..OpenTap::default() })
    }
}

/// Why it could not work at all.
fn without_root(interface: &Interface, error: Error) -> Error {
    let kind = interface.kind.name();
    let text = format!(
        "an interface of type='{kind}' needs a daemon of root: one of another user has no part in the host's \
         networks; use <interface type='user'/>, or a tap that root has made for this user \
         (type='ethernet')"
    );
    Error::new(error.code, text).with_source(error.chain())
}

/// What the tap of an interface is in a bridge.
pub(super) struct Port {
    /// None: it is in none.
    pub bridge: Option<String>,
    pub vlans: Option<PortVlans>,
    /// The bridge has the guest's address from us.
    pub known_mac: bool,
}

pub(super) fn port(launch: &Launch, interface: &Interface) -> Result<Port, Error> {
    let source = interface.source.as_ref();
    let network = source.and_then(|source| source.network.as_deref());
    let own = interface.vlan.as_ref();
    let (InterfaceType::Network, Some(network)) = (interface.kind, network) else {
        let bridge = source.and_then(|source| source.bridge.clone());
        let known_mac = source.and_then(|source| source.mac_table) == Some(MacTable::Libvirt);
        return Ok(Port { bridge, vlans: own.map(translate::vlan::of), known_mac });
    };
    let group = source.and_then(|source| source.portgroup.as_deref());
    let def = active_network(launch, network)?;
    let vlans = vlan_of(&def, group, own)?.map(translate::vlan::of);
    let known_mac =
        def.bridge.as_ref().and_then(|bridge| bridge.mac_table) == Some(MacTable::Libvirt);
    Ok(Port { bridge: def.bridge_name().map(str::to_owned), vlans, known_mac })
}

/// How much passes it.
pub(super) fn traffic(launch: &Launch, interface: &Interface) -> Result<Traffic, Error> {
    let source = interface.source.as_ref();
    let network = source.and_then(|source| source.network.as_deref());
    let (InterfaceType::Network, Some(network)) = (interface.kind, network) else {
        return Ok(translate::bandwidth::traffic(interface, None));
    };
    let def = active_network(launch, network)?;
    let group = source.and_then(|source| source.portgroup.as_deref());
    Ok(translate::bandwidth::traffic(interface, group_of(&def, group)?))
}

/// What an active network is active with.
fn active_network(launch: &Launch, network: &str) -> Result<NetworkDef, Error> {
    let Some(networks) = &launch.networks else {
        let text =
            format!("network {network:?} is the daemon's: define the domain and start it there");
        return Err(Error::new(Code::Unsupported, text));
    };
    let known = networks.find(&NetworkRef::from(network)).ok().map(|found| found.now());
    let text = match known {
        Some(now) if now.view.active && now.def.bridge_name().is_some() => {
            return Ok(now.def.clone());
        }
        Some(_) => format!("network {network:?} is not active; start it (net-start {network})"),
        None => {
            format!("there is no network {network:?}; net-list --all shows those there are")
        }
    };
    Err(Error::new(Code::ResourceMissing, text))
}

/// The interface's own, else that of its port group, else that of all.
fn vlan_of<'a>(
    network: &'a NetworkDef,
    group: Option<&str>,
    own: Option<&'a Vlan>,
) -> Result<Option<&'a Vlan>, Error> {
    let of_group = group_of(network, group)?.and_then(|group| group.vlan.as_ref());
    let vlan = own.or(of_group).or(network.vlan.as_ref());
    if vlan.is_some() && !network.is_foreign_bridge() {
        let text = format!(
            "network {:?} is a bridge of Manor's own, which does not tell VLANs apart; remove <vlan>, or \
             use a bridge of the host (<forward mode='bridge'/>)",
            network.name.to_string()
        );
        return Err(Error::new(Code::Unsupported, text));
    }
    Ok(vlan)
}

fn group_of<'a>(
    network: &'a NetworkDef,
    group: Option<&str>,
) -> Result<Option<&'a PortGroup>, Error> {
    network.port_group(group).map_err(|_| {
        let known: Vec<_> = network.port_groups.iter().map(|group| group.name.as_str()).collect();
        let text = format!(
            "network {:?} has no port group {:?}; it has {}",
            network.name.to_string(),
            group.unwrap_or_default(),
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        );
        Error::new(Code::ResourceMissing, text)
    })
}

/// libvirt's rule: a name it would give itself (`vnet3`) is of an earlier run.
fn kept(name: &str, prefix: &str) -> bool {
    let generated =
        name.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    !generated
}

/// What it is on, and how; the rest is as with every tap.
fn direct(interface: &Interface) -> Direct {
    let source = interface.source.as_ref();
    Direct {
        source: source.and_then(|source| source.dev.clone()).unwrap_or_default(),
        mode: match source.and_then(|source| source.mode.as_deref()) {
            Some("bridge") => DirectMode::Bridge,
            Some("private") => DirectMode::Private,
            Some("passthrough") => DirectMode::Passthrough,
            // libvirt's default.
            _ => DirectMode::Vepa,
        },
        name: None,
        mac: [0; 6],
        mtu: None,
        queues: 1,
        owner: String::new(),
    }
}

/// The names on the host of a running domain's macvtaps.
pub(super) fn macvtaps(live: &DomainDef) -> Vec<String> {
    let of = |interface: &&Interface| interface.kind == InterfaceType::Direct;
    let name = |interface: &Interface| interface.target.as_ref()?.dev.clone();
    live.devices.interfaces.iter().filter(of).filter_map(name).collect()
}

/// Before anything can come through these taps.
pub(super) fn guard<'a>(
    taps: impl Iterator<Item = (&'a Interface, &'a OpenTap)>,
    launch: &Launch,
) -> Result<(), Error> {
    // What is no interface of the host has no rules there.
    let taps = taps.filter(|(_, tap)| tap.stream.is_none());
    let Some(networks) = &launch.networks else {
        let mut interfaces = taps.map(|(interface, _)| interface);
        if interfaces.any(|interface| interface.filterref.is_some()) {
            let text =
                "filters of interfaces are the daemon's: define the domain and start it there";
            return Err(Error::new(Code::Unsupported, text));
        }
        return Ok(());
    };
    let rules = |(interface, tap): (&Interface, &OpenTap)| {
        let own =
            translate::ports::network(interface).is_some_and(|network| networks.is_own(network));
        (tap.name.clone(), translate::ports::of(interface, &tap.name, own))
    };
    networks.guard(taps.map(rules).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(mode: &str, rest: &str) -> NetworkDef {
        let text = format!(
            "<network><name>n</name><forward mode='{mode}'/><bridge name='b'/>{rest}</network>"
        );
        NetworkDef::parse(&text).unwrap().value
    }

    #[test]
    fn the_nearest_vlan_counts_and_unknown_groups_are_named() {
        let groups = "<vlan><tag id='1'/></vlan><portgroup name='a' default='yes'>\
                      <vlan><tag id='2'/></vlan></portgroup><portgroup name='b'/>";
        let network = network("bridge", groups);
        let own = Vlan { tags: network.vlan.as_ref().unwrap().tags.clone(), ..Vlan::default() };
        let id = |group, own| vlan_of(&network, group, own).unwrap().unwrap().tags[0].id;
        assert_eq!(id(None, None), 2, "that of the default group");
        assert_eq!(id(Some("b"), None), 1, "a group without one");
        assert_eq!(id(Some("a"), Some(&own)), 1, "the interface's own");
        let error = vlan_of(&network, Some("c"), None).unwrap_err().chain();
        assert!(error.contains("no port group \"c\"; it has a, b"), "{error}");
    }

    #[test]
    fn a_bridge_that_cannot_tell_vlans_apart_is_refused() {
        let vlan = network("bridge", "<vlan><tag id='1'/></vlan>").vlan;
        let own = network("open", "");
        let error = vlan_of(&own, None, vlan.as_ref()).unwrap_err().chain();
        assert!(error.contains("does not tell VLANs apart"), "{error}");
        assert!(vlan_of(&own, None, None).unwrap().is_none());
    }
}
