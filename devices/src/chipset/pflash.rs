//! [`Pflash`]: flash memory with Intel's basic command set (JEDEC JESD68, Intel AP-646), in which
//! UEFI firmware keeps its variables.
//!
//! ```text
//!            0x10, 0x40                      data
//!   array ──────────────▶ program ────────────────────────▶ status
//!    ▲  ▲      0x20                  0xd0
//!    │  │ ──────────────▶ erase ──────────────────────────▶ status
//!    │  │      0xe8                count        data ×n       0xd0
//!    │  │ ──────────────▶ count ─────────▶ buffer ─────▶ full ─────▶ status
//!    │  │      0x70                                                    │
//!    │  │ ──────────────▶ status ◀─────────────────────────────────────┘
//!    │  │      0x90                                     every command is taken in `status` and
//!    │  │ ──────────────▶ identity                      `identity` as it is in `array`
//!    │  └ 0x50 clears the status
//!    └─── 0xff, from anywhere, and what is no command
//! ```
//! While it shows the array the guest reads it as it reads RAM, without an exit; otherwise every
//! access comes here. What is programmed is in the file before the guest can see that it is done.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use memory::{Backing, GuestRam, MemoryError};
use serde::{Deserialize, Serialize};

use crate::bus::{BusDevice, Effect};
use crate::component::{Component, DeviceState, StateError};
use crate::device_memory::{GuestAccess, MemoryMapper, MemoryWindow};
use crate::limit::warn_limited;
use crate::sync::Lock;

const PROGRAM: u8 = 0x10;
const PROGRAM_TOO: u8 = 0x40;
const ERASE: u8 = 0x20;
const CLEAR_STATUS: u8 = 0x50;
const READ_STATUS: u8 = 0x70;
const READ_IDENTITY: u8 = 0x90;
const WRITE_BUFFER: u8 = 0xe8;
const CONFIRM: u8 = 0xd0;
const READ_ARRAY: u8 = 0xff;

const READY: u8 = 1 << 7;
const ERASE_ERROR: u8 = 1 << 5;
const PROGRAM_ERROR: u8 = 1 << 4;

/// Erased at once, to ones.
const BLOCK: usize = 4096;
/// Of buffered programs, bytes.
const BUFFER_MAX: usize = 256;
/// Intel's, of a chip of this command set.
const IDENTITY: [u8; 2] = [0x89, 0x18];
/// As much as lies between RAM and 4 GiB at most.
const SIZE_MAX: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum PflashError {
    #[error("the flash image cannot be read")]
    Read(#[source] io::Error),
    #[error("the flash image has {len} bytes: it must be a multiple of 4 KiB, at most 64 MiB")]
    Size { len: u64 },
    #[error("memory for the flash cannot be had")]
    Memory(#[from] MemoryError),
    #[error("the flash cannot be shown to the guest")]
    Map(#[source] io::Error),
}

pub struct Pflash {
    base: u64,
    len: usize,
    file: File,
    /// What the guest reads, at `base`.
    array: GuestRam,
    window: Arc<dyn MemoryWindow>,
    /// The file has something that may not be on the disk yet.
    dirty: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    mode: Mode,
    status: u8,
    /// Bytes of a buffered program, and where they go.
    buffer: Vec<(u32, u8)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Mode {
    Array,
    Status,
    Identity,
    Program,
    Erase,
    Count,
    /// As many bytes are still to come.
    Buffer(u16),
    Full,
}

const RESET: State = State { mode: Mode::Array, status: READY, buffer: Vec::new() };

impl Pflash {
    /// The contents of `file`, ending at `end`. What the guest changes is written there.
    pub fn new(file: File, end: u64, mapper: &dyn MemoryMapper) -> Result<Self, PflashError> {
        let len = file.metadata().map_err(PflashError::Read)?.len();
        if len == 0 || len > SIZE_MAX.min(end) || !len.is_multiple_of(BLOCK as u64) {
            return Err(PflashError::Size { len });
        }
        let base = end - len;
        let mut contents = vec![0; len as usize];
        file.read_exact_at(&mut contents, 0).map_err(PflashError::Read)?;
        let array = GuestRam::new(&[(base, len)], &Backing::Anonymous)?;
        array.write_slice(base, &contents)?;
        let window = mapper.window(&array, GuestAccess::ReadOnly).map_err(PflashError::Map)?;
        window.place(Some(base)).map_err(PflashError::Map)?;
        let (dirty, state) = (AtomicBool::new(false), Mutex::new(RESET));
        Ok(Self { base, len: len as usize, file, array, window, dirty, state })
    }

    /// Where it is, to insert it on the bus.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.len as u64
    }

    /// Show the array, or have every access come here.
    fn show(&self, mode: Mode) {
        let base = (mode == Mode::Array).then_some(self.base);
        if let Err(error) = self.window.place(base) {
            // It works all the same, an exit each.
            warn_limited!(%error, "the flash cannot be shown to the guest");
        }
    }

    fn command(&self, state: &mut State, offset: usize, data: &[u8]) {
        let Some(&value) = data.first() else { return };
        state.mode = match state.mode {
            Mode::Array | Mode::Status | Mode::Identity => match value {
                PROGRAM | PROGRAM_TOO => Mode::Program,
                ERASE => Mode::Erase,
                WRITE_BUFFER => Mode::Count,
                READ_STATUS => Mode::Status,
                READ_IDENTITY => Mode::Identity,
                CLEAR_STATUS => {
                    // Zero, not "ready": firmware tells flash from ROM and RAM by it.
                    state.status = 0;
                    Mode::Array
                }
                _ => Mode::Array,
            },
            Mode::Program => {
                let done = self.program(offset, data);
                state.finish(done, PROGRAM_ERROR)
            }
            Mode::Erase if value == CONFIRM => {
                let done = self.erase(offset);
                state.finish(done, ERASE_ERROR)
            }
            Mode::Count if usize::from(value) < BUFFER_MAX => {
                state.buffer.clear();
                Mode::Buffer(u16::from(value) + 1)
            }
            Mode::Buffer(left) => {
                let bytes = data.iter().take(left.into());
                state.buffer.extend((offset as u32..).zip(bytes.copied()));
                match usize::from(left).saturating_sub(data.len()) {
                    0 => Mode::Full,
                    left => Mode::Buffer(left as u16),
                }
            }
            Mode::Full if value == CONFIRM => {
                let buffer = std::mem::take(&mut state.buffer);
                let done = buffer.iter().all(|(at, byte)| self.program(*at as usize, &[*byte]));
                state.finish(done, PROGRAM_ERROR)
            }
            Mode::Erase | Mode::Count | Mode::Full if value == READ_ARRAY => Mode::Array,
            // A sequence that was broken off.
            Mode::Erase | Mode::Count | Mode::Full => {
                state.finish(false, ERASE_ERROR | PROGRAM_ERROR)
            }
        };
        if state.mode == Mode::Array {
            state.buffer = Vec::new();
        }
    }

    /// Programming turns ones into zeros, and nothing back.
    fn program(&self, offset: usize, data: &[u8]) -> bool {
        let mut bytes = vec![0; data.len()];
        if !self.read_array(offset, &mut bytes) {
            return false;
        }
        for (byte, new) in bytes.iter_mut().zip(data) {
            *byte &= new;
        }
        self.store(offset, &bytes)
    }

    fn erase(&self, offset: usize) -> bool {
        self.store(offset / BLOCK * BLOCK, &[0xff; BLOCK])
    }

    /// The file first: what it does not have, the guest must not see as done.
    fn store(&self, offset: usize, data: &[u8]) -> bool {
        if offset.checked_add(data.len()).is_none_or(|end| end > self.len) {
            return false;
        }
        self.dirty.store(true, Ordering::Relaxed);
        if let Err(error) = self.file.write_all_at(data, offset as u64) {
            warn_limited!(%error, "firmware variables cannot be written");
            return false;
        }
        self.array.write_slice(self.base + offset as u64, data).is_ok()
    }

    fn read_array(&self, offset: usize, data: &mut [u8]) -> bool {
        self.array.read_slice(self.base.saturating_add(offset as u64), data).is_ok()
    }

    fn flush(&self) {
        if self.dirty.swap(false, Ordering::Relaxed)
            && let Err(error) = self.file.sync_all()
        {
            warn_limited!(%error, "firmware variables may not be on the disk");
        }
    }
}

impl State {
    fn finish(&mut self, done: bool, error: u8) -> Mode {
        self.status |= READY;
        if !done {
            self.status |= error;
        }
        Mode::Status
    }
}

impl BusDevice for Pflash {
    fn name(&self) -> &str {
        "pflash"
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        let state = self.state.hold();
        match state.mode {
            Mode::Array => {
                if !self.read_array(offset as usize, data) {
                    data.fill(0xff);
                }
            }
            Mode::Identity => {
                for (at, byte) in (offset as usize..).zip(data) {
                    *byte = IDENTITY.get(at % BLOCK).copied().unwrap_or(0);
                }
            }
            // The chip is a byte wide, so each byte is a read of its own.
            _ => data.fill(state.status),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        let mut state = self.state.hold();
        let before = state.mode;
        self.command(&mut state, offset as usize, data);
        if (before == Mode::Array) != (state.mode == Mode::Array) {
            self.show(state.mode);
        }
        Effect::None
    }
}

impl Component for Pflash {
    fn id(&self) -> &str {
        "pflash"
    }

    fn kind(&self) -> &'static str {
        "pflash"
    }

    fn pause(&self) {
        self.flush();
    }

    fn reset(&self) {
        let mut state = self.state.hold();
        *state = RESET;
        self.show(state.mode);
    }

    /// Its contents are the file's, which belongs to the guest.
    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 1, &*self.state.hold())
    }

    fn restore(&self, saved: &DeviceState) -> Result<(), StateError> {
        let saved: State = saved.decode(self.kind(), 1)?;
        let left = match saved.mode {
            Mode::Buffer(left) => left.into(),
            _ => 0,
        };
        if saved.buffer.len().saturating_add(left) > BUFFER_MAX {
            let reason = "its buffer is too long".to_owned();
            return Err(StateError::Mismatch { kind: self.kind(), reason });
        }
        let mut state = self.state.hold();
        *state = saved;
        self.show(state.mode);
        Ok(())
    }
}
