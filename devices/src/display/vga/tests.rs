use std::sync::Arc;

use super::spec::*;
use super::{Model, Vga, VgaError, VgaParts};
use crate::bus::{Bus, Effect};
use crate::component::Component;
use crate::display::{Scanout, Surface};
use crate::pci::PciFunction;
use crate::testing::FakeMapper;

/// As long as a ROM says that it is.
const ROM: [u8; 512] = {
    let mut rom = [0; 512];
    (rom[0], rom[1], rom[2]) = (0x55, 0xaa, 1);
    rom
};

struct Rig {
    vga: Arc<Vga>,
    ports: Bus,
    memory: Bus,
    mapper: FakeMapper,
    surface: Surface,
}

fn card(model: Model, mapper: &FakeMapper) -> Result<Arc<Vga>, VgaError> {
    Vga::new(VgaParts {
        id: "video0",
        model,
        memory: 1 << 20,
        resolution: (1024, 768),
        rom: Some(&ROM),
        express: None,
        mapper,
    })
}

fn rig(model: Model) -> Rig {
    let mapper = FakeMapper::default();
    let vga = card(model, &mapper).unwrap();
    let (ports, memory) = (Bus::new("port"), Bus::new("memory"));
    for (base, len, device) in vga.ports() {
        ports.insert(base, len, device).unwrap();
    }
    if let Some((base, len, device)) = vga.legacy_window() {
        memory.insert(base, len, device).unwrap();
    }
    Rig { vga, ports, memory, mapper, surface: Surface::new() }
}

impl Rig {
    fn out(&self, port: u16, value: u8) {
        assert_eq!(self.ports.write(port.into(), &[value]), Effect::None);
    }

    fn outw(&self, port: u16, value: u16) {
        assert_eq!(self.ports.write(port.into(), &value.to_le_bytes()), Effect::None);
    }

    fn input(&self, port: u16) -> u8 {
        let mut data = [0];
        self.ports.read(port.into(), &mut data);
        data[0]
    }

    /// Index and data in one access, as drivers do it.
    fn set(&self, port: u16, index: usize, value: u8) {
        self.outw(port, u16::from(value) << 8 | index as u16);
    }

    fn attribute(&self, index: u8, value: u8) {
        self.input(STATUS);
        self.out(ATTRIBUTE, index);
        self.out(ATTRIBUTE, value);
    }

    fn dispi(&self, index: usize, value: u16) {
        self.outw(DISPI_PORTS, index as u16);
        self.outw(DISPI_PORTS + 1, value);
    }

    fn poke(&self, address: u64, data: &[u8]) {
        assert_eq!(self.memory.write(address, data), Effect::None);
    }

    fn peek(&self, address: u64) -> u8 {
        let mut data = [0];
        self.memory.read(address, &mut data);
        data[0]
    }

    /// A palette of the first colours: 0 black, 1 blue, 2 green, 4 red … as CGA's low half.
    fn colours(&self) {
        self.out(DAC_WRITE_INDEX, 0);
        for index in 0..16u8 {
            for component in [4, 2, 1] {
                self.out(DAC_DATA, if index & component != 0 { 0x3f } else { 0 });
            }
            self.attribute(index, index);
        }
        self.attribute(ATTR_PLANES as u8, 0xf);
    }

    /// Switch the picture on.
    fn show(&mut self) -> &Surface {
        self.input(STATUS);
        self.out(ATTRIBUTE, ATTR_INDEX_DISPLAY);
        self.vga.draw(&mut self.surface, true);
        &self.surface
    }

    fn crtc(&self, values: &[(usize, u8)]) {
        self.out(MISC_WRITE, MISC_COLOUR);
        for (index, value) in values {
            self.set(CRTC_INDEX, *index, *value);
        }
    }

    /// 80 × 25 characters of 8 × 16 dots.
    fn text_mode(&self) {
        self.crtc(&[
            (CRTC_COLUMNS, 79),
            (CRTC_OVERFLOW, 0x1f),
            (CRTC_MAX_SCAN, 0x4f),
            (CRTC_CURSOR_START, CURSOR_OFF),
            (CRTC_DISPLAY_END, 0x8f),
            (CRTC_OFFSET, 40),
            (CRTC_MODE, 0xa3),
            (CRTC_LINE_COMPARE, 0xff),
        ]);
        self.set(SEQUENCER_INDEX, SEQ_CLOCKING, CLOCKING_8_DOTS);
        self.set(SEQUENCER_INDEX, SEQ_MAP_MASK, 0x4);
        self.set(SEQUENCER_INDEX, SEQ_MEMORY, 0x6);
        self.set(GRAPHICS_INDEX, GFX_MISC, 0x4);
        self.set(GRAPHICS_INDEX, GFX_BIT_MASK, 0xff);
        // A glyph for 'A': a full line, then its left half.
        let glyph = WINDOW + u64::from(b'A') * 32;
        self.poke(glyph, &[0xff, 0xf0]);
        self.set(SEQUENCER_INDEX, SEQ_MAP_MASK, 0x3);
        self.set(SEQUENCER_INDEX, SEQ_MEMORY, 0x2);
        self.set(GRAPHICS_INDEX, GFX_MODE, MODE_ODD_EVEN);
        self.set(GRAPHICS_INDEX, GFX_MISC, 0xe);
        self.colours();
    }

    fn mode_13h(&self) {
        self.crtc(&[
            (CRTC_COLUMNS, 79),
            (CRTC_OVERFLOW, 0x1f),
            (CRTC_MAX_SCAN, 0x41),
            (CRTC_DISPLAY_END, 0x8f),
            (CRTC_OFFSET, 40),
            (CRTC_MODE, 0xa3),
            (CRTC_LINE_COMPARE, 0xff),
        ]);
        self.set(SEQUENCER_INDEX, SEQ_MAP_MASK, 0xf);
        self.set(SEQUENCER_INDEX, SEQ_MEMORY, 0xe);
        self.set(GRAPHICS_INDEX, GFX_MODE, 0x40);
        self.set(GRAPHICS_INDEX, GFX_MISC, 0x5);
        self.colours();
    }

    /// 640 × 480 in 16 colours.
    fn mode_12h(&self) {
        self.crtc(&[
            (CRTC_COLUMNS, 79),
            (CRTC_OVERFLOW, 0x3e),
            (CRTC_MAX_SCAN, 0x40),
            (CRTC_DISPLAY_END, 0xdf),
            (CRTC_OFFSET, 40),
            (CRTC_MODE, 0xe3),
            (CRTC_LINE_COMPARE, 0xff),
        ]);
        self.set(SEQUENCER_INDEX, SEQ_MAP_MASK, 0xf);
        self.set(SEQUENCER_INDEX, SEQ_MEMORY, 0x6);
        self.set(GRAPHICS_INDEX, GFX_MODE, 0);
        self.set(GRAPHICS_INDEX, GFX_MISC, 0x5);
        self.set(GRAPHICS_INDEX, GFX_BIT_MASK, 0xff);
        self.colours();
    }
}

const RED: u32 = 0xff_0000;
const GREEN: u32 = 0x00_ff00;
const BLUE: u32 = 0x00_00ff;

fn size(surface: &Surface) -> (u32, u32) {
    (surface.width(), surface.height())
}

#[test]
fn a_card_that_nobody_set_up_shows_black() {
    let mut rig = rig(Model::Vga);
    rig.vga.draw(&mut rig.surface, true);
    assert_eq!(size(&rig.surface), (720, 400));
    assert!(rig.surface.row(0).iter().all(|pixel| *pixel == 0));
}

#[test]
fn text_shows_glyphs_in_the_colours_of_their_attributes() {
    let mut rig = rig(Model::Vga);
    rig.text_mode();
    // Second row, third column: red on blue.
    rig.poke(0xb_8000 + (80 + 2) * 2, &[b'A', 0x14]);
    assert_eq!(rig.peek(0xb_8000 + (80 + 2) * 2), b'A');
    let surface = rig.show();
    assert_eq!(size(surface), (640, 400));
    assert_eq!(surface.row(16)[16..24], [RED; 8]);
    assert_eq!(surface.row(17)[15..25], [&[0][..], &[RED; 4], &[BLUE; 4], &[0]].concat());
    assert_eq!(surface.row(18)[16..24], [BLUE; 8]);
}

#[test]
fn the_cursor_is_drawn_where_it_is_while_it_blinks_on() {
    let mut rig = rig(Model::Vga);
    rig.text_mode();
    rig.poke(0xb_8000, &[b' ', 0x02]);
    rig.crtc(&[(CRTC_CURSOR_START, 14), (CRTC_CURSOR_END, 15)]);
    let surface = rig.show();
    assert_eq!(surface.row(13)[..9], [0; 9]);
    assert_eq!(surface.row(14)[..9], [&[GREEN; 8][..], &[0]].concat());
    rig.vga.draw(&mut rig.surface, false);
    assert_eq!(rig.surface.row(14)[..8], [0; 8]);
}

#[test]
fn nine_dots_leave_a_gap_but_for_line_graphics() {
    let mut rig = rig(Model::Vga);
    rig.text_mode();
    rig.set(SEQUENCER_INDEX, SEQ_CLOCKING, 0);
    rig.poke(0xb_8000, &[b'A', 0x02]);
    let surface = rig.show();
    assert_eq!(size(surface), (720, 400));
    assert_eq!(surface.row(0)[..9], [&[GREEN; 8][..], &[0]].concat());
}

#[test]
fn mode_13h_is_a_byte_for_each_pixel() {
    let mut rig = rig(Model::Vga);
    rig.mode_13h();
    rig.poke(0xa_0000 + 320 * 3 + 5, &[1, 2, 4]);
    assert_eq!(rig.peek(0xa_0000 + 320 * 3 + 6), 2);
    let surface = rig.show();
    assert_eq!(size(surface), (320, 200));
    assert_eq!(surface.row(3)[4..9], [0, BLUE, GREEN, RED, 0]);
}

#[test]
fn planes_take_what_mask_rotation_and_set_reset_let_through() {
    let mut rig = rig(Model::Vga);
    rig.mode_12h();
    // Write mode 0: all planes of the map mask.
    rig.set(SEQUENCER_INDEX, SEQ_MAP_MASK, 0x4);
    rig.poke(0xa_0000, &[0x81]);
    rig.set(SEQUENCER_INDEX, SEQ_MAP_MASK, 0xf);
    // Write mode 2: a colour through the bit mask, on top of what the latches hold.
    rig.set(GRAPHICS_INDEX, GFX_MODE, 2);
    rig.set(GRAPHICS_INDEX, GFX_BIT_MASK, 0x40);
    rig.peek(0xa_0000);
    rig.poke(0xa_0000, &[0x2]);
    // Set/reset, for all planes.
    rig.set(GRAPHICS_INDEX, GFX_MODE, 0);
    rig.set(GRAPHICS_INDEX, GFX_BIT_MASK, 0x20);
    rig.set(GRAPHICS_INDEX, GFX_SET_RESET, 0x1);
    rig.set(GRAPHICS_INDEX, GFX_ENABLE_SET_RESET, 0xf);
    rig.peek(0xa_0000);
    rig.poke(0xa_0000, &[0]);
    // Read compare: where it is blue.
    rig.set(GRAPHICS_INDEX, GFX_MODE, 8);
    rig.set(GRAPHICS_INDEX, GFX_COMPARE, 1);
    rig.set(GRAPHICS_INDEX, GFX_DONT_CARE, 0xf);
    assert_eq!(rig.peek(0xa_0000), 0x20);
    // Write mode 1 copies the latches.
    rig.set(GRAPHICS_INDEX, GFX_MODE, 1);
    rig.poke(0xa_0000 + 80, &[0]);
    let surface = rig.show();
    assert_eq!(size(surface), (640, 480));
    for y in [0, 1] {
        assert_eq!(surface.row(y)[..8], [RED, GREEN, BLUE, 0, 0, 0, 0, RED]);
    }
}

#[test]
fn cga_graphics_keep_odd_lines_in_another_bank() {
    let mut rig = rig(Model::Vga);
    rig.mode_13h();
    rig.crtc(&[(CRTC_COLUMNS, 39), (CRTC_MAX_SCAN, 0xc1), (CRTC_OFFSET, 20), (CRTC_MODE, 0xa2)]);
    rig.set(SEQUENCER_INDEX, SEQ_MEMORY, 0x2);
    rig.set(GRAPHICS_INDEX, GFX_MODE, 0x30);
    rig.set(GRAPHICS_INDEX, GFX_MISC, 0xf);
    rig.poke(0xb_8000, &[0b01_10_00_00]);
    rig.poke(0xb_8000 + 0x2000, &[0b10_00_00_00]);
    let surface = rig.show();
    assert_eq!(size(surface), (320, 200));
    assert_eq!(surface.row(0)[..3], [BLUE, GREEN, 0]);
    assert_eq!(surface.row(1)[..3], [GREEN, 0, 0]);
}

#[test]
fn a_mode_of_the_display_interface_shows_linear_memory() {
    for model in [Model::Vga, Model::Bochs] {
        let mut rig = rig(model);
        let set = |index: usize, value: u16| {
            let offset = REGISTERS_DISPI + 2 * index as u64;
            assert_eq!(rig.vga.bar_write(2, offset, &value.to_le_bytes()), Effect::None);
        };
        for (index, value) in [(DISPI_XRES, 320), (DISPI_YRES, 200), (DISPI_BPP, 32)] {
            set(index, value);
        }
        let _ = rig.vga.bar_write(0, 0, &[0xff; 4]);
        set(DISPI_ENABLE, ENABLED);
        set(DISPI_VIRT_WIDTH, 400);
        set(DISPI_X_OFFSET, 2);
        set(DISPI_Y_OFFSET, 1);
        let _ = rig.vga.bar_write(0, (400 + 2) * 4, &[1, 2, 3, 0xff]);
        let unblank = rig.vga.bar_write(2, REGISTERS_PORTS, &[ATTR_INDEX_DISPLAY]);
        assert_eq!(unblank, Effect::None);
        rig.vga.draw(&mut rig.surface, true);
        assert_eq!(size(&rig.surface), (320, 200));
        assert_eq!(rig.surface.row(0)[..2], [0x03_0201, 0]);
        let mut rows = [0; 2];
        rig.vga.bar_read(2, REGISTERS_DISPI + 2 * DISPI_VIRT_HEIGHT as u64, &mut rows);
        assert_eq!(u16::from_le_bytes(rows), ((1 << 20) / 1600) as u16);
    }
}

#[test]
fn every_depth_is_drawn() {
    let mut rig = rig(Model::Vga);
    rig.colours();
    let pixels: [(u16, &[u8], u32); 6] = [
        (4, &[0, 0, 0x80, 0], RED),
        (8, &[4], RED),
        (15, &[0, 0x7c], RED),
        (16, &[0xe0, 0x07], GREEN),
        (24, &[0xff, 0, 0], BLUE),
        (32, &[0xff, 0, 0, 0], BLUE),
    ];
    for (bits, bytes, colour) in pixels {
        rig.dispi(DISPI_ENABLE, 0);
        rig.dispi(DISPI_XRES, 64);
        rig.dispi(DISPI_YRES, 8);
        rig.dispi(DISPI_BPP, bits);
        rig.dispi(DISPI_ENABLE, ENABLED);
        let _ = rig.vga.bar_write(0, 0, bytes);
        let surface = rig.show();
        assert_eq!((size(surface), surface.row(0)[0]), ((64, 8), colour), "{bits} bits");
    }
}

#[test]
fn banks_move_the_window_over_the_memory() {
    let rig = rig(Model::Vga);
    rig.dispi(DISPI_XRES, 640);
    rig.dispi(DISPI_YRES, 480);
    rig.dispi(DISPI_BPP, 8);
    rig.dispi(DISPI_ENABLE, ENABLED);
    rig.dispi(DISPI_BANK, 3);
    rig.poke(0xa_0010, &[7]);
    let mut byte = [0];
    rig.vga.bar_read(0, 0x3_0010, &mut byte);
    assert_eq!(byte, [7]);
    assert_eq!(rig.peek(0xb_8000), 0xff);
}

#[test]
fn modes_that_do_not_fit_are_black_where_there_is_no_memory() {
    let mut rig = rig(Model::Vga);
    for (width, height, bits, across, y) in [
        (u16::MAX, u16::MAX, 32, u16::MAX, u16::MAX),
        (4096, 2048, 32, 4096, 0),
        (0, 0, 8, 0, 0),
        (640, 480, 7, 640, 0),
        (8, 1, 4, 0, u16::MAX),
        (1024, 768, 24, u16::MAX, 3),
    ] {
        rig.dispi(DISPI_ENABLE, 0);
        rig.dispi(DISPI_XRES, width);
        rig.dispi(DISPI_YRES, height);
        rig.dispi(DISPI_BPP, bits);
        rig.dispi(DISPI_ENABLE, ENABLED);
        rig.dispi(DISPI_VIRT_WIDTH, across);
        rig.dispi(DISPI_X_OFFSET, width);
        rig.dispi(DISPI_Y_OFFSET, y);
        rig.show();
        rig.dispi(DISPI_ENABLE, ENABLED | ENABLE_GET_CAPS);
    }
}

#[test]
fn a_storm_on_all_registers_and_the_window_leaves_a_working_card() {
    let mut rig = rig(Model::Vga);
    let mut random = 1u32;
    for round in 0..40_000u32 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let value = (random >> 16) as u8;
        match round % 5 {
            0 => rig.out(PORTS + (random >> 24) as u16 % 0x20, value),
            1 => rig.set(
                [SEQUENCER_INDEX, GRAPHICS_INDEX, CRTC_INDEX][value as usize % 3],
                usize::from(random as u8 & 31),
                value,
            ),
            2 => rig.dispi(random as usize & 15, (random >> 8) as u16 & 0x3ff),
            3 => rig.poke(WINDOW + u64::from(random >> 15), &[value; 8][..1 + value as usize % 8]),
            _ => {
                rig.peek(WINDOW + u64::from(random >> 15));
            }
        }
        if round % 400 == 0 {
            rig.vga.draw(&mut rig.surface, round % 800 == 0);
        }
    }
    Component::reset(&*rig.vga);
    rig.mode_13h();
    rig.poke(0xa_0000, &[1]);
    assert_eq!(rig.show().row(0)[..2], [BLUE, 0]);
}

#[test]
fn accesses_of_any_width_to_the_registers_are_taken_or_ignored() {
    let rig = rig(Model::Vga);
    for offset in 0..REGISTERS_LEN {
        for len in 1..=8 {
            let mut data = vec![0; len];
            rig.vga.bar_read(2, offset, &mut data);
            let _ = rig.vga.bar_write(2, offset, &data);
        }
    }
    let mut header = [0; 8];
    rig.vga.bar_read(2, 0, &mut header);
    assert_eq!(header, [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
}

#[test]
fn locked_registers_keep_their_values() {
    let rig = rig(Model::Vga);
    rig.crtc(&[(CRTC_RETRACE_END, CRTC_PROTECT), (CRTC_COLUMNS, 5), (CRTC_OVERFLOW, 0xff)]);
    rig.out(CRTC_INDEX, CRTC_COLUMNS as u8);
    assert_eq!(rig.input(CRTC_DATA), 0);
    rig.out(CRTC_INDEX, CRTC_OVERFLOW as u8);
    assert_eq!(rig.input(CRTC_DATA), OVERFLOW_LINE_COMPARE);
    // On a monochrome display the same registers are elsewhere.
    rig.out(MISC_WRITE, 0);
    assert_eq!(rig.input(CRTC_DATA), 0xff);
    assert_eq!(rig.input(MONO_CRTC + 1), OVERFLOW_LINE_COMPARE);
}

#[test]
fn the_memory_follows_its_bar_and_the_rom_its_enable_bit() {
    let rig = rig(Model::Vga);
    rig.vga.bar_moved(0, Some(0xc000_0000));
    assert_eq!(rig.mapper.places(), [Some(0xc000_0000), None]);
    let config = rig.vga.config();
    let rom = *config.bars().last().unwrap();
    config.assign_bar(&rom, 0xc100_0000);
    config.write(0x04, &[2, 0]);
    assert_eq!(config.bar_address(&rom), None);
    config.write(0x30, &[1]);
    assert_eq!(config.bar_address(&rom), Some(0xc100_0000));
    let mut image = [0; 4];
    rig.vga.bar_read(rom.index, 0, &mut image);
    assert_eq!(image, [0x55, 0xaa, 1, 0]);
    rig.vga.bar_moved(0, None);
    assert_eq!(rig.mapper.places(), [None, None]);
}

#[test]
fn a_saved_card_shows_the_same_picture() {
    let mut saved = rig(Model::Vga);
    saved.text_mode();
    saved.poke(0xb_8000, &[b'A', 0x12]);
    let picture = saved.show().row(1).to_vec();
    let state = saved.vga.save().unwrap();
    let mut restored = rig(Model::Vga);
    restored.vga.restore(&state).unwrap();
    restored.vga.draw(&mut restored.surface, true);
    assert_eq!(restored.surface.row(1), picture);
    assert_eq!(restored.vga.save().unwrap(), state);
    let mut cut = state;
    cut.data.truncate(cut.data.len() - 1);
    assert!(rig(Model::Vga).vga.restore(&cut).is_err());
}

#[test]
fn a_reset_card_is_as_new() {
    let mut rig = rig(Model::Vga);
    let new = rig.vga.save().unwrap();
    rig.text_mode();
    rig.show();
    Component::reset(&*rig.vga);
    assert_eq!(rig.vga.save().unwrap(), new);
}

#[test]
fn memory_that_no_card_has_is_refused() {
    for memory in [0, 1 << 19, 3 << 20, 64 << 20, u64::MAX] {
        let mapper = FakeMapper::default();
        let vga = Vga::new(VgaParts {
            id: "video0",
            model: Model::Vga,
            memory,
            resolution: (640, 480),
            rom: None,
            express: None,
            mapper: &mapper,
        });
        assert!(matches!(vga, Err(VgaError::MemorySize(_))));
    }
}
