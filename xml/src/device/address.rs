//! Where a device sits: `<address>` and `<alias>`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::cursor::{Cursor, Slot};
use crate::element::{Attribute, Element, choice, element};
use crate::value::{Expected, Hex, OnOff, Value};
use crate::write::Writer;

choice! {
    pub enum DeviceAddress by "type" {
        Pci(PciPlace) = "pci",
        Drive(DriveAddress) = "drive",
        VirtioSerial(VirtioSerialAddress) = "virtio-serial",
        Ccid(CcidAddress) = "ccid",
        Usb(UsbAddress) = "usb",
        Isa(IsaAddress) = "isa",
        VirtioMmio(NoAddress) = "virtio-mmio",
        Dimm(DimmAddress) = "dimm",
        SpaprVio(SpaprVioAddress) = "spapr-vio",
        Ccw(CcwAddress) = "ccw",
        /// Defined, but not to be plugged in.
        Unassigned(NoAddress) = "unassigned",
    }
}

impl DeviceAddress {
    /// The assigned PCI address, if it is one.
    pub fn pci(&self) -> Option<PciAddress> {
        match self {
            Self::Pci(place) => place.address,
            _ => None,
        }
    }
}

/// A PCI function, `0000:00:1f.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    pub domain: u16,
    pub bus: u8,
    /// 0 to 31.
    pub slot: u8,
    /// 0 to 7.
    pub function: u8,
}

impl PciAddress {
    /// On bus `bus` of the one domain an x86 guest has; `None` if there is no such slot or function.
    pub fn new(bus: u8, slot: u8, function: u8) -> Option<Self> {
        (slot < 32 && function < 8).then_some(Self { domain: 0, bus, slot, function })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.slot, self.function)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotPciAddress;

impl fmt::Display for NotPciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a PCI address looks like 0000:00:1f.3")
    }
}

impl std::error::Error for NotPciAddress {}

impl FromStr for PciAddress {
    type Err = NotPciAddress;

    fn from_str(text: &str) -> Result<Self, NotPciAddress> {
        let hex = |part: &str, digits: usize| {
            let valid = part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
            if valid {
                u16::from_str_radix(part, 16).map_err(|_| NotPciAddress)
            } else {
                Err(NotPciAddress)
            }
        };
        let byte = |part: &str, digits| u8::try_from(hex(part, digits)?).map_err(|_| NotPciAddress);
        let (rest, function) = text.rsplit_once('.').ok_or(NotPciAddress)?;
        let (rest, slot) = rest.rsplit_once(':').ok_or(NotPciAddress)?;
        let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0000", rest));
        let address =
            Self::new(byte(bus, 2)?, byte(slot, 2)?, byte(function, 1)?).ok_or(NotPciAddress)?;
        Ok(Self { domain: hex(domain, 4)?, ..address })
    }
}

/// `<address type='pci' …/>`; without numbers it only asks for a PCI slot, which is then assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PciPlace {
    pub address: Option<PciAddress>,
    pub multifunction: Option<OnOff>,
}

impl From<PciAddress> for DeviceAddress {
    fn from(address: PciAddress) -> Self {
        Self::Pci(PciPlace { address: Some(address), multifunction: None })
    }
}

/// A part of an address below `LIMIT`.
struct Part<const LIMIT: u32>(u32);

impl<const LIMIT: u32> Value for Part<LIMIT> {
    fn parse(text: &str) -> Result<Self, Expected> {
        match Hex::parse(text)? {
            Hex(number) if number < LIMIT => Ok(Self(number)),
            Hex(_) => Err(Expected::Range(format!("at most {:#x}", LIMIT - 1))),
        }
    }
    fn print(&self) -> Cow<'_, str> {
        Cow::Owned(self.0.to_string())
    }
}

impl Element for PciPlace {
    fn read(at: Cursor<'_>) -> Option<Self> {
        let names = ["domain", "bus", "slot", "function", "multifunction"];
        at.expect(&names.map(Slot::Attribute), &["zpci"]);
        let domain = <Option<Part<0x1_0000>> as Attribute>::read(at, "domain");
        let bus = <Option<Part<0x100>> as Attribute>::read(at, "bus");
        let slot = <Option<Part<32>> as Attribute>::read(at, "slot");
        let function = <Option<Part<8>> as Attribute>::read(at, "function");
        let multifunction = Attribute::read(at, "multifunction")?;
        let (domain, bus, slot, function) = (domain?, bus?, slot?, function?);
        if bus.is_none() && slot.is_none() && function.is_none() {
            return Some(Self { address: None, multifunction });
        }
        let byte = |part: u32| u8::try_from(part).unwrap_or(u8::MAX);
        let address = PciAddress {
            domain: domain.map_or(0, |part| u16::try_from(part.0).unwrap_or(u16::MAX)),
            bus: bus.map_or(0, |part| byte(part.0)),
            slot: slot.map_or(0, |part| byte(part.0)),
            function: function.map_or(0, |part| byte(part.0)),
        };
        Some(Self { address: Some(address), multifunction })
    }

    fn write(&self, name: &'static str, out: &mut Writer) {
        let mut tag = out.tag(name);
        if let Some(PciAddress { domain, bus, slot, function }) = self.address {
            tag.attribute("domain", &format!("{domain:#06x}"));
            tag.attribute("bus", &format!("{bus:#04x}"));
            tag.attribute("slot", &format!("{slot:#04x}"));
            tag.attribute("function", &format!("{function:#x}"));
        }
        Attribute::write(&self.multifunction, "multifunction", &mut tag);
        tag.empty();
    }
}

element! {
    #[derive(Copy, Default, Hash)]
    pub struct DriveAddress {
        attr controller: Option<u32>,
        attr bus: Option<u32>,
        attr target: Option<u32>,
        attr unit: Option<u32>,
    }
}

element! {
    #[derive(Copy, Default, Hash)]
    pub struct VirtioSerialAddress {
        attr controller: Option<u32>,
        attr bus: Option<u32>,
        attr port: Option<u32>,
    }
}

element! {
    #[derive(Copy, Default, Hash)]
    pub struct CcidAddress {
        attr controller: Option<u32>,
        attr slot: Option<u32>,
    }
}

element! {
    /// The port is a path through hubs, `1.3`.
    #[derive(Default, Hash)]
    pub struct UsbAddress {
        attr bus: Option<u32>,
        attr port: Option<String>,
    }
}

element! {
    #[derive(Copy, Default, Hash)]
    pub struct IsaAddress {
        attr iobase: Option<Hex>,
        attr irq: Option<Hex>,
    }
}

element! {
    #[derive(Default, Hash)]
    pub struct DimmAddress {
        attr slot: Option<u32>,
        attr base: Option<String>,
    }
}

element! {
    #[derive(Copy, Default, Hash)]
    pub struct SpaprVioAddress {
        attr reg: Option<Hex>,
    }
}

element! {
    #[derive(Copy, Default, Hash)]
    pub struct CcwAddress {
        attr cssid: Option<Hex>,
        attr ssid: Option<Hex>,
        attr devno: Option<Hex>,
    }
}

element! {
    #[derive(Copy, Default, Hash)]
    pub struct NoAddress {}
}
