//! [`Key`]: how a device that comes and goes is named, so that whichever definition it is looked for in, it
//! is the same one.

use xml::device::disk::Disk;
use xml::device::{Device, Interface};
use xml::{DomainDef, MacAddress};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Key {
    /// `vdb`
    Target(String),
    Mac(MacAddress),
    /// What nothing names: by all that it is, and among equals by its address.
    Like(Box<Device>),
}

impl Key {
    /// None: an interface without an address.
    pub(crate) fn of(device: &Device) -> Option<Self> {
        match device {
            Device::Disk(disk) => Some(Self::of_disk(disk)),
            Device::Interface(interface) => Self::of_interface(interface),
            Device::Rng(_) | Device::Input(_) | Device::Vsock(_) => {
                Some(Self::Like(Box::new(device.clone())))
            }
        }
    }

    pub(crate) fn of_disk(disk: &Disk) -> Self {
        Self::Target(disk.target.dev.clone())
    }

    pub(crate) fn of_interface(interface: &Interface) -> Option<Self> {
        interface.mac_address().map(Self::Mac)
    }

    pub(crate) fn is_disk(&self, disk: &Disk) -> bool {
        *self == Self::of_disk(disk)
    }

    pub(crate) fn is_interface(&self, interface: &Interface) -> bool {
        Self::of_interface(interface).as_ref() == Some(self)
    }

    fn is(&self, device: &Device) -> bool {
        match (self, device) {
            (_, Device::Disk(disk)) => self.is_disk(disk),
            (_, Device::Interface(interface)) => self.is_interface(interface),
            // There is one.
            (Self::Like(like), Device::Vsock(_)) => matches!(**like, Device::Vsock(_)),
            (Self::Like(like), device) => (**like).clone().bare() == device.clone().bare(),
            _ => false,
        }
    }

    /// The device itself. One of several that are alike has its address, if any has.
    pub(crate) fn find(&self, def: &DomainDef) -> Option<Device> {
        let found: Vec<Device> = def.devices.pluggable().filter(|it| self.is(it)).collect();
        let exact = match self {
            Self::Like(like) => found.iter().position(|it| it.address() == like.address()),
            _ => None,
        };
        found.into_iter().nth(exact.unwrap_or(0))
    }

    /// Take it out of a definition; whether it was there.
    pub(crate) fn remove(&self, def: &mut DomainDef) -> bool {
        self.find(def).is_some_and(|device| def.devices.remove(&device))
    }
}

/// Which device of `def` is named so: by its alias, a disk by its target, an interface by its MAC
/// address or the host's name of it.
pub(crate) fn key(def: &DomainDef, name: &str) -> Option<Key> {
    let mac = name.parse::<MacAddress>().ok();
    let is = |device: &Device| match device {
        Device::Disk(disk) => disk.target.dev == name,
        Device::Interface(interface) => {
            let tap = interface.target.as_ref().and_then(|target| target.dev.as_deref());
            tap == Some(name) || (mac.is_some() && interface.mac_address() == mac)
        }
        Device::Rng(_) | Device::Input(_) | Device::Vsock(_) => false,
    };
    let named = |device: &Device| device.alias() == Some(name) || is(device);
    def.devices.pluggable().find(named).as_ref().and_then(Key::of)
}

/// Which device of `def` an XML description means: virsh's detach-device and update-device.
pub(crate) fn meant(def: &DomainDef, device: &Device) -> Option<Key> {
    let key = match (Key::of(device), def.devices.interfaces.as_slice()) {
        (Some(key), _) => key,
        // Without an address there is no doubt only if there is one interface.
        (None, [only]) => Key::of_interface(only)?,
        (None, _) => return None,
    };
    let found = key.find(def)?;
    // Who names a place means what is there.
    let elsewhere = device.address().is_some() && device.address() != found.address();
    match key {
        Key::Like(_) if elsewhere => None,
        Key::Like(_) => Key::of(&found),
        key => Some(key),
    }
}

/// Take the device of this alias out.
pub(crate) fn remove(def: &mut DomainDef, alias: &str) -> Option<Device> {
    let device = def.devices.pluggable().find(|device| device.alias() == Some(alias))?;
    def.devices.remove(&device).then_some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(devices: &str) -> DomainDef {
        let text = format!(
            "<domain type='kvm'><name>a</name><memory>65536</memory><os><type>hvm</type></os>\
             <devices>{devices}</devices></domain>"
        );
        DomainDef::parse(&text).unwrap().value
    }

    fn rng(slot: u8, bytes: u32) -> String {
        let address = match slot {
            0 => String::new(),
            slot => format!("<address type='pci' domain='0' bus='0' slot='{slot}' function='0'/>"),
        };
        format!(
            "<rng model='virtio'><rate bytes='{bytes}'/><backend model='random'/>{address}</rng>"
        )
    }

    fn device(text: &str) -> Device {
        Device::parse(text).unwrap().value
    }

    #[test]
    fn what_has_no_name_is_known_by_all_that_it_is_and_where() {
        let mut def = def(&[rng(3, 1), rng(4, 1), rng(5, 2)].concat());
        for (text, slot) in [(rng(0, 2), Some(5)), (rng(0, 1), Some(3)), (rng(4, 1), Some(4))] {
            let found = meant(&def, &device(&text)).and_then(|key| key.find(&def));
            let found = found.and_then(|it| it.address()?.pci().map(|at| at.slot));
            assert_eq!(found, slot, "{text}");
        }
        for absent in [rng(0, 3), rng(6, 1), "<input type='mouse' bus='virtio'/>".to_owned()] {
            assert!(meant(&def, &device(&absent)).is_none(), "{absent}");
        }
        // In another definition it may be elsewhere.
        let key = Key::of(&device(&rng(9, 1))).unwrap();
        assert!(key.remove(&mut def) && key.remove(&mut def) && !key.remove(&mut def));
        assert_eq!(def.devices.rngs.len(), 1);
    }

    #[test]
    fn the_one_vsock_is_meant_whatever_its_number() {
        let def = def("<vsock><cid auto='yes' address='7'/></vsock>");
        assert!(meant(&def, &device("<vsock><cid auto='yes'/></vsock>")).is_some());
    }
}
