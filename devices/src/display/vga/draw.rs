//! What the registers and the memory of the card look like on a monitor.
//!
//! The picture has the pixels that the guest set, once each: modes that a CRT shows with doubled
//! dots or lines are drawn at their own size.

use memory::GuestRam;

use super::device::State;
use super::dispi::{Linear, bytes_of};
use super::registers::Registers;
use super::spec::*;
use crate::display::Surface;
use crate::display::colour::{from_555, from_565};

/// Rows of a glyph in memory.
const GLYPH: usize = 32;

pub(super) fn draw(state: &State, memory: &GuestRam, surface: &mut Surface, blink: bool) {
    let registers = &state.registers;
    let unblanked = !state.legacy || registers.attribute_index & ATTR_INDEX_DISPLAY != 0;
    let linear = state.dispi.linear().filter(|_| unblanked);
    if let Some(mode) = linear {
        return draw_linear(state, memory, &mode, surface);
    }
    let on = state.legacy
        && unblanked
        && !state.dispi.is_on()
        && registers.sequencer[SEQ_CLOCKING] & CLOCKING_SCREEN_OFF == 0;
    if !on {
        if surface.begin(720, 400) {
            surface.fill(0);
        }
    } else if registers.graphics[GFX_MISC] & MISC_GRAPHICS != 0 {
        draw_graphics(registers, memory, state.dispi.wide_dac(), surface);
    } else {
        Text::of(registers, memory, state.dispi.wide_dac()).draw(memory, surface, blink);
    }
}

/// Video memory from `at` on; zeros where there is none.
fn fetch(memory: &GuestRam, at: u64, data: &mut [u8]) {
    if memory.read_slice(at, data).is_err() {
        data.fill(0);
    }
}

fn draw_linear(state: &State, memory: &GuestRam, mode: &Linear, surface: &mut Surface) {
    if !surface.begin(mode.width, mode.height) {
        return;
    }
    let wide = state.dispi.wide_dac();
    if mode.bits == 4 {
        let palette = state.registers.palette(wide);
        let mut words = vec![0; (mode.width as usize).div_ceil(8) * 4];
        let mut row = Vec::with_capacity(words.len() * 2);
        for y in 0..mode.height {
            fetch(memory, mode.start + u64::from(y) * mode.stride, &mut words);
            row.clear();
            planar_pixels(&words, 0xf, &palette, &mut row);
            surface.put_row(y, &row);
        }
        return;
    }
    let colours = state.registers.colours(wide);
    let per_pixel = usize::from(bytes_of(mode.bits).unwrap_or(4));
    let mut bytes = vec![0; mode.width as usize * per_pixel];
    let mut row = vec![0; mode.width as usize];
    for y in 0..mode.height {
        fetch(memory, mode.start + u64::from(y) * mode.stride, &mut bytes);
        for (pixel, bytes) in row.iter_mut().zip(bytes.chunks_exact(per_pixel)) {
            *pixel = match *bytes {
                [index] => colours[usize::from(index)],
                [low, high] if mode.bits == 15 => from_555(u16::from_le_bytes([low, high])),
                [low, high] => from_565(u16::from_le_bytes([low, high])),
                [blue, green, red] | [blue, green, red, _] => {
                    u32::from_le_bytes([blue, green, red, 0])
                }
                _ => 0,
            };
        }
        surface.put_row(y, &row);
    }
}

/// Eight pixels of each four bytes: one bit of each plane, the leftmost in bit 7.
fn planar_pixels(words: &[u8], enabled: u8, palette: &[u32; 16], row: &mut Vec<u32>) {
    for planes in words.chunks_exact(4) {
        for bit in (0..8).rev() {
            let index = (0..4).fold(0, |index, plane| index | (planes[plane] >> bit & 1) << plane);
            row.push(palette[usize::from(index & enabled)]);
        }
    }
}

/// Four pixels of each plane pair: two bits of the lower plane below two of the upper.
fn interleaved_pixels(words: &[u8], enabled: u8, palette: &[u32; 16], row: &mut Vec<u32>) {
    for planes in words.chunks_exact(4) {
        for (low, high) in [(planes[0], planes[2]), (planes[1], planes[3])] {
            for shift in [6, 4, 2, 0] {
                let index = low >> shift & 3 | (high >> shift & 3) << 2;
                row.push(palette[usize::from(index & enabled)]);
            }
        }
    }
}

/// How the CRT controller walks through memory, in words of four planes.
struct Raster {
    start: u32,
    /// Words from row to row of characters (of one line, in most graphics modes).
    offset: u32,
    columns: u32,
    /// Rows of characters, and scan lines of one as the beam sees them.
    rows: u32,
    beam_lines: u32,
    /// Lines of a row of characters.
    lines: u32,
    /// The line after which memory begins again at zero.
    compare: u32,
}

impl Raster {
    fn of(registers: &Registers) -> Self {
        let crtc = &registers.crtc;
        let overflow = u32::from(crtc[CRTC_OVERFLOW]);
        let max_scan = crtc[CRTC_MAX_SCAN];
        let lines = u32::from(max_scan & 0x1f) + 1;
        let beam_lines = lines << (max_scan >> 7);
        let end =
            u32::from(crtc[CRTC_DISPLAY_END]) | (overflow >> 1 & 1) << 8 | (overflow >> 6 & 1) << 9;
        let compare = u32::from(crtc[CRTC_LINE_COMPARE])
            | (overflow >> 4 & 1) << 8
            | (u32::from(max_scan) >> 6 & 1) << 9;
        Self {
            start: registers.crtc_word(CRTC_START_HIGH),
            offset: u32::from(crtc[CRTC_OFFSET]) * 2,
            columns: u32::from(crtc[CRTC_COLUMNS]) + 1,
            rows: (end + 1) / beam_lines,
            beam_lines,
            lines,
            compare,
        }
    }

    /// The word that a row of characters begins at.
    fn row(&self, row: u32) -> u32 {
        let above = (self.compare + 1).div_ceil(self.beam_lines);
        match row.checked_sub(above) {
            Some(below) => below * self.offset,
            None => self.start + row * self.offset,
        }
    }
}

fn draw_graphics(registers: &Registers, memory: &GuestRam, wide: bool, surface: &mut Surface) {
    let raster = Raster::of(registers);
    let mode = registers.crtc[CRTC_MODE];
    // Bits of the line within a row that replace bits of the address: CGA keeps odd lines apart.
    let replaced = u32::from(!mode & 3);
    let lines: Vec<u32> = (0..raster.lines)
        .filter(|line| *line == 0 || (line ^ (line - 1)) & replaced != 0)
        .collect();
    let shift = registers.graphics[GFX_MODE] >> 5 & 3;
    let per_word = if shift >= 2 { 4 } else { 8 };
    if !surface.begin(raster.columns * per_word, raster.rows * lines.len() as u32) {
        return;
    }
    let palette = registers.palette(wide);
    let colours = registers.colours(wide);
    let enabled = registers.attribute[ATTR_PLANES] & 0xf;
    let odd_lines = 12 + u32::from(mode >> 6 & 1);
    let mut words = vec![0; raster.columns as usize * 4];
    let mut row = Vec::with_capacity(words.len() * 2);
    let mut y = 0;
    for base in (0..raster.rows).map(|row| raster.row(row)) {
        for line in &lines {
            let mut word = base;
            if replaced & 1 != 0 {
                word = word & !(1 << odd_lines) | (line & 1) << odd_lines;
            }
            if replaced & 2 != 0 {
                word = word & !(1 << 13) | (line >> 1 & 1) << 13;
            }
            fetch(memory, u64::from(word) * 4, &mut words);
            row.clear();
            match shift {
                0 => planar_pixels(&words, enabled, &palette, &mut row),
                1 => interleaved_pixels(&words, enabled, &palette, &mut row),
                _ => row.extend(words.iter().map(|index| colours[usize::from(*index)])),
            }
            surface.put_row(y, &row);
            y += 1;
        }
    }
}

/// Characters in plane 0, attributes in plane 1, glyphs in plane 2.
struct Text {
    raster: Raster,
    palette: [u32; 16],
    fonts: [Vec<u8>; 2],
    /// Dots of a glyph: 8, or 9 with a gap that line graphics bridge.
    dots: u32,
    bridged: bool,
    blinking: bool,
    cursor: Option<Cursor>,
}

struct Cursor {
    word: u32,
    lines: std::ops::RangeInclusive<u32>,
}

impl Text {
    fn of(registers: &Registers, memory: &GuestRam, wide: bool) -> Self {
        let fonts = registers.sequencer[SEQ_FONTS];
        let crtc = &registers.crtc;
        let mode = registers.attribute[ATTR_MODE];
        let cursor = Cursor {
            word: registers.crtc_word(CRTC_CURSOR_HIGH),
            lines: u32::from(crtc[CRTC_CURSOR_START] & 0x1f)
                ..=u32::from(crtc[CRTC_CURSOR_END] & 0x1f),
        };
        Self {
            raster: Raster::of(registers),
            palette: registers.palette(wide),
            // Map B is for characters whose attribute bit 3 is clear.
            fonts: [fonts & 3 | fonts >> 2 & 4, fonts >> 2 & 3 | fonts >> 3 & 4]
                .map(|map| font(memory, map)),
            dots: if registers.sequencer[SEQ_CLOCKING] & CLOCKING_8_DOTS != 0 { 8 } else { 9 },
            bridged: mode & ATTR_MODE_LINE_GRAPHICS != 0,
            blinking: mode & ATTR_MODE_BLINK != 0,
            cursor: (crtc[CRTC_CURSOR_START] & CURSOR_OFF == 0).then_some(cursor),
        }
    }

    fn draw(&self, memory: &GuestRam, surface: &mut Surface, blink: bool) {
        let raster = &self.raster;
        if !surface.begin(raster.columns * self.dots, raster.rows * raster.lines) {
            return;
        }
        let mut cells = vec![0; raster.columns as usize * 4];
        let mut pixels = Vec::with_capacity((raster.columns * self.dots) as usize);
        for row in 0..raster.rows {
            let first = raster.row(row);
            fetch(memory, u64::from(first) * 4, &mut cells);
            for line in 0..raster.lines {
                pixels.clear();
                for (word, cell) in (first..).zip(cells.chunks_exact(4)) {
                    let cursor = self.cursor.as_ref().filter(|_| blink);
                    let cursor = cursor
                        .is_some_and(|cursor| cursor.word == word && cursor.lines.contains(&line));
                    self.glyph_line(cell[0], cell[1], line, cursor, blink, &mut pixels);
                }
                surface.put_row(row * raster.lines + line, &pixels);
            }
        }
    }

    fn glyph_line(
        &self,
        character: u8,
        attribute: u8,
        line: u32,
        cursor: bool,
        blink: bool,
        pixels: &mut Vec<u32>,
    ) {
        let font = &self.fonts[usize::from(attribute >> 3 & 1)];
        let dots = font[usize::from(character) * GLYPH + (line as usize & (GLYPH - 1))];
        let blinks = self.blinking && attribute & 0x80 != 0;
        let background = attribute >> 4 & if self.blinking { 7 } else { 0xf };
        let hidden = blinks && !blink;
        let [foreground, background] =
            [if hidden { background } else { attribute & 0xf }, background]
                .map(|index| self.palette[usize::from(index)]);
        let mut put = |set: bool| pixels.push(if set || cursor { foreground } else { background });
        for bit in (0..8).rev() {
            put(dots >> bit & 1 != 0);
        }
        if self.dots == 9 {
            put(self.bridged && (0xc0..=0xdf).contains(&character) && dots & 1 != 0);
        }
    }
}

/// The glyphs of one of eight character maps, 32 bytes each.
fn font(memory: &GuestRam, map: u8) -> Vec<u8> {
    // Maps 0 to 3 lie 16 KiB apart, 4 to 7 between them.
    let number = u64::from(map & 3) * 2 + u64::from(map >> 2);
    let mut words = vec![0; 256 * GLYPH * 4];
    fetch(memory, number * 8192 * 4, &mut words);
    words.chunks_exact(4).map(|planes| planes[2]).collect()
}
