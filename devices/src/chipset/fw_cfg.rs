//! [`FwCfg`]: the configuration device of QEMU's boards (QEMU `docs/specs/fw_cfg`), from which
//! SeaBIOS and OVMF learn of everything that they cannot probe.
//!
//! ```text
//! 0x510 u16  selector: the item that follows, from its start
//! 0x511 u8   data: the next byte of the item, zero past its end
//! 0x514 u32  big-endian: upper half of the address of a DMA request; reads as "QEMU"
//! 0x518 u32  lower half, which starts the request; reads as " CFG"
//! ```
//! The guest can write [`Writable`] files, by DMA, and nothing else.

mod dma;
mod items;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use memory::GuestRam;
use serde::{Deserialize, Serialize};

use crate::bus::{BusDevice, Effect};
use crate::component::{Component, DeviceState, StateError};
use crate::sync::Lock;

pub use items::{FwCfgError, Items, Late, Writable, key};

const SELECTOR: u64 = 0;
const DATA: u64 = 1;
const DMA: u64 = 4;
/// What the DMA register reads as, big-endian like everything in it.
const DMA_SIGNATURE: [u8; 8] = *b"QEMU CFG";

pub struct FwCfg {
    items: Items,
    ram: GuestRam,
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    selector: u16,
    /// The selected item; none when there is no such item, which reads as zeros.
    selected: Option<Arc<[u8]>>,
    offset: usize,
    /// Upper half of the address of the next DMA request.
    address_high: u32,
    /// What was made when the first of the late files was selected. It stays as it is until the
    /// next reset: firmware reads its parts one by one, and they belong together.
    late: Vec<Arc<[u8]>>,
}

impl FwCfg {
    pub const BASE: u64 = 0x510;
    pub const LEN: u64 = 12;

    #[must_use]
    pub fn new(items: Items, ram: GuestRam) -> Self {
        Self { items, ram, state: Mutex::default() }
    }

    fn select(&self, state: &mut State, selector: u16) {
        state.selector = selector;
        state.offset = 0;
        state.selected = match self.items.late_index(selector) {
            Some(index) => {
                if state.late.is_empty() {
                    state.late = self.items.make_late();
                }
                state.late.get(index).cloned()
            }
            None => self.items.content(selector),
        };
    }
}

impl State {
    /// The next `data.len()` bytes of the selected item.
    fn read(&mut self, data: &mut [u8]) {
        let rest = self.selected.as_deref().and_then(|item| item.get(self.offset..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(data.len());
        data[..count].copy_from_slice(&rest[..count]);
        data[count..].fill(0);
        self.skip(count);
    }

    fn skip(&mut self, count: usize) {
        self.offset = self.offset.saturating_add(count);
    }
}

impl BusDevice for FwCfg {
    fn name(&self) -> &str {
        "fw-cfg"
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        match (offset, &mut *data) {
            (DATA, [_]) => self.state.hold().read(data),
            (DMA.., _) => {
                let start = (offset - DMA) as usize;
                match DMA_SIGNATURE.get(start..start + data.len()) {
                    Some(signature) => data.copy_from_slice(signature),
                    None => data.fill(0xff),
                }
            }
            _ => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        let mut state = self.state.hold();
        match (offset, data) {
            (SELECTOR, &[low, high]) => self.select(&mut state, u16::from_le_bytes([low, high])),
            (DMA, &[a, b, c, d]) => state.address_high = u32::from_be_bytes([a, b, c, d]),
            (0x8, &[a, b, c, d]) => {
                let low = u32::from_be_bytes([a, b, c, d]);
                let address = u64::from(state.address_high) << 32 | u64::from(low);
                state.address_high = 0;
                self.transfer(&mut state, address);
            }
            _ => {}
        }
        Effect::None
    }
}

/// The saved form. Late files are part of it: the guest may have read one half of what belongs
/// together.
#[derive(Serialize, Deserialize)]
struct Saved {
    selector: u16,
    offset: u64,
    address_high: u32,
    late: Vec<Vec<u8>>,
}

impl Component for FwCfg {
    fn id(&self) -> &str {
        "fw-cfg"
    }

    fn kind(&self) -> &'static str {
        "fw-cfg"
    }

    fn reset(&self) {
        *self.state.hold() = State::default();
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        let state = self.state.hold();
        let saved = Saved {
            selector: state.selector,
            offset: state.offset as u64,
            address_high: state.address_high,
            late: state.late.iter().map(|file| file.to_vec()).collect(),
        };
        DeviceState::encode(self.kind(), 1, &saved)
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let saved: Saved = state.decode(self.kind(), 1)?;
        if !saved.late.is_empty() && saved.late.len() != self.items.late_count() {
            let reason = "it has another number of late files".to_owned();
            return Err(StateError::Mismatch { kind: self.kind(), reason });
        }
        let mut state = State {
            address_high: saved.address_high,
            late: saved.late.into_iter().map(Arc::from).collect(),
            ..State::default()
        };
        // Selecting a late file would make it; one that was selected was made.
        if self.items.late_index(saved.selector).is_none() || !state.late.is_empty() {
            self.select(&mut state, saved.selector);
        }
        state.offset = usize::try_from(saved.offset).unwrap_or(usize::MAX);
        *self.state.hold() = state;
        Ok(())
    }
}
