//! [`ConfigBuilder`]: lays out the header, BARs and the capability list of a function.

use std::sync::Mutex;

use crate::pci::config::{Bar, BarKind, Config, Live};
use crate::pci::spec::{self, CONFIG_SIZE, CONVENTIONAL_SIZE};

/// What a driver matches on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    pub vendor: u16,
    pub device: u16,
    /// Class, subclass and programming interface: `0x060400` is a PCI-to-PCI bridge.
    pub class: u32,
    pub revision: u8,
}

/// The device/port type of the PCI Express capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortType {
    Endpoint,
    RootPort,
    /// A bridge from PCI Express to conventional PCI.
    PciBridge,
    /// On the root bus itself, behind no port.
    IntegratedEndpoint,
}

/// First byte after the header: where capabilities go.
const CAPABILITIES_START: u16 = 0x40;
const CAPABILITIES_END: u16 = 0x100;

/// A configuration space in the making.
pub struct ConfigBuilder {
    bytes: Box<[u8; CONFIG_SIZE]>,
    writable: Box<[u8; CONFIG_SIZE]>,
    clearable: Box<[u8; CONFIG_SIZE]>,
    bars: Vec<Bar>,
    /// Where the pointer to the next capability is stored.
    last_pointer: u16,
    next: u16,
    len: usize,
}

impl ConfigBuilder {
    /// A function with a type 0 header.
    #[must_use]
    pub fn new(ids: Ids) -> Self {
        let zeros = || Box::new([0; CONFIG_SIZE]);
        let mut builder = Self {
            bytes: zeros(),
            writable: zeros(),
            clearable: zeros(),
            bars: Vec::new(),
            last_pointer: spec::CAPABILITIES,
            next: CAPABILITIES_START,
            len: CONVENTIONAL_SIZE,
        };
        builder.set(spec::VENDOR, &ids.vendor.to_le_bytes());
        builder.set(spec::DEVICE, &ids.device.to_le_bytes());
        builder.set(spec::REVISION, &(ids.class << 8 | u32::from(ids.revision)).to_le_bytes());
        builder.writable(spec::COMMAND, &spec::COMMAND_WRITABLE.to_le_bytes());
        builder.writable(spec::CACHE_LINE, &[0xff]);
        builder.writable(spec::INTERRUPT_LINE, &[0xff]);
        builder
    }

    /// A PCI-to-PCI bridge, with a type 1 header.
    #[must_use]
    pub fn bridge(ids: Ids) -> Self {
        let mut builder = Self::new(ids);
        builder.set(spec::HEADER_TYPE, &[spec::HEADER_BRIDGE]);
        // Primary, secondary and subordinate bus.
        builder.writable(0x18, &[0xff; 3]);
        // I/O base and limit, 32 bits wide; memory base and limit; prefetchable, 64 bits wide.
        builder.set(0x1c, &[0x01, 0x01]);
        builder.writable(0x1c, &[0xf0, 0xf0]);
        builder.writable(0x20, &[0xf0, 0xff, 0xf0, 0xff]);
        builder.set(0x24, &[0x01, 0x00, 0x01, 0x00]);
        builder.writable(0x24, &[0xf0, 0xff, 0xf0, 0xff]);
        builder.writable(0x28, &[0xff; 12]);
        // Bridge control: parity, SERR#, ISA, VGA, VGA 16-bit, master abort, secondary reset.
        builder.writable(spec::BRIDGE_CONTROL, &[0x7f, 0x00]);
        builder
    }

    pub fn subsystem(&mut self, vendor: u16, device: u16) -> &mut Self {
        self.set(spec::SUBSYSTEM_VENDOR, &vendor.to_le_bytes());
        self.set(spec::SUBSYSTEM_VENDOR + 2, &device.to_le_bytes())
    }

    /// A bridge that forwards no I/O ports: its base and limit are read-only zeros.
    pub fn without_io_window(&mut self) -> &mut Self {
        self.set(0x1c, &[0, 0]).writable(0x1c, &[0, 0]).writable(0x30, &[0; 4])
    }

    /// `pin`: 1 for INTA# to 4 for INTD#.
    pub fn interrupt_pin(&mut self, pin: u8) -> &mut Self {
        self.set(spec::INTERRUPT_PIN, &[pin])
    }

    /// Fixed content from `offset` on, for registers of the device's own.
    pub fn set(&mut self, offset: u16, data: &[u8]) -> &mut Self {
        put(&mut self.bytes[..], offset, data);
        self
    }

    /// Bits that the guest can write.
    pub fn writable(&mut self, offset: u16, mask: &[u8]) -> &mut Self {
        put(&mut self.writable[..], offset, mask);
        self
    }

    /// Bits that the guest clears by writing ones.
    pub fn clearable(&mut self, offset: u16, mask: &[u8]) -> &mut Self {
        put(&mut self.clearable[..], offset, mask);
        self
    }

    /// A BAR of `size` bytes, rounded up to what a BAR can have.
    pub fn bar(&mut self, index: u8, kind: BarKind, size: u64) -> &mut Self {
        let offset = spec::BAR0 + 4 * u16::from(index);
        let (least, flags) = match kind {
            BarKind::Io => (4, 0b01),
            BarKind::Memory32 => (16, 0),
            BarKind::Memory64 => (16, 0b1100),
            BarKind::Rom => (2048, 0),
        };
        let size = size.max(least).next_power_of_two();
        let mask = (!(size - 1)).to_le_bytes();
        match kind {
            // I/O too: SeaBIOS takes upper bits that stay zero for a range of 4 GiB.
            BarKind::Io | BarKind::Memory32 => self.writable(offset, &mask[..4]),
            BarKind::Memory64 => self.writable(offset, &mask),
            BarKind::Rom => self.writable(offset, &[1, mask[1], mask[2], mask[3]]),
        };
        self.set(offset, &[flags]);
        self.bars.push(Bar { index, kind, size });
        self
    }

    /// Append a capability: `body` follows the id and the next pointer, `mask` says which of its
    /// bits the guest can write. Its offset comes back.
    pub fn capability(&mut self, id: u8, body: &[u8], mask: &[u8]) -> u16 {
        let at = self.next;
        let end = at + 2 + body.len() as u16;
        assert!(end <= CAPABILITIES_END, "capabilities of a function fit its first 256 bytes");
        self.set(at, &[id, 0]);
        self.set(at + 2, body);
        self.writable(at + 2, mask);
        self.set(self.last_pointer, &[at as u8]);
        let status = usize::from(spec::STATUS);
        self.bytes[status] |= spec::STATUS_CAPABILITIES as u8;
        self.last_pointer = at + 1;
        self.next = end.next_multiple_of(4);
        at
    }

    /// The PCI Express capability, version 2: what makes the extended 4 KiB exist for a driver.
    pub fn express(&mut self, port: PortType) -> u16 {
        let (kind, slot) = match port {
            PortType::Endpoint => (0u16, 0),
            PortType::RootPort => (4, 1 << 8),
            PortType::PciBridge => (7, 0),
            PortType::IntegratedEndpoint => (9, 0),
        };
        self.len = CONFIG_SIZE;
        let mut body = [0; 0x3a];
        put(&mut body, 0x00, &(2 | kind << 4 | slot).to_le_bytes());
        // Device capabilities: role-based error reporting, function-level reset left to the device.
        put(&mut body, 0x02, &(1u32 << 15).to_le_bytes());
        if port != PortType::IntegratedEndpoint {
            // Link capabilities and status: 2.5 GT/s, x1, trained.
            put(&mut body, 0x0a, &0x11u32.to_le_bytes());
            put(&mut body, 0x10, &0x11u16.to_le_bytes());
        }
        let mut mask = [0; 0x3a];
        // Device control, all but the function-level reset bit; link control; device control 2.
        put(&mut mask, 0x06, &[0xff, 0x7f]);
        if port != PortType::IntegratedEndpoint {
            // Not the triggers: link disable and retrain.
            put(&mut mask, 0x0e, &[0xcb, 0x0f]);
        }
        put(&mut mask, 0x26, &[0x1f, 0x00]);
        let at = self.capability(spec::CAP_EXPRESS, &body, &mask);
        // Device status: errors are cleared by writing ones.
        self.clearable(at + 0x0a, &[0x0f]);
        at
    }

    #[must_use]
    pub fn build(self) -> Config {
        Config {
            bars: self.bars,
            writable: self.writable,
            clearable: self.clearable,
            len: self.len,
            live: Mutex::new(Live { initial: self.bytes.clone(), bytes: self.bytes, page: None }),
        }
    }
}

fn put(area: &mut [u8], offset: u16, data: &[u8]) {
    let at = usize::from(offset);
    area[at..at + data.len()].copy_from_slice(data);
}
