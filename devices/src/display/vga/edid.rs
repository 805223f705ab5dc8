//! The EDID of the monitor (VESA E-EDID 1.4): by it a guest's driver finds the size to start with.

/// 128 bytes that describe a monitor which likes `width` × `height` best.
pub(super) fn edid(width: u16, height: u16) -> [u8; 128] {
    let mut edid = [0; 128];
    edid[..8].copy_from_slice(&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    // Manufacturer "MNR": three letters of five bits.
    let letters = b"MNR".iter().fold(0u16, |word, letter| word << 5 | u16::from(letter - b'@'));
    edid[8..10].copy_from_slice(&letters.to_be_bytes());
    edid[10] = 1;
    // Week and year of manufacture, from 1990; version 1.4.
    edid[16..20].copy_from_slice(&[1, 36, 1, 4]);
    // Digital, eight bits per colour; 100 dpi, in centimetres; gamma 2.2; sRGB, preferred timing first.
    edid[20] = 0xa5;
    edid[21] = centimetres(width);
    edid[22] = centimetres(height);
    edid[23] = 120;
    edid[24] = 0b0000_0110;
    edid[25..35].copy_from_slice(&[0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54]);
    // 640 × 480, 800 × 600 and 1024 × 768 at 60 Hz.
    edid[35..38].copy_from_slice(&[0x21, 0x08, 0x00]);
    edid[38..54].fill(0x01);
    detailed_timing(&mut edid[54..72], width, height);
    descriptor(&mut edid[72..90], 0xfc, b"Manor\n");
    // Range limits: 50 to 125 Hz, 30 to 160 kHz, 1200 MHz; no secondary timing.
    descriptor(&mut edid[90..108], 0xfd, &[50, 125, 30, 160, 120, 0, b'\n']);
    descriptor(&mut edid[108..126], 0x10, &[]);
    let sum = edid.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    edid[127] = sum.wrapping_neg();
    edid
}

fn centimetres(pixels: u16) -> u8 {
    u8::try_from(u32::from(pixels) * 254 / 10_000).unwrap_or(u8::MAX)
}

/// 60 Hz, with a quarter of the width and a thirtieth of the height as blanking.
fn detailed_timing(out: &mut [u8], width: u16, height: u16) {
    let (width, height) = (width.min(0xfff), height.min(0xfff));
    let (h_blank, v_blank) = ((width / 4).max(64), (height / 30).max(8));
    let clock = u32::from(width + h_blank) * u32::from(height + v_blank) * 60 / 10_000;
    let clock = u16::try_from(clock).unwrap_or(u16::MAX);
    out[..2].copy_from_slice(&clock.to_le_bytes());
    for (at, (active, blank)) in [(2, (width, h_blank)), (5, (height, v_blank))] {
        out[at] = active as u8;
        out[at + 1] = blank as u8;
        out[at + 2] = ((active >> 8) << 4 | blank >> 8) as u8;
    }
    // Front porch and width of the sync pulses.
    let (h_front, h_sync, v_front, v_sync) = (h_blank / 8, h_blank / 4, 3, 4);
    out[8] = h_front as u8;
    out[9] = h_sync as u8;
    out[10] = v_front << 4 | v_sync;
    out[11] = ((h_front >> 8) << 6 | (h_sync >> 8) << 4) as u8;
    let millimetres = |pixels: u16| u32::from(pixels) * 254 / 1000;
    let (across, down) = (millimetres(width), millimetres(height));
    out[12] = across as u8;
    out[13] = down as u8;
    out[14] = ((across >> 8) << 4 | down >> 8) as u8;
    out[17] = 0x18; // separate digital sync
}

fn descriptor(out: &mut [u8], kind: u8, text: &[u8]) {
    out.fill(if kind == 0x10 { 0 } else { b' ' });
    out[..5].copy_from_slice(&[0, 0, 0, kind, 0]);
    out[5..5 + text.len()].copy_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_right_and_the_preferred_size_is_the_first_timing() {
        for (width, height) in [(640, 480), (1280, 800), (3840, 2160), (u16::MAX, u16::MAX), (1, 1)]
        {
            let edid = edid(width, height);
            assert_eq!(edid.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
            let active = |at: usize| u16::from(edid[54 + at]) | u16::from(edid[56 + at] >> 4) << 8;
            assert_eq!((active(2), active(5)), (width.min(0xfff), height.min(0xfff)));
        }
    }
}
