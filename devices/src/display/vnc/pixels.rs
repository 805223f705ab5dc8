//! [`Format`]: how a viewer wants its pixels.

/// A true-colour format, checked, with a table for each channel.
pub(super) struct Format {
    /// Of a pixel: 1, 2 or 4.
    pub(super) bytes: usize,
    big_endian: bool,
    /// Where the bytes of a ZRLE pixel lie in one of four bytes; none: all of them.
    compact: Option<std::ops::Range<usize>>,
    /// Tight sends red, green and blue as they are.
    plain: bool,
    red: Box<[u32; 256]>,
    green: Box<[u32; 256]>,
    blue: Box<[u32; 256]>,
}

/// As on the wire, padding included.
pub(super) const LEN: usize = 16;

/// What is told to viewers, and what they get if they don't ask for another: `0x00RRGGBB`, the least
/// byte first.
pub(super) const NATIVE: [u8; LEN] = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];

impl Format {
    /// None for what makes no sense, and for palettes, which no viewer of this century asks for.
    pub(super) fn parse(wire: &[u8; LEN]) -> Option<Self> {
        let [bits, depth, big_endian, true_colour, rest @ ..] = *wire;
        if !matches!(bits, 8 | 16 | 32) || true_colour == 0 {
            return None;
        }
        let [r1, r0, g1, g0, b1, b0, shifts @ ..] = rest;
        let most = [[r1, r0], [g1, g0], [b1, b0]].map(u16::from_be_bytes);
        let mut used = 0u32;
        for (most, shift) in most.into_iter().zip(shifts) {
            let width = 32 - u32::from(most).leading_zeros();
            if most == 0 || u32::from(shift) + width > u32::from(bits) {
                return None;
            }
            used |= u32::from(most) << shift;
        }
        let table = |channel: usize| {
            let (most, shift) = (u32::from(most[channel]), shifts[channel]);
            Box::new(std::array::from_fn(|value| ((value as u32 * most + 127) / 255) << shift))
        };
        let big_endian = big_endian != 0;
        let low = used >> 24 == 0;
        let compact = match (low, used & 0xff == 0) {
            _ if bits != 32 || depth > 24 => None,
            // In memory the low bytes are first or last.
            (true, _) => Some(if big_endian { 1..4 } else { 0..3 }),
            (_, true) => Some(if big_endian { 0..3 } else { 1..4 }),
            _ => None,
        };
        Some(Self {
            bytes: usize::from(bits / 8),
            big_endian,
            compact,
            plain: bits == 32 && depth == 24 && most == [255; 3],
            red: table(0),
            green: table(1),
            blue: table(2),
        })
    }

    fn pixel(&self, colour: u32) -> [u8; 4] {
        let [blue, green, red, _] = colour.to_le_bytes().map(usize::from);
        let value = self.red[red] | self.green[green] | self.blue[blue];
        match (self.bytes, self.big_endian) {
            (_, false) => value.to_le_bytes(),
            (1, true) => value.to_le_bytes(),
            (2, true) => {
                let [high, low] = (value as u16).to_be_bytes();
                [high, low, 0, 0]
            }
            (_, true) => value.to_be_bytes(),
        }
    }

    /// A pixel as raw rectangles have it.
    pub(super) fn put(&self, colour: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.pixel(colour)[..self.bytes]);
    }

    /// A pixel as ZRLE has it (CPIXEL).
    pub(super) fn put_compact(&self, colour: u32, out: &mut Vec<u8>) {
        let range = self.compact.clone().unwrap_or(0..self.bytes);
        out.extend_from_slice(&self.pixel(colour)[range]);
    }

    /// A pixel as tight has it (TPIXEL).
    pub(super) fn put_tight(&self, colour: u32, out: &mut Vec<u8>) {
        if self.plain {
            let [_, red, green, blue] = colour.to_be_bytes();
            out.extend_from_slice(&[red, green, blue]);
        } else {
            self.put(colour, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(bits: u8, depth: u8, big: u8, most: [u16; 3], shifts: [u8; 3]) -> Option<Format> {
        let mut wire = [0; LEN];
        wire[..4].copy_from_slice(&[bits, depth, big, 1]);
        for (at, most) in most.into_iter().enumerate() {
            wire[4 + 2 * at..6 + 2 * at].copy_from_slice(&most.to_be_bytes());
        }
        wire[10..13].copy_from_slice(&shifts);
        Format::parse(&wire)
    }

    fn put(format: &Format, colour: u32) -> Vec<u8> {
        let mut out = Vec::new();
        format.put(colour, &mut out);
        out
    }

    #[test]
    fn colours_are_scaled_shifted_and_ordered() {
        let native = Format::parse(&NATIVE).unwrap();
        assert_eq!(put(&native, 0x11_2233), [0x33, 0x22, 0x11, 0]);
        let big = format(32, 24, 1, [255; 3], [16, 8, 0]).unwrap();
        assert_eq!(put(&big, 0x11_2233), [0, 0x11, 0x22, 0x33]);
        let high = format(16, 16, 1, [31, 63, 31], [11, 5, 0]).unwrap();
        assert_eq!(put(&high, 0xff_00ff), [0xf8, 0x1f]);
        let tiny = format(8, 8, 0, [7, 7, 3], [0, 3, 6]).unwrap();
        assert_eq!(put(&tiny, 0xff_ffff), [0xff]);
    }

    #[test]
    fn compact_pixels_leave_the_empty_byte_out() {
        let cases =
            [(0, [16, 8, 0], [3, 2, 1]), (1, [16, 8, 0], [1, 2, 3]), (0, [24, 16, 8], [3, 2, 1])];
        for (big, shifts, expected) in cases {
            let format = format(32, 24, big, [255; 3], shifts).unwrap();
            let mut out = Vec::new();
            format.put_compact(0x01_0203, &mut out);
            assert_eq!(out, expected);
            out.clear();
            format.put_tight(0x01_0203, &mut out);
            assert_eq!(out, [1, 2, 3]);
        }
    }

    #[test]
    fn formats_that_make_no_sense_are_refused() {
        for (bits, most, shifts) in [
            (0, [255; 3], [16, 8, 0]),
            (24, [255; 3], [16, 8, 0]),
            (32, [0, 255, 255], [16, 8, 0]),
            (32, [255; 3], [255, 8, 0]),
            (32, [255; 3], [25, 8, 0]),
            (8, [255, 7, 3], [1, 0, 6]),
            (255, [u16::MAX; 3], [255; 3]),
        ] {
            assert!(format(bits, 24, 0, most, shifts).is_none(), "{bits} {most:?} {shifts:?}");
        }
        let mut palette = NATIVE;
        palette[3] = 0;
        assert!(Format::parse(&palette).is_none());
        // What is allowed at the edge is computed without overflow.
        let wide = format(32, 32, 0, [u16::MAX, 1, 1], [16, 0, 1]).unwrap();
        assert_eq!(put(&wide, 0xff_0000), [0, 0, 0xff, 0xff]);
    }
}
