//! [`Rom`]: the firmware image as a PC maps it.
//!
//! ```text
//! 0xe_0000 … 1 MiB      its last 128 KiB, a copy in RAM that firmware works in (PAM does nothing)
//! 4 GiB - len … 4 GiB   all of it, read-only
//! ```

use std::fs::File;
use std::sync::Arc;

use arch::layout::{HIGH_RAM_START, HIMEM_START, KIB};
use devices::component::{Component, DeviceState, StateError};
use devices::device_memory::{GuestAccess, MemoryMapper, MemoryWindow};
use memory::{Backing, GuestRam, MemoryError};

use super::{FirmwareError, read_image};

/// Of the copy in RAM.
const SHADOW_MAX: u64 = 128 * KIB;

pub struct Rom {
    memory: GuestRam,
    start: u64,
    len: u64,
    _window: Arc<dyn MemoryWindow>,
}

impl Rom {
    pub fn new(mapper: &dyn MemoryMapper, file: &File) -> Result<Self, FirmwareError> {
        let image = read_image(file)?;
        let len = image.len() as u64;
        let start = HIGH_RAM_START - len;
        let memory = GuestRam::new(&[(start, len)], &Backing::Anonymous)?;
        memory.write_slice(start, &image)?;
        let window = mapper.window(&memory, GuestAccess::ReadOnly).map_err(FirmwareError::Map)?;
        window.place(Some(start)).map_err(FirmwareError::Map)?;
        Ok(Self { memory, start, len, _window: window })
    }

    /// Where it begins, below 4 GiB.
    pub fn start(&self) -> u64 {
        self.start
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// Put the copy below 1 MiB in place, as a processor finds it after a reset.
    pub fn shadow(&self, ram: &GuestRam) -> Result<(), MemoryError> {
        let len = self.len.min(SHADOW_MAX);
        let mut bytes = vec![0; len as usize];
        self.memory.read_slice(HIGH_RAM_START - len, &mut bytes)?;
        ram.write_slice(HIMEM_START - len, &bytes)
    }
}

impl Component for Rom {
    fn id(&self) -> &str {
        "rom"
    }

    fn kind(&self) -> &'static str {
        "rom"
    }

    fn reset(&self) {}

    /// The whole image: the file on the host may be another version when the machine goes on, and
    /// firmware runs from here.
    fn save(&self) -> Result<DeviceState, StateError> {
        let mut image = vec![0; self.len as usize];
        let read = self.memory.read_slice(self.start, &mut image);
        read.map_err(|error| self.mismatch(error.to_string()))?;
        DeviceState::encode(self.kind(), 1, &image)
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let image: Vec<u8> = state.decode(self.kind(), 1)?;
        if image.len() as u64 != self.len {
            return Err(self.mismatch(format!("it has {} bytes", image.len())));
        }
        let written = self.memory.write_slice(self.start, &image);
        written.map_err(|error| self.mismatch(error.to_string()))
    }
}

impl Rom {
    fn mismatch(&self, reason: String) -> StateError {
        StateError::Mismatch { kind: Component::kind(self), reason }
    }
}
