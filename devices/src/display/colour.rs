//! Colours of 15 and 16 bits, as frame buffers hold them.

/// 5:6:5 bits, red in the upper ones.
pub(super) fn from_565(value: u16) -> u32 {
    let value = u32::from(value);
    five(value >> 11) << 16 | six(value >> 5 & 0x3f) << 8 | five(value & 0x1f)
}

/// 5:5:5 bits; the topmost means nothing.
pub(super) fn from_555(value: u16) -> u32 {
    let value = u32::from(value);
    five(value >> 10 & 0x1f) << 16 | five(value >> 5 & 0x1f) << 8 | five(value & 0x1f)
}

/// All bits set are full brightness.
fn five(value: u32) -> u32 {
    value << 3 | value >> 2
}

fn six(value: u32) -> u32 {
    value << 2 | value >> 4
}
