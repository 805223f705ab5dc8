//! [`Chip`]: the functions a PC board brings along, of which firmware and kernels only use a few
//! registers that store what is written: host bridges, ISA bridges and the PIIX4 power management.
//!
//! The power management block itself is always at port 0x600 (see [`crate::chipset`]): the
//! registers that say so are preset and read-only, so that firmware, ACPI and kernel agree.

use crate::component::{Component, DeviceState, StateError};
use crate::pci::{Config, ConfigBuilder, ConfigState, Ids, PciFunction};

const INTEL: u16 = 0x8086;
/// The subsystem by which firmware knows that it runs in a virtual machine with fw_cfg.
const SUBSYSTEM: (u16, u16) = (0x1af4, 0x1100);

const PCIEXBAR: u16 = 0x60;
const PCIEXBAR_ENABLE: u64 = 1;
/// Interrupts of PIRQ registers are not routed.
const PIRQ_DISABLED: u8 = 0x80;

/// A function without BARs.
pub struct Chip {
    id: &'static str,
    config: Config,
    /// Whether PCIEXBAR places configuration space.
    has_ecam: bool,
}

fn builder(device: u16, class: u32, revision: u8) -> ConfigBuilder {
    let mut builder = ConfigBuilder::new(Ids { vendor: INTEL, device, class, revision });
    builder.subsystem(SUBSYSTEM.0, SUBSYSTEM.1);
    builder
}

impl Chip {
    /// The Q35 memory controller hub, at 00.0. `ecam`: where it maps configuration space at reset,
    /// for guests that boot without firmware.
    #[must_use]
    pub fn q35_host_bridge(ecam: Option<u64>) -> Self {
        let mut builder = builder(0x29c0, 0x06_00_00, 0);
        let register = ecam.map_or(0, |base| base | PCIEXBAR_ENABLE);
        builder
            .set(PCIEXBAR, &register.to_le_bytes())
            // Enable, length, and the address bits 26 to 38.
            .writable(PCIEXBAR, &0x7f_fc00_0007u64.to_le_bytes())
            // PAM0 to PAM6, and the SMRAM registers, which nothing locks.
            .writable(0x90, &[0xff; 7])
            .writable(0x9d, &[0xff; 2]);
        Self { id: "mch", config: builder.build(), has_ecam: true }
    }

    /// The 440FX host bridge, at 00.0.
    #[must_use]
    pub fn i440fx_host_bridge() -> Self {
        let mut builder = builder(0x1237, 0x06_00_00, 2);
        builder.writable(0x59, &[0xff; 7]).writable(0x72, &[0xff]);
        Self { id: "pmc", config: builder.build(), has_ecam: false }
    }

    /// The ICH9 LPC bridge, at 1f.0.
    #[must_use]
    pub fn ich9_lpc() -> Self {
        let mut builder = builder(0x2918, 0x06_01_00, 2);
        builder
            .set(0x40, &0x601u32.to_le_bytes())
            .set(0x44, &[0x80])
            .set(0x60, &[PIRQ_DISABLED; 4])
            .set(0x68, &[PIRQ_DISABLED; 4])
            .writable(0x60, &[0x8f; 4])
            .writable(0x68, &[0x8f; 4])
            .writable(0x80, &[0xff; 4])
            .writable(0xa0, &[0xff; 2])
            // Root complex base address: stored, nothing is mapped there.
            .writable(0xf0, &0xffff_c001u32.to_le_bytes());
        Self { id: "lpc", config: builder.build(), has_ecam: false }
    }

    /// The PIIX3 ISA bridge, at 01.0.
    #[must_use]
    pub fn piix3_isa() -> Self {
        let mut builder = builder(0x7000, 0x06_01_00, 0);
        builder.set(0x60, &[PIRQ_DISABLED; 4]).writable(0x60, &[0x8f; 4]);
        Self { id: "isa", config: builder.build(), has_ecam: false }
    }

    /// The PIIX4 power management function, at 01.3.
    #[must_use]
    pub fn piix4_pm() -> Self {
        let mut builder = builder(0x7113, 0x06_80_00, 3);
        builder
            .interrupt_pin(1)
            .set(0x3c, &[9])
            .set(0x40, &0x601u32.to_le_bytes())
            // DEVACTB bit 25: SMIs are set up already, firmware must not wait for one.
            .set(0x58, &(1u32 << 25).to_le_bytes())
            .writable(0x58, &[0xff, 0xff, 0xff, 0xfd])
            .set(0x80, &[1])
            .set(0x90, &[1])
            .writable(0x90, &[0xc0, 0xff])
            .writable(0xd2, &[0xff]);
        Self { id: "pm", config: builder.build(), has_ecam: false }
    }
}

impl PciFunction for Chip {
    fn name(&self) -> &str {
        self.id
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn ecam(&self) -> Option<(u64, u64)> {
        let register =
            u64::from(self.config.u32(PCIEXBAR + 4)) << 32 | u64::from(self.config.u32(PCIEXBAR));
        if !self.has_ecam || register & PCIEXBAR_ENABLE == 0 {
            return None;
        }
        let len = match register >> 1 & 3 {
            0 => 256 << 20,
            1 => 128 << 20,
            2 => 64 << 20,
            _ => return None,
        };
        // The base is a multiple of the length: the address bits below are not decoded.
        let base = register & 0x7f_fc00_0000 & !(len - 1);
        (base != 0).then_some((base, len))
    }
}

impl Component for Chip {
    fn id(&self) -> &str {
        self.id
    }

    fn kind(&self) -> &'static str {
        "pci-chip"
    }

    fn reset(&self) {
        self.config.reset();
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 1, &self.config.save())
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let saved: ConfigState = state.decode(self.kind(), 1)?;
        self.config.restore(self.kind(), &saved)
    }
}
