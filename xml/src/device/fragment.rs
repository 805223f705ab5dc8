//! [`Device`]: one device by itself, as it is put into a domain that exists.

use crate::device::{DeviceAddress, Devices, Disk, Input, Interface, Rng, Vsock};
use crate::diagnostic::{Diagnostics, Kind};
use crate::document::{self, Bounds, Parsed};
use crate::element::Element;
use crate::write::Writer;

/// Elements of `<devices>` that stay as they are for as long as the guest runs, and why.
const FIXED: &[(&str, &str)] = &[
    ("controller", "a controller has its place in the guest's PCI tree from the start"),
    ("smartcard", "Manor has no smart cards"),
    ("serial", "a serial port is the board's"),
    ("parallel", "a parallel port is the board's"),
    ("console", "a console is a port of a device that the guest starts with"),
    ("channel", "a channel is a port of a device that the guest starts with"),
    ("graphics", "a display's server is started with the guest"),
    ("sound", "Manor has no sound cards"),
    ("audio", "Manor has no sound cards"),
    ("video", "firmware sets a graphics card up"),
    ("redirdev", "Manor has no USB"),
    ("hub", "Manor has no USB"),
    ("watchdog", "a guest is watched from its start, or not at all"),
    ("memballoon", "a guest has one balloon, from its start"),
    ("panic", "the port of panics is the board's"),
    ("hostdev", "Manor passes no devices of the host on"),
    ("filesystem", "Manor shares no directories"),
    ("tpm", "Manor has no TPM"),
    ("memory", "the guest's memory is what it starts with"),
];

macro_rules! devices {
    ($($kind:ident = $element:literal in $list:ident),+ $(,)?) => {
        /// A device of a kind that comes and goes.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Device {
            $($kind(Box<$kind>),)+
        }

        impl Device {
            fn read(text: &str, bounds: Bounds) -> Result<Parsed<Self>, Diagnostics> {
                let name = document::root_name(text, bounds);
                match name.as_deref() {
                    $(Some($element) => {
                        let parsed = document::parse(text, $element, bounds)?;
                        Ok(parsed.map(|device| Self::$kind(Box::new(device))))
                    })+
                    name => Err(unknown(text, name, bounds)),
                }
            }

            /// Its name in `<devices>`.
            #[must_use]
            pub fn element(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $element,)+
                }
            }

            /// The device as libvirt prints it.
            #[must_use]
            pub fn to_xml(&self) -> String {
                let mut out = Writer::default();
                match self {
                    $(Self::$kind(device) => device.write(self.element(), &mut out),)+
                }
                out.finish()
            }

            #[must_use]
            pub fn alias(&self) -> Option<&str> {
                match self {
                    $(Self::$kind(device) => device.alias.as_deref(),)+
                }
            }

            #[must_use]
            pub fn address(&self) -> Option<&DeviceAddress> {
                match self {
                    $(Self::$kind(device) => device.address.as_ref(),)+
                }
            }

            /// By what it is, wherever it is and whatever it is called.
            #[must_use]
            pub fn bare(mut self) -> Self {
                match &mut self {
                    $(Self::$kind(device) => (device.alias, device.address) = (None, None),)+
                }
                self
            }
        }

        impl Devices {
            /// Those of kinds that come and go.
            pub fn pluggable(&self) -> impl Iterator<Item = Device> + '_ {
                std::iter::empty()
                    $(.chain(self.$list.iter().cloned().map(|it| Device::$kind(Box::new(it)))))+
            }
        }
    };
}

devices! {
    Disk = "disk" in disks,
    Interface = "interface" in interfaces,
    Rng = "rng" in rngs,
    Input = "input" in inputs,
    Vsock = "vsock" in vsock,
}

fn unknown(text: &str, name: Option<&str>, bounds: Bounds) -> Diagnostics {
    if let Some((name, why)) = FIXED.iter().find(|(fixed, _)| name == Some(*fixed)) {
        let message = format!(
            "disks, interfaces, random numbers, virtio inputs and vsock come and go: {why}; change \
             <{name}> in the definition (define, edit)"
        );
        return document::root_error(text, bounds, Kind::Unsupported, message);
    }
    // What is no device at all: the error says that a disk was expected.
    match document::parse::<Disk>(text, "disk", bounds) {
        Err(error) => error,
        Ok(_) => document::root_error(text, bounds, Kind::Invalid, "not a device".to_owned()),
    }
}

impl Device {
    /// Read a device, or say everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        Ok(Self::read(text, Bounds::OUTSIDE)?.map(Self::without_jobs))
    }

    /// What a running domain's disk was copied to when it was dumped is no part of the disk.
    fn without_jobs(mut self) -> Self {
        if let Self::Disk(disk) = &mut self {
            disk.mirror = None;
        }
        self
    }

    /// [`Self::parse`] for what [`Self::to_xml`] wrote.
    pub fn parse_stored(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        Self::read(text, Bounds::OWN)
    }
}

impl Devices {
    /// Put a device behind the others of its kind; its place among them, from 1. Of vsock there is one.
    pub fn push(&mut self, device: Device) -> usize {
        fn put<T>(list: &mut Vec<T>, device: T) -> usize {
            list.push(device);
            list.len()
        }
        match device {
            Device::Disk(disk) => put(&mut self.disks, *disk),
            Device::Interface(interface) => put(&mut self.interfaces, *interface),
            Device::Rng(rng) => put(&mut self.rngs, *rng),
            Device::Input(input) => put(&mut self.inputs, *input),
            Device::Vsock(vsock) => {
                self.vsock = Some(*vsock);
                1
            }
        }
    }

    /// Take the first device out that is equal to this one; whether there was one.
    pub fn remove(&mut self, device: &Device) -> bool {
        fn take<T: PartialEq>(list: &mut Vec<T>, device: &T) -> bool {
            let at = list.iter().position(|other| other == device);
            at.map(|at| list.remove(at)).is_some()
        }
        match device {
            Device::Disk(disk) => take(&mut self.disks, disk),
            Device::Interface(interface) => take(&mut self.interfaces, interface),
            Device::Rng(rng) => take(&mut self.rngs, rng),
            Device::Input(input) => take(&mut self.inputs, input),
            Device::Vsock(vsock) => self.vsock.take_if(|other| other == &**vsock).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Device::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn devices_that_come_and_go_are_read_and_written_and_have_their_place() {
        for text in [
            "<disk type='file' device='disk'>\n  <source file='/a'/>\n  <target dev='vdb' bus='virtio'/>\n</disk>\n",
            "<interface type='network'>\n  <source network='default'/>\n</interface>\n",
            "<rng model='virtio'>\n  <backend model='random'>/dev/urandom</backend>\n</rng>\n",
            "<input type='tablet' bus='virtio'/>\n",
            "<vsock model='virtio'>\n  <cid auto='no' address='3'/>\n</vsock>\n",
        ] {
            let device = Device::parse(text).unwrap().value;
            assert_eq!(device.to_xml(), text);
            assert_eq!(Device::parse_stored(&device.to_xml()).unwrap().value, device);
            let mut devices = Devices::default();
            assert_eq!(devices.push(device.clone()), 1);
            assert!(devices.pluggable().eq([device.clone()]));
            assert!(devices.remove(&device) && !devices.remove(&device));
        }
    }

    #[test]
    fn what_is_no_device_that_comes_and_goes_is_named() {
        for (name, why) in FIXED {
            let refused = refused(&format!("<{name}/>"));
            assert!(refused.contains(why), "{refused}");
            assert!(refused.contains(&format!("change <{name}> in the definition")), "{refused}");
        }
        assert!(refused("<domain/>").contains("the document is a <domain>"));
        assert!(refused("<disk><target dev='vdb'/><sorce/></disk>").contains("sorce"));
        assert!(!refused("").is_empty());
        assert!(!refused("<disk").is_empty());
    }
}
