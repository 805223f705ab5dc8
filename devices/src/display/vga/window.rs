//! The window at 0xa0000: how the CPU's bytes get into the four planes and out of them.
//!
//! Memory holds the planes side by side: byte `4 * n + p` is byte `n` of plane `p`. Linear modes see
//! the same bytes in their own order, as on every card since.

use memory::GuestRam;

use super::dispi::Dispi;
use super::registers::Registers;
use super::spec::*;

/// One access to the window, for as long as the card's state is held.
pub(super) struct Window<'a> {
    pub(super) memory: &'a GuestRam,
    pub(super) registers: &'a mut Registers,
    pub(super) dispi: &'a Dispi,
}

/// What an address of the window means.
enum Place {
    /// A byte of memory, which is one of this plane.
    Byte { at: u64, plane: u8 },
    /// The same byte of all planes: the number of the word that they make up.
    Planes(u64),
}

impl Window<'_> {
    pub(super) fn read(&mut self, offset: u64) -> u8 {
        match self.place(offset) {
            None => 0xff,
            Some(Place::Byte { at, .. }) => self.memory.read_obj(at).unwrap_or(0xff),
            Some(Place::Planes(word)) => {
                self.registers.latch = self.word(word);
                self.read_latch()
            }
        }
    }

    pub(super) fn write(&mut self, offset: u64, value: u8) {
        match self.place(offset) {
            Some(Place::Byte { at, plane }) if self.takes(plane) => {
                // Beyond the memory there is nothing to write to.
                let _ = self.memory.write_obj(at, value);
            }
            Some(Place::Byte { .. }) | None => {}
            Some(Place::Planes(word)) => self.write_planes(word, value),
        }
    }

    /// The map mask lets writes to a plane through. Linear modes have no planes.
    fn takes(&self, plane: u8) -> bool {
        self.registers.sequencer[SEQ_MAP_MASK] & 1 << plane != 0 || self.is_linear()
    }

    /// A mode of the display interface whose pixels are whole bytes.
    fn is_linear(&self) -> bool {
        self.dispi.is_on() && self.dispi.bits() >= 8
    }

    fn place(&self, offset: u64) -> Option<Place> {
        let graphics = &self.registers.graphics;
        if self.is_linear() {
            return (offset < BANK)
                .then(|| Place::Byte { at: self.dispi.bank() + offset, plane: 0 });
        }
        let offset = match graphics[GFX_MISC] >> 2 & 3 {
            0 => offset,
            1 => Some(offset).filter(|offset| *offset < BANK)? + self.dispi.bank(),
            2 => offset.checked_sub(0x1_0000).filter(|offset| *offset < 0x8000)?,
            _ => offset.checked_sub(0x1_8000).filter(|offset| *offset < 0x8000)?,
        };
        if self.registers.sequencer[SEQ_MEMORY] & MEMORY_CHAIN_4 != 0 {
            return Some(Place::Byte { at: offset, plane: (offset & 3) as u8 });
        }
        if graphics[GFX_MODE] & MODE_ODD_EVEN != 0 {
            let plane = graphics[GFX_READ_MAP] & 2 | (offset & 1) as u8;
            return Some(Place::Byte { at: (offset & !1) << 1 | u64::from(plane), plane });
        }
        Some(Place::Planes(offset))
    }

    fn word(&self, word: u64) -> u32 {
        self.memory.read_obj(word * 4).unwrap_or(u32::MAX)
    }

    fn read_latch(&self) -> u8 {
        let registers = &*self.registers;
        let graphics = &registers.graphics;
        if graphics[GFX_MODE] & MODE_READ_COMPARE == 0 {
            return registers.latch.to_le_bytes()[usize::from(graphics[GFX_READ_MAP] & 3)];
        }
        // A bit is set where all planes that matter have the colour looked for.
        let differs = registers.latch ^ spread(graphics[GFX_COMPARE]);
        let [a, b, c, d] = (differs & spread(graphics[GFX_DONT_CARE])).to_le_bytes();
        !(a | b | c | d)
    }

    fn write_planes(&mut self, word: u64, value: u8) {
        let graphics = &self.registers.graphics;
        let latch = self.registers.latch;
        let rotated = value.rotate_right(u32::from(graphics[GFX_ROTATE] & 7));
        let set_reset = spread(graphics[GFX_SET_RESET]);
        let mut bit_mask = graphics[GFX_BIT_MASK];
        let data = match graphics[GFX_MODE] & 3 {
            0 => {
                let fixed = spread(graphics[GFX_ENABLE_SET_RESET]);
                each_plane(rotated) & !fixed | set_reset & fixed
            }
            // Latches as they are, past everything else.
            1 => return self.store(word, latch),
            2 => spread(value),
            _ => {
                bit_mask &= rotated;
                set_reset
            }
        };
        let data = match graphics[GFX_ROTATE] >> 3 & 3 {
            0 => data,
            1 => data & latch,
            2 => data | latch,
            _ => data ^ latch,
        };
        let mask = each_plane(bit_mask);
        self.store(word, data & mask | latch & !mask);
    }

    /// Write to the planes that the map mask names.
    fn store(&mut self, word: u64, data: u32) {
        let planes = spread(self.registers.sequencer[SEQ_MAP_MASK]);
        let kept = if planes == u32::MAX { 0 } else { self.word(word) & !planes };
        // Beyond the memory there is nothing to write to.
        let _ = self.memory.write_obj(word * 4, data & planes | kept);
    }
}

/// Four bits to four planes: all ones or zeros in each.
fn spread(bits: u8) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|plane| if bits >> plane & 1 != 0 { 0xff } else { 0 }))
}

fn each_plane(value: u8) -> u32 {
    u32::from_le_bytes([value; 4])
}
