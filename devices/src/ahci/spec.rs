//! Registers and structures of AHCI 1.3.1.

pub const PORTS: usize = 6;
pub(super) const SLOTS: u32 = 32;
pub(super) const BAR: u8 = 5;
pub(super) const BAR_SIZE: u64 = 0x1000;

/// Generic host control (§3.1).
pub(super) mod generic {
    pub(crate) const CAP: u64 = 0x00;
    pub(crate) const GHC: u64 = 0x04;
    pub(crate) const IS: u64 = 0x08;
    pub(crate) const PI: u64 = 0x0c;
    pub(crate) const VS: u64 = 0x10;
}

/// 64-bit addresses, native queues, list override, generation 3, AHCI only, 32 slots, 6 ports.
pub(super) const CAPABILITIES: u32 =
    1 << 31 | 1 << 30 | 1 << 24 | 3 << 20 | 1 << 18 | 31 << 8 | (PORTS as u32 - 1);
pub(super) const VERSION: u32 = 0x0001_0301;

pub(super) const GHC_RESET: u32 = 1;
pub(super) const GHC_INTERRUPTS: u32 = 1 << 1;
pub(super) const GHC_AHCI: u32 = 1 << 31;

pub(super) const PORT_BASE: u64 = 0x100;
pub(super) const PORT_STEP: u64 = 0x80;

/// Registers of a port (§3.3).
pub(super) mod port {
    pub(crate) const CLB: u64 = 0x00;
    pub(crate) const CLBU: u64 = 0x04;
    pub(crate) const FB: u64 = 0x08;
    pub(crate) const FBU: u64 = 0x0c;
    pub(crate) const IS: u64 = 0x10;
    pub(crate) const IE: u64 = 0x14;
    pub(crate) const CMD: u64 = 0x18;
    pub(crate) const TFD: u64 = 0x20;
    pub(crate) const SIG: u64 = 0x24;
    pub(crate) const SSTS: u64 = 0x28;
    pub(crate) const SCTL: u64 = 0x2c;
    pub(crate) const SERR: u64 = 0x30;
    pub(crate) const SACT: u64 = 0x34;
    pub(crate) const CI: u64 = 0x38;
}

pub(super) mod interrupt {
    pub(crate) const D2H_REGISTER: u32 = 1 << 0;
    pub(crate) const PIO_SETUP: u32 = 1 << 1;
    pub(crate) const DEVICE_BITS: u32 = 1 << 3;
    pub(crate) const CONNECT_CHANGE: u32 = 1 << 6;
    pub(crate) const OVERFLOW: u32 = 1 << 24;
    pub(crate) const HOST_DATA: u32 = 1 << 28;
    pub(crate) const HOST_FATAL: u32 = 1 << 29;
    pub(crate) const TASK_FILE: u32 = 1 << 30;
    /// What the port can signal.
    pub(crate) const ALL: u32 = 0xfdc0_00ff;
}

pub(super) mod cmd {
    pub(crate) const ST: u32 = 1 << 0;
    pub(crate) const SUD: u32 = 1 << 1;
    pub(crate) const POD: u32 = 1 << 2;
    pub(crate) const CLO: u32 = 1 << 3;
    pub(crate) const FRE: u32 = 1 << 4;
    pub(crate) const FR: u32 = 1 << 14;
    pub(crate) const CR: u32 = 1 << 15;
    pub(crate) const ATAPI: u32 = 1 << 24;
    /// Start, receive, ATAPI and its LED, power management, interface control.
    pub(crate) const WRITABLE: u32 = ST | FRE | ATAPI | 1 << 25 | 1 << 26 | 1 << 27 | 0xf << 28;
    /// Which command is current.
    pub(crate) const CCS_SHIFT: u32 = 8;
    pub(crate) const CCS: u32 = 0x1f << CCS_SHIFT;
}

/// Device present, at generation 3, interface active.
pub(super) const LINK_UP: u32 = 0x133;
/// `SCTL.DET`: reset the link.
pub(super) const DET: u32 = 0xf;
pub(super) const DET_RESET: u32 = 1;
/// `SERR.DIAG.X` and `.N`: the link came up.
pub(super) const EXCHANGED: u32 = 1 << 26 | 1 << 16;

pub(super) const NO_SIGNATURE: u32 = 0xffff_ffff;
/// Status of a port without a device.
pub(super) const NO_DEVICE: u32 = 0x7f;

/// Frame information structures: types, and where received ones go.
pub(super) const FIS_H2D: u8 = 0x27;
pub(super) const FIS_D2H: u8 = 0x34;
pub(super) const FIS_PIO_SETUP: u8 = 0x5f;
pub(super) const FIS_DEVICE_BITS: u8 = 0xa1;
pub(super) const RECEIVED_PIO_SETUP: u64 = 0x20;
pub(super) const RECEIVED_D2H: u64 = 0x40;
pub(super) const RECEIVED_DEVICE_BITS: u64 = 0x58;
/// Bit 6 of a received FIS's second byte: raise an interrupt.
pub(super) const FIS_INTERRUPT: u8 = 0x40;
/// Bit 7 of a sent FIS's second byte: it is a command.
pub(super) const FIS_COMMAND: u8 = 0x80;
/// Of the control register.
pub(super) const SOFT_RESET: u8 = 1 << 2;

pub(super) const HEADER_LEN: u64 = 32;
pub(super) const PACKET_OFFSET: u64 = 0x40;
pub(super) const PRDT_OFFSET: u64 = 0x80;
pub(super) const PRD_LEN: u64 = 16;
