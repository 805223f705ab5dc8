//! [`Registers`]: what is behind the VGA's ports.
//!
//! Most of them only store; what they mean is decided where memory is accessed and the picture is
//! drawn. Retrace is not timed: the status register alternates, so that who waits for it goes on.

use serde::{Deserialize, Serialize};

use super::spec::*;

const COLOURS: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registers {
    pub(super) misc: u8,
    feature: u8,
    status: u8,
    sequencer_index: u8,
    pub(super) sequencer: [u8; 8],
    graphics_index: u8,
    pub(super) graphics: [u8; 9],
    pub(super) attribute_index: u8,
    /// The next write to the attribute port is data.
    attribute_data: bool,
    pub(super) attribute: [u8; 21],
    crtc_index: u8,
    pub(super) crtc: [u8; 25],
    dac: Dac,
    /// The byte of each plane that was read last.
    pub(super) latch: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Dac {
    mask: u8,
    reading: bool,
    index: u8,
    /// Which of red, green and blue comes next.
    component: u8,
    /// What was written of a colour; it is taken with its third component.
    pending: [u8; 3],
    colours: Vec<[u8; 3]>,
}

/// Bits that sequencer and graphics registers keep.
const SEQUENCER_MASK: [u8; 8] = [0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0, 0, 0xff];
const GRAPHICS_MASK: [u8; 9] = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff];

impl Default for Registers {
    fn default() -> Self {
        Self {
            misc: 0,
            feature: 0,
            status: 0,
            sequencer_index: 0,
            sequencer: [0; 8],
            graphics_index: 0,
            graphics: [0; 9],
            attribute_index: 0,
            attribute_data: false,
            attribute: [0; 21],
            crtc_index: 0,
            crtc: [0; 25],
            dac: Dac {
                mask: 0xff,
                reading: false,
                index: 0,
                component: 0,
                pending: [0; 3],
                colours: vec![[0; 3]; COLOURS],
            },
            latch: 0,
        }
    }
}

impl Registers {
    /// Whether a saved state is one.
    pub(super) fn is_valid(&self) -> bool {
        self.dac.colours.len() == COLOURS && self.dac.component < 3
    }

    pub(super) fn read(&mut self, port: u16) -> u8 {
        match self.decoded(port) {
            Some(ATTRIBUTE) if !self.attribute_data => self.attribute_index,
            Some(ATTRIBUTE_READ) => at(&self.attribute, self.attribute_index & 0x1f),
            Some(SEQUENCER_INDEX) => self.sequencer_index,
            Some(SEQUENCER_DATA) => at(&self.sequencer, self.sequencer_index),
            Some(DAC_MASK) => self.dac.mask,
            Some(DAC_READ_INDEX) => {
                if self.dac.reading {
                    3
                } else {
                    0
                }
            }
            Some(DAC_WRITE_INDEX) => self.dac.index,
            Some(DAC_DATA) => self.dac.read(),
            Some(FEATURE_READ) => self.feature,
            Some(MISC_READ) => self.misc,
            Some(GRAPHICS_INDEX) => self.graphics_index,
            Some(GRAPHICS_DATA) => at(&self.graphics, self.graphics_index),
            Some(CRTC_INDEX) => self.crtc_index,
            Some(CRTC_DATA) => at(&self.crtc, self.crtc_index),
            Some(STATUS) => {
                self.attribute_data = false;
                self.status ^= STATUS_BLANKING | STATUS_RETRACE;
                self.status
            }
            Some(_) => 0,
            None => 0xff,
        }
    }

    pub(super) fn write(&mut self, port: u16, value: u8) {
        match self.decoded(port) {
            Some(ATTRIBUTE) => self.write_attribute(value),
            Some(MISC_WRITE) => self.misc = value & !0x10,
            Some(SEQUENCER_INDEX) => self.sequencer_index = value & 7,
            Some(SEQUENCER_DATA) => {
                store(&mut self.sequencer, self.sequencer_index, value, &SEQUENCER_MASK);
            }
            Some(DAC_MASK) => self.dac.mask = value,
            Some(DAC_READ_INDEX) => self.dac.begin(value, true),
            Some(DAC_WRITE_INDEX) => self.dac.begin(value, false),
            Some(DAC_DATA) => self.dac.write(value),
            Some(GRAPHICS_INDEX) => self.graphics_index = value & 0xf,
            Some(GRAPHICS_DATA) => {
                store(&mut self.graphics, self.graphics_index, value, &GRAPHICS_MASK);
            }
            Some(CRTC_INDEX) => self.crtc_index = value,
            Some(CRTC_DATA) => self.write_crtc(value),
            Some(STATUS) => self.feature = value & 0x10,
            _ => {}
        }
    }

    /// The port as it is called on a colour display; none where the one that is set up is not.
    fn decoded(&self, port: u16) -> Option<u16> {
        let colour = self.misc & MISC_COLOUR != 0;
        match port {
            0x3b0..=0x3bf => (!colour).then_some(port + 0x20),
            0x3d0..=0x3df => colour.then_some(port),
            _ => Some(port),
        }
    }

    fn write_attribute(&mut self, value: u8) {
        self.attribute_data = !self.attribute_data;
        if self.attribute_data {
            self.attribute_index = value & 0x3f;
            return;
        }
        let index = usize::from(self.attribute_index & 0x1f);
        let mask = match index {
            ATTR_MODE => !0x10,
            ATTR_OVERSCAN => 0xff,
            0x14 | 0x13 => 0x0f,
            _ => 0x3f,
        };
        // The palette is locked while it is in use.
        let locked = index < ATTR_MODE && self.attribute_index & ATTR_INDEX_DISPLAY != 0;
        if let Some(register) = self.attribute.get_mut(index).filter(|_| !locked) {
            *register = value & mask;
        }
    }

    fn write_crtc(&mut self, value: u8) {
        let index = usize::from(self.crtc_index);
        let protected = self.crtc[CRTC_RETRACE_END] & CRTC_PROTECT != 0 && index <= CRTC_OVERFLOW;
        let Some(register) = self.crtc.get_mut(index) else { return };
        if !protected {
            *register = value;
        } else if index == CRTC_OVERFLOW {
            *register = *register & !OVERFLOW_LINE_COMPARE | value & OVERFLOW_LINE_COMPARE;
        }
    }

    /// A colour of the DAC; `wide`: its components have 8 bits instead of 6.
    pub(super) fn colour(&self, index: u8, wide: bool) -> u32 {
        let colour = self.dac.colours.get(usize::from(index & self.dac.mask));
        let [red, green, blue] = colour.copied().unwrap_or_default().map(|value| {
            let value = if wide { value } else { (value & 0x3f) << 2 | (value & 0x3f) >> 4 };
            u32::from(value)
        });
        red << 16 | green << 8 | blue
    }

    pub(super) fn colours(&self, wide: bool) -> [u32; COLOURS] {
        std::array::from_fn(|index| self.colour(index as u8, wide))
    }

    /// The 16 colours that the attribute controller makes of four bits.
    pub(super) fn palette(&self, wide: bool) -> [u32; 16] {
        let select = self.attribute[ATTR_COLOUR_SELECT];
        std::array::from_fn(|index| {
            let value = self.attribute[index];
            let colour = if self.attribute[ATTR_MODE] & ATTR_MODE_P54S != 0 {
                (select & 0xf) << 4 | value & 0xf
            } else {
                (select & 0xc) << 4 | value & 0x3f
            };
            self.colour(colour, wide)
        })
    }

    /// Two CRTC registers, the first the high byte.
    pub(super) fn crtc_word(&self, high: usize) -> u32 {
        u32::from(self.crtc[high]) << 8 | u32::from(self.crtc[high + 1])
    }
}

impl Dac {
    fn begin(&mut self, index: u8, reading: bool) {
        (self.index, self.reading, self.component) = (index, reading, 0);
    }

    fn read(&mut self) -> u8 {
        let value = self.colours[usize::from(self.index)][usize::from(self.component)];
        self.advance();
        value
    }

    fn write(&mut self, value: u8) {
        self.pending[usize::from(self.component)] = value;
        if self.component == 2 {
            self.colours[usize::from(self.index)] = self.pending;
        }
        self.advance();
    }

    fn advance(&mut self) {
        self.component = (self.component + 1) % 3;
        if self.component == 0 {
            self.index = self.index.wrapping_add(1);
        }
    }
}

fn at(registers: &[u8], index: u8) -> u8 {
    registers.get(usize::from(index)).copied().unwrap_or(0)
}

fn store(registers: &mut [u8], index: u8, value: u8, masks: &[u8]) {
    let index = usize::from(index);
    if let (Some(register), Some(mask)) = (registers.get_mut(index), masks.get(index)) {
        *register = value & mask;
    }
}
