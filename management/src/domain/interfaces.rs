//! Interfaces of a guest that starts: the taps that they are on the host, in which bridge, and what
//! may come through them.

use broker::{Tap, Traffic};
use vmm_protocol::config::Fd;
use xml::device::interface::{Interface, InterfaceType};
use xml::{DomainDef, OnOff, YesNo};

use super::launch::{Launch, Opener};
use crate::error::{Code, Error};
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

    pub(super) fn tap(&mut self, interface: &Interface) -> Result<OpenTap, Error> {
        let source = interface.source.as_ref();
        let target = interface.target.as_ref();
        let name = target.and_then(|target| target.dev.clone());
        let mac = interface.mac_address().map_or([0; 6], |mac| mac.0);
        let mtu = interface.mtu.and_then(|mtu| u16::try_from(mtu).ok());
        let queues = interface.driver.as_ref().and_then(|driver| driver.queues).unwrap_or(1);
        let queues = u16::try_from(queues).unwrap_or(1);
        let managed = target.and_then(|target| target.managed);
        let network = source.and_then(|source| source.network.as_deref());
        let bridge = match (interface.kind, network) {
            (InterfaceType::Network, Some(network)) => Some(self.bridge_of(network)?),
            _ => source.and_then(|source| source.bridge.clone()),
        };
        let request = match (interface.kind, &bridge, name) {
            (InterfaceType::Bridge | InterfaceType::Network, Some(bridge), name) => {
                let bridge = bridge.clone();
                Tap::Bridged { bridge, name: name.filter(|name| kept(name)), mac, mtu, queues }
            }
            // A tap with a name is the user's own, unless it is said that it is ours to make.
            (_, _, Some(name)) if managed != Some(YesNo::Yes) => Tap::Existing { name, queues },
            (_, _, name) => Tap::Standalone { name, mac, mtu, queues },
        };
        let tap = self.broker.tap(request)?;
        let traffic = translate::bandwidth::traffic(interface);
        if traffic != Traffic::default() {
            self.broker.shape(&tap.name, traffic)?;
        }
        let queues = tap.queues.into_iter().map(|queue| self.table.add(queue)).collect();
        Ok(OpenTap { name: tap.name, bridge, queues, rom: None })
    }

    /// The bridge that an active network is.
    fn bridge_of(&self, network: &str) -> Result<String, Error> {
        let Some(networks) = &self.launch.networks else {
            let text = format!(
                "network {network:?} is the daemon's: define the domain and start it there"
            );
            return Err(Error::new(Code::Unsupported, text));
        };
        let views = networks.views();
        let known = views.iter().find(|known| known.name == network);
        let found = known.filter(|known| known.active).and_then(|known| known.bridge.clone());
        found.ok_or_else(|| {
            let text = match known {
                Some(_) => {
                    format!("network {network:?} is not active; start it (net-start {network})")
                }
                None => {
                    format!("there is no network {network:?}; net-list --all shows those there are")
                }
            };
            Error::new(Code::ResourceMissing, text)
        })
    }
}

/// libvirt's rule: a name it would give itself (`vnet3`) is of an earlier run.
fn kept(name: &str) -> bool {
    let generated =
        name.strip_prefix("vnet").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    !generated
}

/// Before anything can come through these taps.
pub(super) fn guard<'a>(
    taps: impl Iterator<Item = (&'a Interface, &'a OpenTap)>,
    launch: &Launch,
) -> Result<(), Error> {
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
