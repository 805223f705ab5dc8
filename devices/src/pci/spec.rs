//! Offsets and bits of configuration space (PCI Local Bus 3.0 §6, PCI-to-PCI Bridge 1.2 §3).

pub(crate) const CONFIG_SIZE: usize = 4096;
/// Without the PCI Express capability.
pub(crate) const CONVENTIONAL_SIZE: usize = 256;

pub(crate) const VENDOR: u16 = 0x00;
pub(crate) const DEVICE: u16 = 0x02;
pub(crate) const COMMAND: u16 = 0x04;
pub(crate) const STATUS: u16 = 0x06;
pub(crate) const REVISION: u16 = 0x08;
pub(crate) const CACHE_LINE: u16 = 0x0c;
pub(crate) const HEADER_TYPE: u16 = 0x0e;
pub(crate) const BAR0: u16 = 0x10;
pub(crate) const SUBSYSTEM_VENDOR: u16 = 0x2c;
pub(crate) const CAPABILITIES: u16 = 0x34;
pub(crate) const INTERRUPT_LINE: u16 = 0x3c;
pub(crate) const INTERRUPT_PIN: u16 = 0x3d;
pub(crate) const BRIDGE_CONTROL: u16 = 0x3e;

/// Of the expansion ROM's register: decode it.
pub(crate) const ROM_ENABLE: u32 = 1;

pub(crate) const COMMAND_IO: u16 = 1 << 0;
pub(crate) const COMMAND_MEMORY: u16 = 1 << 1;
pub(crate) const COMMAND_MASTER: u16 = 1 << 2;
pub(crate) const COMMAND_INTX_DISABLE: u16 = 1 << 10;
/// I/O, memory, master, parity, SERR#, INTx disable.
pub(crate) const COMMAND_WRITABLE: u16 = 0x0547;

/// Secondary bus reset.
pub(crate) const BRIDGE_CONTROL_RESET: u16 = 1 << 6;

pub(crate) const STATUS_INTERRUPT: u16 = 1 << 3;
pub(crate) const STATUS_CAPABILITIES: u16 = 1 << 4;

pub(crate) const HEADER_BRIDGE: u8 = 1;
pub(crate) const HEADER_MULTIFUNCTION: u8 = 0x80;

pub(crate) const CAP_MSI: u8 = 0x05;
pub(crate) const CAP_EXPRESS: u8 = 0x10;
pub(crate) const CAP_MSIX: u8 = 0x11;
