//! [`Config`]: the 4 KiB of configuration space of one function, with its write masks.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::component::StateError;
use crate::pci::spec::{self, CONFIG_SIZE};
use crate::sync::Lock;

mod builder;
#[cfg(test)]
mod tests;

pub use builder::{ConfigBuilder, Ids, PortType};

/// A base address register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    pub index: u8,
    pub kind: BarKind,
    /// A power of two: at least 4 for ports, 16 for memory.
    pub size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    Io,
    Memory32,
    /// 64 bits wide (takes two registers) and prefetchable, so that it fits any bridge window.
    Memory64,
    /// The expansion ROM ([`Bar::ROM`]), which has an enable bit of its own.
    Rom,
}

impl Bar {
    /// The index of the expansion ROM's register: it lies where a ninth BAR would.
    pub const ROM: u8 = 8;
}

/// Mirrors configuration space, so that the guest can read it without an exit.
pub trait ConfigPage: Send + Sync {
    /// Bytes from `offset` on now read as `data`.
    fn store(&self, offset: u16, data: &[u8]);
}

/// Configuration space as saved: all bytes up to the last that is not zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigState {
    bytes: Vec<u8>,
}

/// Configuration space of one function. Guest writes go through masks; the device itself changes
/// its registers with [`Config::update`].
pub struct Config {
    bars: Vec<Bar>,
    /// Bits that the guest can write.
    writable: Box<[u8; CONFIG_SIZE]>,
    /// Bits that the guest clears by writing ones.
    clearable: Box<[u8; CONFIG_SIZE]>,
    /// 4 KiB, or 256 bytes for a conventional function: it does not answer beyond, which reads as
    /// all ones and tells drivers not to look for extended capabilities.
    len: usize,
    live: Mutex<Live>,
}

struct Live {
    bytes: Box<[u8; CONFIG_SIZE]>,
    /// What a reset brings back.
    initial: Box<[u8; CONFIG_SIZE]>,
    page: Option<Arc<dyn ConfigPage>>,
}

impl Live {
    fn store(&mut self, offset: usize, value: u8) {
        if self.bytes[offset] != value {
            self.bytes[offset] = value;
            if let Some(page) = &self.page {
                page.store(offset as u16, &[value]);
            }
        }
    }

    fn u32(&self, offset: u16) -> u32 {
        let at = usize::from(offset);
        u32::from_le_bytes(std::array::from_fn(|i| self.bytes[at + i]))
    }
}

impl Config {
    #[must_use]
    pub fn bars(&self) -> &[Bar] {
        &self.bars
    }

    /// Bytes outside of configuration space are all ones.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        let start = usize::from(offset);
        match self.live.hold().bytes[..self.len].get(start..start + data.len()) {
            Some(bytes) => data.copy_from_slice(bytes),
            None => data.fill(0xff),
        }
    }

    /// A write by the guest: read-only bits keep their value.
    pub fn write(&self, offset: u16, data: &[u8]) {
        let start = usize::from(offset);
        if start + data.len() > CONFIG_SIZE {
            return;
        }
        let mut live = self.live.hold();
        for (at, &new) in (start..).zip(data) {
            let kept = live.bytes[at] & !self.writable[at] & !(self.clearable[at] & new);
            live.store(at, kept | new & self.writable[at]);
        }
    }

    /// A change by the device itself, past the masks.
    pub fn update(&self, offset: u16, data: &[u8]) {
        let start = usize::from(offset);
        let mut live = self.live.hold();
        for (at, &value) in (start..CONFIG_SIZE).zip(data) {
            live.store(at, value);
        }
    }

    /// Set and clear bits of a 16-bit register at once; what it was before comes back.
    pub fn update_bits(&self, offset: u16, set: u16, clear: u16) -> u16 {
        let at = usize::from(offset).min(CONFIG_SIZE - 2);
        let mut live = self.live.hold();
        let before = u16::from_le_bytes([live.bytes[at], live.bytes[at + 1]]);
        let [low, high] = (before & !clear | set).to_le_bytes();
        live.store(at, low);
        live.store(at + 1, high);
        before
    }

    /// [`Self::update_bits`] of what no reset changes: what is in a slot, what stands beside a function.
    pub fn settle_bits(&self, offset: u16, set: u16, clear: u16) {
        self.update_bits(offset, set, clear);
        self.settle_reset_bits(offset, set, clear);
    }

    /// How a reset leaves bits of a 16-bit register from now on.
    pub fn settle_reset_bits(&self, offset: u16, set: u16, clear: u16) {
        let at = usize::from(offset).min(CONFIG_SIZE - 2);
        let mut live = self.live.hold();
        let before = u16::from_le_bytes([live.initial[at], live.initial[at + 1]]);
        let after = before & !clear | set;
        live.initial[at..at + 2].copy_from_slice(&after.to_le_bytes());
    }

    #[must_use]
    pub fn u8(&self, offset: u16) -> u8 {
        let mut data = [0; 1];
        self.read(offset, &mut data);
        data[0]
    }

    #[must_use]
    pub fn u16(&self, offset: u16) -> u16 {
        let mut data = [0; 2];
        self.read(offset, &mut data);
        u16::from_le_bytes(data)
    }

    #[must_use]
    pub fn u32(&self, offset: u16) -> u32 {
        let mut data = [0; 4];
        self.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// Where the BAR is decoded according to its registers, decode switched on. Unassigned BARs
    /// (address 0) and ranges that wrap are decoded nowhere.
    #[must_use]
    pub fn bar_address(&self, bar: &Bar) -> Option<u64> {
        let live = self.live.hold();
        let command = live.u32(spec::COMMAND) as u16;
        let register = spec::BAR0 + 4 * u16::from(bar.index);
        let low = live.u32(register);
        let (enable, base) = match bar.kind {
            // Ports have 16 bits: what is placed beyond, while it is measured, is nowhere.
            BarKind::Io if low >> 16 != 0 => return None,
            BarKind::Io => (spec::COMMAND_IO, u64::from(low & !3)),
            BarKind::Memory32 => (spec::COMMAND_MEMORY, u64::from(low & !0xf)),
            BarKind::Rom if low & spec::ROM_ENABLE == 0 => return None,
            BarKind::Rom => (spec::COMMAND_MEMORY, u64::from(low & !0x7ff)),
            BarKind::Memory64 => {
                let high = u64::from(live.u32(register + 4));
                (spec::COMMAND_MEMORY, high << 32 | u64::from(low & !0xf))
            }
        };
        let fits = base != 0 && base.checked_add(bar.size - 1).is_some();
        (command & enable != 0 && fits).then_some(base)
    }

    /// Program a BAR as firmware would.
    pub fn assign_bar(&self, bar: &Bar, base: u64) {
        let register = spec::BAR0 + 4 * u16::from(bar.index);
        match bar.kind {
            BarKind::Memory64 => self.write(register, &base.to_le_bytes()),
            BarKind::Io | BarKind::Memory32 | BarKind::Rom => {
                self.write(register, &(base as u32).to_le_bytes());
            }
        }
    }

    /// Whether the function may master the bus: read and write memory, send MSIs.
    #[must_use]
    pub fn is_bus_master(&self) -> bool {
        self.u16(spec::COMMAND) & spec::COMMAND_MASTER != 0
    }

    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.u8(spec::HEADER_TYPE) & !spec::HEADER_MULTIFUNCTION == spec::HEADER_BRIDGE
    }

    /// Show whether the function asserts its INTx pin.
    pub fn set_interrupt_status(&self, asserted: bool) {
        let bit = spec::STATUS_INTERRUPT;
        if asserted {
            self.update_bits(spec::STATUS, bit, 0);
        } else {
            self.update_bits(spec::STATUS, 0, bit);
        }
    }

    /// All bytes, as one ECAM page shows them.
    #[must_use]
    pub fn image(&self) -> Box<[u8; CONFIG_SIZE]> {
        let mut image = self.live.hold().bytes.clone();
        image[self.len..].fill(0xff);
        image
    }

    /// Keep `page` equal to configuration space from now on (or stop doing so).
    pub fn mirror(&self, page: Option<Arc<dyn ConfigPage>>) {
        let mut live = self.live.hold();
        if let Some(page) = &page {
            page.store(0, &live.bytes[..self.len]);
        }
        live.page = page;
    }

    /// Say that there are other functions in the slot.
    pub fn set_multifunction(&self) {
        self.settle_bits(spec::HEADER_TYPE, spec::HEADER_MULTIFUNCTION.into(), 0);
    }

    /// Back to the values it was built with, and what has settled since.
    pub fn reset(&self) {
        let initial = self.live.hold().initial.clone();
        self.update(0, &initial[..]);
    }

    #[must_use]
    pub fn save(&self) -> ConfigState {
        let live = self.live.hold();
        let len = live.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        ConfigState { bytes: live.bytes[..len].to_vec() }
    }

    /// Take on what the guest wrote; what the device itself defines stays as built.
    ///
    /// # Errors
    /// [`StateError::Mismatch`] when the state is of another kind of function.
    pub fn restore(&self, kind: &'static str, state: &ConfigState) -> Result<(), StateError> {
        let mut bytes = [0; CONFIG_SIZE];
        let mismatch = |reason: &str| StateError::Mismatch { kind, reason: reason.to_owned() };
        bytes
            .get_mut(..state.bytes.len())
            .ok_or_else(|| mismatch("configuration space is longer than 4 KiB"))?
            .copy_from_slice(&state.bytes);
        let mut live = self.live.hold();
        if bytes[..4] != live.initial[..4] {
            return Err(mismatch("it has another PCI vendor or device id"));
        }
        for (at, saved) in bytes.into_iter().enumerate() {
            let guest = self.writable[at] | self.clearable[at];
            let value = live.bytes[at] & !guest | saved & guest;
            live.store(at, value);
        }
        Ok(())
    }
}
