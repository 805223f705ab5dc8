//! [`PciAddress`]: where a function sits.

use std::fmt;

/// Bus, device and function. `bus` is the number the guest programmed, not a place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    pub bus: u8,
    devfn: u8,
}

impl PciAddress {
    pub const HOST_BRIDGE: Self = Self::new(0, 0, 0);

    /// Device 0..32 and function 0..8; higher bits are cut off, as the address lines would.
    #[must_use]
    pub const fn new(bus: u8, device: u8, function: u8) -> Self {
        Self { bus, devfn: (device & 0x1f) << 3 | function & 7 }
    }

    #[must_use]
    pub const fn from_devfn(bus: u8, devfn: u8) -> Self {
        Self { bus, devfn }
    }

    #[must_use]
    pub const fn device(self) -> u8 {
        self.devfn >> 3
    }

    #[must_use]
    pub const fn function(self) -> u8 {
        self.devfn & 7
    }

    #[must_use]
    pub const fn devfn(self) -> u8 {
        self.devfn
    }

    /// Of the function's 4 KiB of configuration space in the ECAM window.
    #[must_use]
    pub const fn ecam_offset(self) -> u64 {
        (self.bus as u64) << 20 | (self.devfn as u64) << 12
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device(), self.function())
    }
}
