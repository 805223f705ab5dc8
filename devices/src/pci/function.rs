//! [`PciFunction`]: what the PCI hierarchy asks of a device.

use crate::bus::Effect;
use crate::pci::{Config, Reserve};

/// One function: a configuration space and the registers behind its BARs.
///
/// The hierarchy decides *where* a BAR is decoded; the function only sees accesses relative to the
/// start of the BAR, from any vCPU, 1 to 8 bytes wide, possibly unaligned.
pub trait PciFunction: Send + Sync {
    /// For diagnostics.
    fn name(&self) -> &str;

    fn config(&self) -> &Config;

    /// 1, 2 or 4 bytes inside one dword. Override to compute registers on reading.
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.config().read(offset, data);
    }

    /// 1, 2 or 4 bytes inside one dword. Override to act on registers; call
    /// [`Config::write`] first, which applies the write masks. Called with the hierarchy locked:
    /// it must not call back into it.
    fn config_write(&self, offset: u16, data: &[u8]) -> Effect {
        self.config().write(offset, data);
        Effect::None
    }

    fn bar_read(&self, _bar: u8, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn bar_write(&self, _bar: u8, _offset: u64, _data: &[u8]) -> Effect {
        Effect::None
    }

    /// The BAR is decoded at `base` now, or nowhere: bind or unbind doorbells. Called with the
    /// hierarchy locked: it must not call back into it.
    fn bar_moved(&self, _bar: u8, _base: Option<u64>) {}

    /// The bus above was reset: back to the state after power-on, drop what is in flight. Called
    /// with the hierarchy locked: it must not call back into it.
    fn bus_reset(&self) {
        self.config().reset();
    }

    /// What a bridge keeps free behind it when resources are assigned.
    fn reserve(&self) -> Reserve {
        Reserve::default()
    }

    /// Where configuration space is mapped (base and length), if this is the host bridge and it says so.
    fn ecam(&self) -> Option<(u64, u64)> {
        None
    }
}
