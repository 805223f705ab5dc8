//! [`Vga`]: the PCI function with its frame buffer and its registers.

use std::io::{self, Read as _};
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::read::{DeflateDecoder, DeflateEncoder};
use memory::{Backing, GuestRam, MemoryError};
use serde::{Deserialize, Serialize};

use super::dispi::Dispi;
use super::draw::draw;
use super::edid::edid;
use super::registers::Registers;
use super::spec::*;
use crate::bus::Effect;
use crate::component::{Component, DeviceState, StateError};
use crate::device_memory::{GuestAccess, MemoryMapper, MemoryWindow};
use crate::display::{Scanout, Surface};
use crate::limit::warn_limited;
use crate::pci::{
    Bar, BarKind, Config, ConfigBuilder, ConfigState, Ids, OptionRom, OptionRomError, PciFunction,
    PortType,
};
use crate::sync::Lock;

const VENDOR: u16 = 0x1234;
const DEVICE: u16 = 0x1111;
const FRAME_BUFFER: u8 = 0;
const REGISTERS: u8 = 2;
const PAGE: u64 = 4096;
/// Saved states hold the memory, and are to stay small enough to hold.
const MEMORY: std::ops::RangeInclusive<u64> = 1 << 20..=32 << 20;

/// Which of the two cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// With legacy ports and the window at 0xa0000: what a BIOS shows text on.
    Vga,
    /// Without: for firmware and kernels with a driver for it.
    Bochs,
}

#[derive(Debug, thiserror::Error)]
pub enum VgaError {
    #[error("video memory of {0} bytes: it must be a power of two from 1 to 32 MiB")]
    MemorySize(u64),
    #[error("video memory cannot be had")]
    Memory(#[from] MemoryError),
    #[error("video memory cannot be mapped into the guest")]
    Window(#[source] io::Error),
    #[error("the VGA BIOS cannot be used")]
    Rom(#[from] OptionRomError),
}

/// What a card is made of.
pub struct VgaParts<'a> {
    pub id: &'a str,
    pub model: Model,
    /// Bytes of video memory.
    pub memory: u64,
    /// The size that the monitor prefers.
    pub resolution: (u16, u16),
    /// The VGA BIOS.
    pub rom: Option<&'a [u8]>,
    /// For a card behind a PCI Express port.
    pub express: Option<PortType>,
    pub mapper: &'a dyn MemoryMapper,
}

pub struct Vga {
    pub(super) id: String,
    pub(super) model: Model,
    config: Config,
    edid: [u8; 128],
    size: u64,
    pub(super) memory: GuestRam,
    window: Arc<dyn MemoryWindow>,
    rom: Option<OptionRom>,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// Whether there is a VGA at all.
    pub(super) legacy: bool,
    pub(super) registers: Registers,
    pub(super) dispi: Dispi,
}

/// Version 1 of the saved state.
#[derive(Serialize, Deserialize)]
struct Saved {
    config: ConfigState,
    registers: Registers,
    dispi: Dispi,
    /// Numbers of the pages that are not all zeros, and what is in them, deflated.
    pages: Vec<u32>,
    contents: Vec<u8>,
}

impl Vga {
    /// # Errors
    /// For sizes that no such card has, and when the host has no memory.
    pub fn new(parts: VgaParts<'_>) -> Result<Arc<Self>, VgaError> {
        let VgaParts { id, model, memory: size, resolution: (width, height), rom, express, mapper } =
            parts;
        if !MEMORY.contains(&size) || !size.is_power_of_two() {
            return Err(VgaError::MemorySize(size));
        }
        let memory = GuestRam::new(&[(0, size)], &Backing::Anonymous)?;
        let window = mapper.window(&memory, GuestAccess::ReadWrite).map_err(VgaError::Window)?;
        let rom = rom.map(|image| OptionRom::new(image, VENDOR, DEVICE, mapper)).transpose()?;
        let class = match model {
            Model::Vga => 0x03_00_00,
            Model::Bochs => 0x03_80_00,
        };
        // Revision 2 says that the register BAR has everything described for it.
        let ids = Ids { vendor: VENDOR, device: DEVICE, class, revision: 2 };
        let mut builder = ConfigBuilder::new(ids);
        builder.subsystem(0x1af4, 0x1100).bar(FRAME_BUFFER, BarKind::Memory32, size).bar(
            REGISTERS,
            BarKind::Memory32,
            REGISTERS_LEN,
        );
        if let Some(rom) = &rom {
            builder.bar(Bar::ROM, BarKind::Rom, rom.size());
        }
        if let Some(port) = express {
            builder.express(port);
        }
        let state = State {
            legacy: model == Model::Vga,
            registers: Registers::default(),
            dispi: Dispi::new(size),
        };
        Ok(Arc::new(Self {
            id: id.to_owned(),
            model,
            config: builder.build(),
            edid: edid(width, height),
            size,
            memory,
            window,
            rom,
            state: Mutex::new(state),
        }))
    }

    pub(super) fn write_dispi(&self, state: &mut State, index: usize, value: u16) {
        if state.dispi.write(index, value)
            && let Some(mode) = state.dispi.linear()
        {
            let len = (mode.stride * u64::from(mode.height)).min(self.size);
            self.clear(len);
        }
    }

    /// Zeros in the first `len` bytes of memory.
    fn clear(&self, len: u64) {
        let zeros = [0; PAGE as usize];
        let mut at = 0;
        while at < len {
            let part = (len - at).min(PAGE);
            // In memory, as `len` is at most its size.
            let _ = self.memory.write_slice(at, &zeros[..part as usize]);
            at += part;
        }
    }

    fn read_registers(&self, offset: u64) -> u8 {
        let byte_of = |word: u64, at: u64| (word >> (8 * at)) as u8;
        match offset {
            0..REGISTERS_PORTS => self.edid.get(offset as usize).copied().unwrap_or(0),
            REGISTERS_PORTS..REGISTERS_DISPI => {
                let port = PORTS + (offset - REGISTERS_PORTS) as u16;
                let exists = self.model == Model::Vga && offset - REGISTERS_PORTS < PORTS_LEN;
                if exists { self.state.hold().registers.read(port) } else { 0xff }
            }
            REGISTERS_DISPI..REGISTERS_EXTENDED => {
                let at = offset - REGISTERS_DISPI;
                byte_of(self.state.hold().dispi.read((at / 2) as usize).into(), at % 2)
            }
            _ => {
                let at = offset - REGISTERS_EXTENDED;
                let both = u64::from(LITTLE_ENDIAN) << 32 | u64::from(EXTENDED_LEN);
                if at < 8 { byte_of(both, at) } else { 0xff }
            }
        }
    }

    fn write_registers(&self, offset: u64, data: &[u8]) {
        let mut state = self.state.hold();
        if (REGISTERS_PORTS..REGISTERS_PORTS + PORTS_LEN).contains(&offset) {
            if self.model == Model::Vga {
                for (port, value) in (PORTS + (offset - REGISTERS_PORTS) as u16..).zip(data) {
                    state.registers.write(port, *value);
                }
            }
        } else if (REGISTERS_DISPI..REGISTERS_EXTENDED).contains(&offset)
            && offset.is_multiple_of(2)
        {
            let first = ((offset - REGISTERS_DISPI) / 2) as usize;
            for (index, value) in (first..).zip(data.chunks_exact(2)) {
                self.write_dispi(&mut state, index, u16::from_le_bytes([value[0], value[1]]));
            }
        }
    }

    fn pages(&self) -> (Vec<u32>, Vec<u8>) {
        let (mut numbers, mut contents) = (Vec::new(), Vec::new());
        let mut page = [0; PAGE as usize];
        for number in 0..(self.size / PAGE) as u32 {
            let found = self.memory.read_slice(u64::from(number) * PAGE, &mut page).is_ok();
            if found && page.iter().any(|byte| *byte != 0) {
                numbers.push(number);
                contents.extend_from_slice(&page);
            }
        }
        (numbers, contents)
    }

    fn restore_pages(&self, pages: &[u32], contents: &[u8]) -> Result<(), StateError> {
        let mismatch =
            |reason: &str| StateError::Mismatch { kind: self.kind(), reason: reason.to_owned() };
        let mut contents = DeflateDecoder::new(contents);
        let mut page = [0; PAGE as usize];
        for number in pages {
            contents.read_exact(&mut page).map_err(|_| mismatch("its memory is cut off"))?;
            let at = u64::from(*number) * PAGE;
            let written = self.memory.write_slice(at, &page);
            written.map_err(|_| mismatch("it has more memory"))?;
        }
        Ok(())
    }
}

impl Scanout for Vga {
    fn draw(&self, surface: &mut Surface, blink: bool) {
        let state = self.state.hold().clone();
        draw(&state, &self.memory, surface, blink);
    }
}

impl PciFunction for Vga {
    fn name(&self) -> &str {
        &self.id
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        match bar {
            // An exit only where the memory could not be mapped.
            FRAME_BUFFER => {
                if self.memory.read_slice(offset, data).is_err() {
                    data.fill(0xff);
                }
            }
            REGISTERS => {
                for (at, byte) in (offset..).zip(data) {
                    *byte = self.read_registers(at);
                }
            }
            _ => match &self.rom {
                Some(rom) => rom.read(offset, data),
                None => data.fill(0xff),
            },
        }
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) -> Effect {
        match bar {
            FRAME_BUFFER => {
                // Beyond the memory there is nothing to write to.
                let _ = self.memory.write_slice(offset, data);
            }
            REGISTERS => self.write_registers(offset, data),
            _ => {}
        }
        Effect::None
    }

    fn bar_moved(&self, bar: u8, base: Option<u64>) {
        match (bar, &self.rom) {
            (FRAME_BUFFER, _) => {
                if let Err(error) = self.window.place(base) {
                    warn_limited!(%error, device = self.id, "memory is not mapped: accesses are slow");
                }
            }
            (Bar::ROM, Some(rom)) => rom.moved(base),
            _ => {}
        }
    }

    fn bus_reset(&self) {
        Component::reset(self);
    }
}

impl Component for Vga {
    fn id(&self) -> &str {
        &self.id
    }

    fn kind(&self) -> &'static str {
        "vga"
    }

    fn reset(&self) {
        self.config.reset();
        let mut state = self.state.hold();
        state.registers = Registers::default();
        state.dispi = Dispi::new(self.size);
        if let Err(error) = self.memory.clear() {
            warn_limited!(%error, device = self.id, "video memory keeps what was in it");
        }
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        let state = self.state.hold().clone();
        let (pages, plain) = self.pages();
        let mut contents = Vec::new();
        let packed =
            DeflateEncoder::new(&plain[..], Compression::fast()).read_to_end(&mut contents);
        packed.map_err(|error| StateError::Mismatch {
            kind: self.kind(),
            reason: error.to_string(),
        })?;
        let State { registers, dispi, .. } = state;
        let saved = Saved { config: self.config.save(), registers, dispi, pages, contents };
        DeviceState::encode(self.kind(), 1, &saved)
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let saved: Saved = state.decode(self.kind(), 1)?;
        let mut state = self.state.hold();
        if !saved.registers.is_valid() || !saved.dispi.fits(&state.dispi) {
            let reason = "it has other registers or another amount of memory".to_owned();
            return Err(StateError::Mismatch { kind: self.kind(), reason });
        }
        self.restore_pages(&saved.pages, &saved.contents)?;
        self.config.restore(self.kind(), &saved.config)?;
        state.registers = saved.registers;
        state.dispi = saved.dispi;
        Ok(())
    }
}
