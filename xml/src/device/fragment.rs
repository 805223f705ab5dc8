//! [`Device`]: one device by itself, as it is put into a domain that exists.

use crate::device::{Disk, Interface};
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
    ("input", "a keyboard, mouse or tablet is there from the start"),
    ("graphics", "a display's server is started with the guest"),
    ("sound", "Manor has no sound cards"),
    ("audio", "Manor has no sound cards"),
    ("video", "firmware sets a graphics card up"),
    ("redirdev", "Manor has no USB"),
    ("hub", "Manor has no USB"),
    ("watchdog", "a guest is watched from its start, or not at all"),
    ("memballoon", "a guest has one balloon, from its start"),
    ("rng", "the source of random numbers is opened with the guest"),
    ("panic", "the port of panics is the board's"),
    ("vsock", "the sockets of the host's side are made with the guest"),
    ("hostdev", "Manor passes no devices of the host on"),
    ("filesystem", "Manor shares no directories"),
    ("tpm", "Manor has no TPM"),
    ("memory", "the guest's memory is what it starts with"),
];

#[derive(Debug, Clone, PartialEq)]
pub enum Device {
    Disk(Box<Disk>),
    Interface(Box<Interface>),
}

impl Device {
    /// Read a device, or say everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        Self::read(text, Bounds::OUTSIDE)
    }

    /// [`Self::parse`] for what [`Self::to_xml`] wrote.
    pub fn parse_stored(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        Self::read(text, Bounds::OWN)
    }

    fn read(text: &str, bounds: Bounds) -> Result<Parsed<Self>, Diagnostics> {
        match document::root_name(text, bounds).as_deref() {
            Some("interface") => {
                let parsed = document::parse(text, "interface", bounds)?;
                Ok(parsed.map(|interface| Self::Interface(Box::new(interface))))
            }
            // Also what is no device at all: the error says that a disk was expected.
            name => {
                if let Some((name, why)) = FIXED.iter().find(|(fixed, _)| name == Some(*fixed)) {
                    let message = format!(
                        "only disks and interfaces come and go: {why}; change <{name}> in the \
                         definition (define, edit)"
                    );
                    return Err(document::root_error(text, bounds, Kind::Unsupported, message));
                }
                let parsed = document::parse(text, "disk", bounds)?;
                Ok(parsed.map(|disk| Self::Disk(Box::new(disk))))
            }
        }
    }

    /// Its name in `<devices>`.
    #[must_use]
    pub fn element(&self) -> &'static str {
        match self {
            Self::Disk(_) => "disk",
            Self::Interface(_) => "interface",
        }
    }

    /// The device as libvirt prints it.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let mut out = Writer::default();
        match self {
            Self::Disk(disk) => disk.write(self.element(), &mut out),
            Self::Interface(interface) => interface.write(self.element(), &mut out),
        }
        out.finish()
    }

    #[must_use]
    pub fn alias(&self) -> Option<&str> {
        match self {
            Self::Disk(disk) => disk.alias.as_deref(),
            Self::Interface(interface) => interface.alias.as_deref(),
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
    fn a_disk_and_an_interface_are_read_and_written() {
        for text in [
            "<disk type='file' device='disk'>\n  <source file='/a'/>\n  <target dev='vdb' bus='virtio'/>\n</disk>\n",
            "<interface type='network'>\n  <source network='default'/>\n</interface>\n",
        ] {
            let device = Device::parse(text).unwrap().value;
            assert_eq!(device.to_xml(), text);
            assert_eq!(Device::parse_stored(&device.to_xml()).unwrap().value, device);
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
