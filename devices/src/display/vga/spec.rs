//! Ports and register bits of a VGA (IBM VGA/XGA Technical Reference, 1992) and of the Bochs
//! display interface, by which larger modes are set.

// Ports.
/// Where both CRTC ranges and all in between begin; 0x3b4 to 0x3df with a gap.
pub(super) const MONO_CRTC: u16 = 0x3b4;
pub(super) const MONO_CRTC_LEN: u64 = 2;
pub(super) const MONO_STATUS: u16 = 0x3ba;
pub(super) const PORTS: u16 = 0x3c0;
pub(super) const PORTS_LEN: u64 = 0x20;

pub(super) const ATTRIBUTE: u16 = 0x3c0;
pub(super) const ATTRIBUTE_READ: u16 = 0x3c1;
/// Reads as input status 0, writes miscellaneous output.
pub(super) const MISC_WRITE: u16 = 0x3c2;
pub(super) const SEQUENCER_INDEX: u16 = 0x3c4;
pub(super) const SEQUENCER_DATA: u16 = 0x3c5;
pub(super) const DAC_MASK: u16 = 0x3c6;
/// Reads as the DAC's state, writes the index to read from.
pub(super) const DAC_READ_INDEX: u16 = 0x3c7;
pub(super) const DAC_WRITE_INDEX: u16 = 0x3c8;
pub(super) const DAC_DATA: u16 = 0x3c9;
pub(super) const FEATURE_READ: u16 = 0x3ca;
pub(super) const MISC_READ: u16 = 0x3cc;
pub(super) const GRAPHICS_INDEX: u16 = 0x3ce;
pub(super) const GRAPHICS_DATA: u16 = 0x3cf;
pub(super) const CRTC_INDEX: u16 = 0x3d4;
pub(super) const CRTC_DATA: u16 = 0x3d5;
/// Reads as input status 1, writes feature control.
pub(super) const STATUS: u16 = 0x3da;

/// Miscellaneous output: CRTC and status at 0x3dx instead of 0x3bx.
pub(super) const MISC_COLOUR: u8 = 1 << 0;
/// Input status 1: not displaying, and in vertical retrace.
pub(super) const STATUS_BLANKING: u8 = 1 << 0;
pub(super) const STATUS_RETRACE: u8 = 1 << 3;

// Sequencer.
pub(super) const SEQ_CLOCKING: usize = 1;
pub(super) const SEQ_MAP_MASK: usize = 2;
pub(super) const SEQ_FONTS: usize = 3;
pub(super) const SEQ_MEMORY: usize = 4;
pub(super) const CLOCKING_8_DOTS: u8 = 1 << 0;
pub(super) const CLOCKING_SCREEN_OFF: u8 = 1 << 5;
pub(super) const MEMORY_CHAIN_4: u8 = 1 << 3;

// Graphics controller.
pub(super) const GFX_SET_RESET: usize = 0;
pub(super) const GFX_ENABLE_SET_RESET: usize = 1;
pub(super) const GFX_COMPARE: usize = 2;
pub(super) const GFX_ROTATE: usize = 3;
pub(super) const GFX_READ_MAP: usize = 4;
pub(super) const GFX_MODE: usize = 5;
pub(super) const GFX_MISC: usize = 6;
pub(super) const GFX_DONT_CARE: usize = 7;
pub(super) const GFX_BIT_MASK: usize = 8;
pub(super) const MODE_READ_COMPARE: u8 = 1 << 3;
pub(super) const MODE_ODD_EVEN: u8 = 1 << 4;
pub(super) const MISC_GRAPHICS: u8 = 1 << 0;

// Attribute controller.
pub(super) const ATTR_MODE: usize = 0x10;
pub(super) const ATTR_OVERSCAN: usize = 0x11;
pub(super) const ATTR_PLANES: usize = 0x12;
pub(super) const ATTR_COLOUR_SELECT: usize = 0x14;
pub(super) const ATTR_MODE_LINE_GRAPHICS: u8 = 1 << 2;
pub(super) const ATTR_MODE_BLINK: u8 = 1 << 3;
pub(super) const ATTR_MODE_P54S: u8 = 1 << 7;
/// Of the index: the palette is in use, so there is a picture.
pub(super) const ATTR_INDEX_DISPLAY: u8 = 1 << 5;

// CRT controller.
pub(super) const CRTC_COLUMNS: usize = 0x01;
pub(super) const CRTC_OVERFLOW: usize = 0x07;
pub(super) const CRTC_MAX_SCAN: usize = 0x09;
pub(super) const CRTC_CURSOR_START: usize = 0x0a;
pub(super) const CRTC_CURSOR_END: usize = 0x0b;
pub(super) const CRTC_START_HIGH: usize = 0x0c;
pub(super) const CRTC_CURSOR_HIGH: usize = 0x0e;
pub(super) const CRTC_RETRACE_END: usize = 0x11;
pub(super) const CRTC_DISPLAY_END: usize = 0x12;
pub(super) const CRTC_OFFSET: usize = 0x13;
pub(super) const CRTC_MODE: usize = 0x17;
pub(super) const CRTC_LINE_COMPARE: usize = 0x18;
/// Of the retrace end register: registers 0 to 7 keep their values.
pub(super) const CRTC_PROTECT: u8 = 1 << 7;
/// Of the overflow register: the one bit that is never protected.
pub(super) const OVERFLOW_LINE_COMPARE: u8 = 1 << 4;
pub(super) const CURSOR_OFF: u8 = 1 << 5;

// The window that CPUs see of video memory.
pub(super) const WINDOW: u64 = 0xa_0000;
pub(super) const WINDOW_LEN: u64 = 0x2_0000;
pub(super) const BANK: u64 = 0x1_0000;

// Bochs display interface.
pub(super) const DISPI_PORTS: u16 = 0x1ce;
/// Index at 0x1ce; data at 0x1cf, and at 0x1d0 for those who want it aligned.
pub(super) const DISPI_PORTS_LEN: u64 = 4;
pub(super) const DISPI_ID: usize = 0;
pub(super) const DISPI_XRES: usize = 1;
pub(super) const DISPI_YRES: usize = 2;
pub(super) const DISPI_BPP: usize = 3;
pub(super) const DISPI_ENABLE: usize = 4;
pub(super) const DISPI_BANK: usize = 5;
pub(super) const DISPI_VIRT_WIDTH: usize = 6;
pub(super) const DISPI_VIRT_HEIGHT: usize = 7;
pub(super) const DISPI_X_OFFSET: usize = 8;
pub(super) const DISPI_Y_OFFSET: usize = 9;
pub(super) const DISPI_MEMORY: usize = 10;
pub(super) const DISPI_REGISTERS: usize = 11;
/// Versions of the interface that a guest may ask for; the last is what it finds.
pub(super) const DISPI_IDS: std::ops::RangeInclusive<u16> = 0xb0c0..=0xb0c5;
pub(super) const ENABLED: u16 = 1 << 0;
/// Reads of the resolution say what is the most.
pub(super) const ENABLE_GET_CAPS: u16 = 1 << 1;
pub(super) const ENABLE_8BIT_DAC: u16 = 1 << 5;
pub(super) const ENABLE_KEEP_MEMORY: u16 = 1 << 7;
pub(super) const MOST_BPP: u16 = 32;

// The register BAR (QEMU docs/specs/standard-vga): EDID, VGA ports from 0x3c0, DISPI registers,
// byte order.
pub(super) const REGISTERS_LEN: u64 = 4096;
pub(super) const REGISTERS_PORTS: u64 = 0x400;
pub(super) const REGISTERS_DISPI: u64 = 0x500;
pub(super) const REGISTERS_EXTENDED: u64 = 0x600;
pub(super) const EXTENDED_LEN: u32 = 8;
pub(super) const LITTLE_ENDIAN: u32 = 0x1e1e_1e1e;
