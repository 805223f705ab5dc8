//! [`Msi`]: message-signalled interrupts with one vector (PCI Local Bus 3.0 §6.8.1).

use std::io;
use std::sync::{Arc, Mutex};

use crate::irq::{MsiController, MsiMessage, MsiVector};
use crate::limit::warn_limited;
use crate::pci::spec::CAP_MSI;
use crate::pci::{Config, ConfigBuilder};
use crate::sync::Lock;

const ENABLE: u16 = 1;
/// The address has 64 bits.
const WIDE: u16 = 1 << 7;

/// The capability's registers live in configuration space, and with them its state.
pub struct Msi {
    vector: Arc<dyn MsiVector>,
    at: u16,
    routed: Mutex<Option<MsiMessage>>,
}

impl Msi {
    /// Append the capability.
    ///
    /// # Errors
    /// When the host has no interrupt vectors left.
    pub fn new(controller: &dyn MsiController, builder: &mut ConfigBuilder) -> io::Result<Self> {
        let mut body = [0; 12];
        body[..2].copy_from_slice(&WIDE.to_le_bytes());
        let mask = [ENABLE as u8, 0, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        let at = builder.capability(CAP_MSI, &body, &mask);
        Ok(Self { vector: controller.vector()?, at, routed: Mutex::default() })
    }

    /// Follow the registers, after any change of configuration space.
    pub fn config_written(&self, config: &Config) {
        let enabled = config.u16(self.at + 2) & ENABLE != 0;
        let address = u64::from(config.u32(self.at + 8)) << 32 | u64::from(config.u32(self.at + 4));
        let data = config.u16(self.at + 12).into();
        let wanted = enabled.then_some(MsiMessage { address, data });
        let mut routed = self.routed.hold();
        if wanted == *routed {
            return;
        }
        let done = match wanted {
            Some(message) => self.vector.route(message),
            None => self.vector.mask(),
        };
        match done {
            Ok(()) => *routed = wanted,
            Err(error) => {
                *routed = None;
                warn_limited!(%error, "cannot route an MSI");
            }
        }
    }

    /// Whether the guest uses it and not INTx.
    #[must_use]
    pub fn enabled(&self, config: &Config) -> bool {
        config.u16(self.at + 2) & ENABLE != 0
    }

    pub fn raise(&self) {
        // Fails only when the counter is full, and then it is pending anyway.
        let _ = self.vector.event().write(1);
    }

    /// Forget what was raised and not delivered.
    pub fn reset(&self, config: &Config) {
        self.config_written(config);
        let _ = self.vector.event().read();
    }
}
