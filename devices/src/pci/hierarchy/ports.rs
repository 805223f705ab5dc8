//! [`ConfigPorts`]: configuration mechanism #1 (PCI Local Bus 3.0 §3.2.2.3.2) and, in the middle of
//! its ports, the reset control register 0xCF9.

use std::sync::Weak;

use crate::bus::{BusDevice, Effect};
use crate::chipset::reset_port::{RESET_CPU, RESET_TYPE};
use crate::pci::{PciAddress, PciRoot};
use crate::sync::Lock;

/// The ports 0xCF8 to 0xCFF.
pub struct ConfigPorts {
    root: Weak<PciRoot>,
}

const ENABLE: u32 = 1 << 31;
const RESET_CONTROL: u64 = 1;
const DATA: u64 = 4;

impl ConfigPorts {
    pub const BASE: u64 = 0xcf8;
    pub const LEN: u64 = 8;

    #[must_use]
    pub fn new(root: Weak<PciRoot>) -> Self {
        Self { root }
    }

    fn target(address: u32, offset: u64) -> Option<(PciAddress, u16)> {
        let [register, devfn, bus, _] = address.to_le_bytes();
        let register = u16::from(register & !3) + (offset - DATA) as u16;
        (address & ENABLE != 0).then(|| (PciAddress::from_devfn(bus, devfn), register))
    }
}

impl BusDevice for ConfigPorts {
    fn name(&self) -> &str {
        "pci-config-ports"
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        let Some(root) = self.root.upgrade() else { return };
        let latches = *root.latches.hold();
        match (offset, data) {
            (0, data @ [_, _, _, _]) => data.copy_from_slice(&latches.address.to_le_bytes()),
            (RESET_CONTROL, [value]) => *value = latches.reset,
            (DATA.., data) if data.len() <= 4 => {
                if let Some((address, register)) = Self::target(latches.address, offset) {
                    root.config_read(address, register, data);
                }
            }
            _ => {}
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        let Some(root) = self.root.upgrade() else { return Effect::None };
        match (offset, data) {
            (0, &[a, b, c, d]) => root.latches.hold().address = u32::from_le_bytes([a, b, c, d]),
            (RESET_CONTROL, &[value]) => {
                root.latches.hold().reset = value & RESET_TYPE;
                if value & RESET_CPU != 0 {
                    return Effect::Reset;
                }
            }
            (DATA.., data) if data.len() <= 4 => {
                let address = root.latches.hold().address;
                if let Some((address, register)) = Self::target(address, offset) {
                    return root.config_write(address, register, data);
                }
            }
            _ => {}
        }
        Effect::None
    }
}
