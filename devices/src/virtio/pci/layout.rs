//! Where things lie: the BAR, the virtio capabilities that describe it (virtio 1.2 §4.1.4), and
//! the identity of the function.

use crate::pci::{Bar, BarKind, Config, ConfigBuilder, Ids, Msix, MsixPlace, PortType};

/// The one BAR. 64 bits wide, so it takes two registers.
pub(super) const BAR: u8 = 0;
pub(super) const BAR_SIZE: u64 = 0x8000;

const COMMON: u64 = 0x0000;
const COMMON_LEN: u64 = 0x40;
const ISR: u64 = 0x1000;
const ISR_LEN: u64 = 4;
const DEVICE: u64 = 0x2000;
const DEVICE_LEN: u64 = 0x1000;
// A page of its own: it is where doorbells are, and it may be mapped into a driver's process.
const NOTIFY: u64 = 0x3000;
const NOTIFY_LEN: u64 = 0x1000;
pub(super) const MSIX: MsixPlace = MsixPlace { bar: BAR, table: 0x4000, pba: 0x6000 };
/// What fits between table and pending bits.
const MAX_VECTORS: u16 = 512;

/// Bytes between the doorbells of two queues (`notify_off_multiplier`).
pub(super) const NOTIFY_STEP: u64 = 4;

const VENDOR: u16 = 0x1af4;
/// Non-transitional devices have 0x1040 + device type, and revision 1 or later.
const DEVICE_ID_BASE: u16 = 0x1040;
/// What drivers of other systems expect beside the vendor in the subsystem id.
const SUBSYSTEM: u16 = 0x1100;

const CAP_VENDOR: u8 = 0x09;
const CFG_COMMON: u8 = 1;
const CFG_NOTIFY: u8 = 2;
const CFG_ISR: u8 = 3;
const CFG_DEVICE: u8 = 4;
const CFG_PCI: u8 = 5;

/// Offset of `pci_cfg_data` in the configuration access capability.
pub(super) const WINDOW_DATA: u16 = 16;

/// The parts of the BAR that the transport answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Region {
    Common,
    Isr,
    Device,
    Notify,
}

impl Region {
    /// The region that holds all of an access, and the offset in it.
    pub(super) fn find(bar: u8, offset: u64, len: usize) -> Option<(Self, u64)> {
        let end = offset.checked_add(len as u64)?;
        let regions = [
            (Self::Common, COMMON, COMMON_LEN),
            (Self::Isr, ISR, ISR_LEN),
            (Self::Device, DEVICE, DEVICE_LEN),
            (Self::Notify, NOTIFY, NOTIFY_LEN),
        ];
        regions
            .into_iter()
            .find(|(_, start, len)| offset >= *start && end <= start + len)
            .filter(|_| bar == BAR)
            .map(|(region, start, _)| (region, offset - start))
    }
}

/// Guest address of queue `index`'s doorbell, with the BAR at `base`.
pub(super) fn doorbell(base: u64, index: u16) -> u64 {
    base + NOTIFY + NOTIFY_STEP * u64::from(index)
}

/// MSI-X vectors for a device of `queues` queues: one each, and one for configuration changes.
pub(super) fn vectors(queues: usize) -> u16 {
    u16::try_from(queues + 1).unwrap_or(u16::MAX).min(MAX_VECTORS)
}

pub(super) fn ids(device_type: u16) -> (u16, u16) {
    (VENDOR, DEVICE_ID_BASE.saturating_add(device_type))
}

pub(super) struct Built {
    pub(super) config: Config,
    pub(super) msix_control: u16,
    pub(super) window: u16,
}

pub(super) fn config_space(
    device_type: u16,
    msix: &Msix,
    pin: Option<u8>,
    express: Option<PortType>,
    rom: Option<u64>,
) -> Built {
    let (vendor, device) = ids(device_type);
    let mut builder =
        ConfigBuilder::new(Ids { vendor, device, class: class(device_type), revision: 1 });
    builder.subsystem(VENDOR, SUBSYSTEM).bar(BAR, BarKind::Memory64, BAR_SIZE);
    if let Some(size) = rom {
        builder.bar(Bar::ROM, BarKind::Rom, size);
    }
    if let Some(pin) = pin {
        builder.interrupt_pin(pin);
    }
    let msix_capability = msix.add_capability(&mut builder);
    capability(&mut builder, CFG_COMMON, COMMON, COMMON_LEN, &[], &[]);
    let step = (NOTIFY_STEP as u32).to_le_bytes();
    capability(&mut builder, CFG_NOTIFY, NOTIFY, NOTIFY_LEN, &step, &[]);
    capability(&mut builder, CFG_ISR, ISR, ISR_LEN, &[], &[]);
    capability(&mut builder, CFG_DEVICE, DEVICE, DEVICE_LEN, &[], &[]);
    // bar, then offset and length, then the data itself.
    let mask = [0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let mask = [&mask[..], &[0xff; 4]].concat();
    let window = capability(&mut builder, CFG_PCI, 0, 0, &[0; 4], &mask);
    if let Some(port) = express {
        builder.express(port);
    }
    Built { config: builder.build(), msix_control: Msix::control_offset(msix_capability), window }
}

/// `struct virtio_pci_cap`, and what follows it.
fn capability(
    builder: &mut ConfigBuilder,
    kind: u8,
    offset: u64,
    len: u64,
    more: &[u8],
    mask: &[u8],
) -> u16 {
    let total = 16 + more.len() as u8;
    let mut body = vec![total, kind, BAR, 0, 0, 0];
    body.extend((offset as u32).to_le_bytes());
    body.extend((len as u32).to_le_bytes());
    body.extend(more);
    builder.capability(CAP_VENDOR, &body, mask)
}

/// PCI class codes, as other machine monitors give them: drivers list devices by them.
fn class(device_type: u16) -> u32 {
    match device_type {
        1 => 0x02_00_00,
        2 => 0x01_00_00,
        3 => 0x07_80_00,
        8 => 0x01_00_00,
        16 => 0x03_80_00,
        18 => 0x09_80_00,
        19 => 0x07_80_00,
        _ => 0x00_ff_00,
    }
}

/// What the driver set up in the configuration access capability.
pub(super) struct Window {
    pub(super) bar: u8,
    pub(super) offset: u32,
    pub(super) length: u32,
}

impl Window {
    pub(super) fn read(config: &Config, at: u16) -> Self {
        Self { bar: config.u8(at + 4), offset: config.u32(at + 8), length: config.u32(at + 12) }
    }
}
