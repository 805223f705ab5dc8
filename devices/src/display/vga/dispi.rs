//! [`Dispi`]: the Bochs display interface, eleven 16-bit registers that set modes of any size with
//! a linear frame buffer.

use serde::{Deserialize, Serialize};

use super::spec::*;

/// What [`DISPI_XRES`] and [`DISPI_YRES`] say is the most.
const MOST_WIDTH: u16 = crate::display::surface::MAX_SIDE as u16;
const MOST_HEIGHT: u16 = crate::display::surface::MAX_SIDE as u16;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dispi {
    pub(super) index: u16,
    registers: [u16; DISPI_REGISTERS],
    /// Of video memory, in 64 KiB.
    memory: u16,
}

/// A mode that was set: pixels in rows, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Linear {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 4 (in planes), 8, 15, 16, 24 or 32.
    pub(super) bits: u16,
    /// Bytes from the start of memory to the first pixel, and from row to row; for planes, of all
    /// four together.
    pub(super) start: u64,
    pub(super) stride: u64,
}

impl Dispi {
    /// `memory`: bytes of video memory.
    pub(super) fn new(memory: u64) -> Self {
        let mut registers = [0; DISPI_REGISTERS];
        registers[DISPI_ID] = *DISPI_IDS.end();
        let memory = u16::try_from(memory / BANK).unwrap_or(u16::MAX);
        Self { index: 0, registers, memory }
    }

    /// Whether a saved state is of a card with as much memory.
    pub(super) fn fits(&self, other: &Self) -> bool {
        self.memory == other.memory
    }

    pub(super) fn read(&self, index: usize) -> u16 {
        let Some(&value) = self.registers.get(index) else { return 0 };
        let capabilities = self.registers[DISPI_ENABLE] & ENABLE_GET_CAPS != 0;
        match index {
            DISPI_XRES if capabilities => MOST_WIDTH,
            DISPI_YRES if capabilities => MOST_HEIGHT,
            DISPI_BPP if capabilities => MOST_BPP,
            DISPI_VIRT_HEIGHT => self.virtual_height(),
            DISPI_MEMORY => self.memory,
            _ => value,
        }
    }

    /// Whether the write switched a mode on, whose memory is to be cleared.
    pub(super) fn write(&mut self, index: usize, value: u16) -> bool {
        let registers = &mut self.registers;
        match index {
            DISPI_ID if DISPI_IDS.contains(&value) => registers[index] = value,
            DISPI_XRES | DISPI_YRES | DISPI_BPP => registers[index] = value,
            DISPI_ENABLE => {
                let was_on = registers[DISPI_ENABLE] & ENABLED != 0;
                registers[DISPI_ENABLE] = value;
                registers[DISPI_BANK] = 0;
                if value & ENABLED != 0 && !was_on {
                    registers[DISPI_VIRT_WIDTH] = registers[DISPI_XRES];
                    registers[DISPI_X_OFFSET] = 0;
                    registers[DISPI_Y_OFFSET] = 0;
                    return value & ENABLE_KEEP_MEMORY == 0;
                }
            }
            DISPI_BANK => registers[index] = value.min(self.memory.saturating_sub(1)),
            DISPI_VIRT_WIDTH | DISPI_X_OFFSET | DISPI_Y_OFFSET => registers[index] = value,
            _ => {}
        }
        false
    }

    pub(super) fn is_on(&self) -> bool {
        self.registers[DISPI_ENABLE] & ENABLED != 0
    }

    /// Colours of the DAC have 8 bits.
    pub(super) fn wide_dac(&self) -> bool {
        self.registers[DISPI_ENABLE] & ENABLE_8BIT_DAC != 0
    }

    /// Where the window of 64 KiB looks in memory.
    pub(super) fn bank(&self) -> u64 {
        u64::from(self.registers[DISPI_BANK]) * BANK
    }

    pub(super) fn bits(&self) -> u16 {
        // Zero is a kind way to say eight.
        match self.registers[DISPI_BPP] {
            0 => 8,
            bits => bits,
        }
    }

    /// The mode that is on; none if it is none, or makes no sense.
    pub(super) fn linear(&self) -> Option<Linear> {
        let bits = self.bits();
        let per_pixel = u64::from(bytes_of(bits)?);
        let [width, height, virtual_width, x, y] =
            [DISPI_XRES, DISPI_YRES, DISPI_VIRT_WIDTH, DISPI_X_OFFSET, DISPI_Y_OFFSET]
                .map(|index| u64::from(self.registers[index]));
        let across = virtual_width.max(width);
        // Planes keep eight pixels in four bytes.
        let bytes = |pixels: u64| if bits == 4 { pixels / 8 * 4 } else { pixels * per_pixel };
        let stride = bytes(across);
        self.is_on().then_some(Linear {
            width: width as u32,
            height: height as u32,
            bits,
            start: y * stride + bytes(x),
            stride,
        })
    }

    fn virtual_height(&self) -> u16 {
        let stride = self.linear().map_or(0, |mode| mode.stride);
        let rows = (u64::from(self.memory) * BANK).checked_div(stride).unwrap_or(0);
        u16::try_from(rows).unwrap_or(u16::MAX)
    }
}

/// Bytes of a pixel.
pub(super) fn bytes_of(bits: u16) -> Option<u8> {
    match bits {
        4 | 8 => Some(1),
        15 | 16 => Some(2),
        24 => Some(3),
        32 => Some(4),
        _ => None,
    }
}
