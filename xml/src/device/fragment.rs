//! [`Device`]: one device by itself, as it is put into a domain that exists.

use crate::device::{Disk, Interface};
use crate::diagnostic::{Diagnostics, Kind};
use crate::document::{self, Bounds, Parsed};
use crate::element::Element;
use crate::write::Writer;

/// Elements of `<devices>` that stay as they are for as long as the guest runs.
const FIXED: &[&str] = &[
    "controller",
    "smartcard",
    "serial",
    "parallel",
    "console",
    "channel",
    "input",
    "graphics",
    "sound",
    "audio",
    "video",
    "redirdev",
    "hub",
    "watchdog",
    "memballoon",
    "rng",
    "panic",
    "vsock",
    "hostdev",
    "filesystem",
    "tpm",
    "memory",
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
            Some(name) if FIXED.contains(&name) => {
                let message = format!(
                    "only disks and interfaces come and go; change <{name}> in the definition \
                     (define, edit)"
                );
                Err(document::root_error(text, bounds, Kind::Unsupported, message))
            }
            // Also what is no device at all: the error says that a disk was expected.
            _ => {
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
        assert!(refused("<rng model='virtio'/>").contains("change <rng> in the definition"));
        assert!(refused("<domain/>").contains("the document is a <domain>"));
        assert!(refused("<disk><target dev='vdb'/><sorce/></disk>").contains("sorce"));
        assert!(!refused("").is_empty());
        assert!(!refused("<disk").is_empty());
    }
}
