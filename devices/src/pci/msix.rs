//! [`Msix`]: MSI-X table, pending bits and message control (PCI Local Bus 3.0 §6.8.2).
//!
//! An entry delivers while MSI-X is enabled, the function is not masked and the entry is not
//! masked. Entering that state routes the vector; leaving it masks the vector, which then collects
//! what is raised: its pending bit.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::component::StateError;
use crate::irq::{MsiController, MsiMessage, MsiVector};
use crate::limit::warn_limited;
use crate::pci::ConfigBuilder;
use crate::pci::spec::CAP_MSIX;
use crate::sync::Lock;

#[cfg(test)]
pub(crate) mod tests;

const ENTRY_SIZE: u64 = 16;
/// Of an entry.
const WORDS: usize = 4;
const MAX_ENTRIES: u16 = 2048;

const CONTROL_ENABLE: u16 = 1 << 15;
const CONTROL_FUNCTION_MASK: u16 = 1 << 14;

const VECTOR_MASKED: u32 = 1;

/// Where table and pending bits lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsixPlace {
    pub bar: u8,
    /// Offsets in the BAR, multiples of 8.
    pub table: u32,
    pub pba: u32,
}

pub struct Msix {
    place: MsixPlace,
    vectors: Vec<Arc<dyn MsiVector>>,
    state: Mutex<State>,
}

struct State {
    control: u16,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    message: MsiMessage,
    control: u32,
    /// What the vector was last told: where it delivers, or that it is masked.
    routed: Option<MsiMessage>,
}

impl Entry {
    const RESET: Self =
        Self { message: MsiMessage { address: 0, data: 0 }, control: VECTOR_MASKED, routed: None };

    fn words(&self) -> [u32; 4] {
        let MsiMessage { address, data } = self.message;
        [address as u32, (address >> 32) as u32, data, self.control]
    }

    fn set_word(&mut self, word: usize, value: u32) {
        let message = &mut self.message;
        match word {
            0 => message.address = message.address & !0xffff_ffff | u64::from(value & !3),
            1 => message.address = message.address & 0xffff_ffff | u64::from(value) << 32,
            2 => message.data = value,
            _ => self.control = value & VECTOR_MASKED,
        }
    }
}

/// MSI-X as saved: message control and, per entry, message, vector control, and whether an
/// interrupt was pending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MsixState {
    control: u16,
    entries: Vec<(MsiMessage, u32, bool)>,
}

impl Msix {
    /// A table of `count` vectors (1 to 2048), all masked.
    pub fn new(controller: &dyn MsiController, count: u16, place: MsixPlace) -> io::Result<Self> {
        let count = count.clamp(1, MAX_ENTRIES);
        let vectors = (0..count).map(|_| controller.vector()).collect::<io::Result<Vec<_>>>()?;
        let entries = vec![Entry::RESET; vectors.len()];
        Ok(Self { place, vectors, state: Mutex::new(State { control: 0, entries }) })
    }

    /// Bytes that table and pending bits take when they follow one another, the pending bits on
    /// their own 2 KiB: a place for both in a BAR of their own.
    #[must_use]
    pub fn exclusive_bar(bar: u8, count: u16) -> (MsixPlace, u64) {
        let table = u32::from(count.clamp(1, MAX_ENTRIES)) * ENTRY_SIZE as u32;
        let pba = table.next_multiple_of(2048);
        let size = u64::from(pba) + pba_len(usize::from(count));
        (MsixPlace { bar, table: 0, pba }, size.next_power_of_two().max(4096))
    }

    /// Append the capability; its offset comes back, to hand to [`config_written`](Self::config_written).
    pub fn add_capability(&self, builder: &mut ConfigBuilder) -> u16 {
        let MsixPlace { bar, table, pba } = self.place;
        let mut body = [0; 10];
        body[..2].copy_from_slice(&(self.vectors.len() as u16 - 1).to_le_bytes());
        body[2..6].copy_from_slice(&(table | u32::from(bar)).to_le_bytes());
        body[6..].copy_from_slice(&(pba | u32::from(bar)).to_le_bytes());
        let writable = CONTROL_ENABLE | CONTROL_FUNCTION_MASK;
        builder.capability(CAP_MSIX, &body, &writable.to_le_bytes())
    }

    /// Take on message control, after any write to the function's configuration space:
    /// `control` is the register as it reads now.
    pub fn config_written(&self, control: u16) {
        let control = control & (CONTROL_ENABLE | CONTROL_FUNCTION_MASK);
        let mut state = self.state.hold();
        if state.control != control {
            state.control = control;
            for index in 0..self.vectors.len() {
                self.apply(&mut state, index);
            }
        }
    }

    /// Where the message control register is, given what [`add_capability`](Self::add_capability)
    /// gave back.
    #[must_use]
    pub fn control_offset(capability: u16) -> u16 {
        capability + 2
    }

    /// Whether the guest uses MSI-X and not INTx.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.state.hold().control & CONTROL_ENABLE != 0
    }

    #[must_use]
    pub fn count(&self) -> u16 {
        self.vectors.len() as u16
    }

    /// What to signal to raise the interrupt, if the table has such an entry.
    #[must_use]
    pub fn vector(&self, index: u16) -> Option<&Arc<dyn MsiVector>> {
        self.vectors.get(usize::from(index))
    }

    /// Answer a read of BAR `bar` if it lies in table or pending bits; whether it did comes back.
    pub fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) -> bool {
        if bar != self.place.bar {
            return false;
        }
        if self.table().contains(&offset) {
            let state = self.state.hold();
            match aligned(offset, data.len()) {
                true => {
                    for (i, byte) in data.iter_mut().enumerate() {
                        let at = (offset - u64::from(self.place.table)) as usize + i;
                        let word = state.entries[at / 16].words()[at % 16 / 4];
                        *byte = word.to_le_bytes()[at % 4];
                    }
                }
                false => data.fill(0xff),
            }
            return true;
        }
        if self.pba().contains(&offset) {
            let first = (offset - u64::from(self.place.pba)) as usize;
            for (i, byte) in data.iter_mut().enumerate() {
                *byte = self.pending_byte(first + i);
            }
            return true;
        }
        false
    }

    /// Take a write to BAR `bar` if it lies in table or pending bits; whether it did comes back.
    pub fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) -> bool {
        if bar != self.place.bar {
            return false;
        }
        if self.table().contains(&offset) {
            // §6.8.2: only aligned dwords and quadwords; the result of others is undefined.
            if data.len() >= 4 && aligned(offset, data.len()) {
                let words = words(offset - u64::from(self.place.table), data.len());
                let mut state = self.state.hold();
                for (word, bytes) in words.clone().zip(data.chunks_exact(4)) {
                    let value = bytes.try_into().map_or(0, u32::from_le_bytes);
                    state.entries[word / WORDS].set_word(word % WORDS, value);
                }
                self.apply(&mut state, words.start / WORDS);
            }
            return true;
        }
        self.pba().contains(&offset)
    }

    fn table(&self) -> Range<u64> {
        let start = u64::from(self.place.table);
        start..start + self.vectors.len() as u64 * ENTRY_SIZE
    }

    fn pba(&self) -> Range<u64> {
        let start = u64::from(self.place.pba);
        start..start + pba_len(self.vectors.len())
    }

    fn pending_byte(&self, byte: usize) -> u8 {
        let vectors = self.vectors.iter().skip(byte * 8).take(8);
        vectors.enumerate().fold(0, |bits, (i, vector)| bits | u8::from(vector.pending()) << i)
    }

    /// Bring the vector in line with its entry.
    fn apply(&self, state: &mut State, index: usize) {
        let delivers = state.control & (CONTROL_ENABLE | CONTROL_FUNCTION_MASK) == CONTROL_ENABLE;
        let (Some(entry), Some(vector)) = (state.entries.get_mut(index), self.vectors.get(index))
        else {
            return;
        };
        let wanted = (delivers && entry.control & VECTOR_MASKED == 0).then_some(entry.message);
        if wanted == entry.routed {
            return;
        }
        let done = match wanted {
            Some(message) => vector.route(message),
            None => vector.mask(),
        };
        match done {
            Ok(()) => entry.routed = wanted,
            Err(error) => {
                // The interrupt controller has no room: the guest loses this interrupt, no other.
                entry.routed = None;
                warn_limited!(index, %error, "cannot route an MSI-X vector");
            }
        }
    }

    /// Back to all masked; interrupts that were pending are dropped.
    pub fn reset(&self) {
        let mut state = self.state.hold();
        state.control = 0;
        for index in 0..self.vectors.len() {
            state.entries[index] = Entry { routed: state.entries[index].routed, ..Entry::RESET };
            self.apply(&mut state, index);
            // Empty the eventfd; "nothing was pending" is no failure.
            let _ = self.vectors[index].event().read();
        }
    }

    #[must_use]
    pub fn save(&self) -> MsixState {
        let state = self.state.hold();
        let entries = state.entries.iter().zip(&self.vectors);
        MsixState {
            control: state.control,
            entries: entries
                .map(|(entry, vector)| (entry.message, entry.control, vector.pending()))
                .collect(),
        }
    }

    /// # Errors
    /// [`StateError::Mismatch`] when the table has another length.
    pub fn restore(&self, kind: &'static str, saved: &MsixState) -> Result<(), StateError> {
        if saved.entries.len() != self.vectors.len() {
            let reason = format!(
                "it has {} MSI-X vectors, the device has {}",
                saved.entries.len(),
                self.vectors.len()
            );
            return Err(StateError::Mismatch { kind, reason });
        }
        let mut state = self.state.hold();
        state.control = saved.control & (CONTROL_ENABLE | CONTROL_FUNCTION_MASK);
        for (index, &(message, control, pending)) in saved.entries.iter().enumerate() {
            let entry = &mut state.entries[index];
            entry.message = message;
            entry.control = control & VECTOR_MASKED;
            if pending {
                // Raised before it is routed, so that it is delivered once and not lost.
                let _ = self.vectors[index].event().write(1);
            }
            self.apply(&mut state, index);
        }
        Ok(())
    }
}

/// Pending bits come in quadwords.
pub(super) fn pba_len(vectors: usize) -> u64 {
    (vectors as u64).div_ceil(64) * 8
}

/// Words of the table that an access to so many bytes, 4 or 8 and aligned, takes.
pub(super) fn words(offset: u64, len: usize) -> Range<usize> {
    let first = (offset / 4) as usize;
    first..first + len / 4
}

pub(super) fn aligned(offset: u64, len: usize) -> bool {
    matches!(len, 1 | 2 | 4 | 8) && offset.is_multiple_of(len as u64)
}
