//! A firmware image of 64 KiB: from the reset vector straight to 32-bit code of the test's.
//!
//! The code runs in the ROM, in flat protected mode, and has its stack in low RAM.

use crate::{Asm, assemble};

const SIZE: usize = 64 << 10;
/// Of the 16-bit code, in the image; the reset vector jumps to it.
const ENTRY: u16 = 0xff00;
const GDT: u16 = 0xffc0;
const RESET_VECTOR: usize = 0xfff0;
const CODE: u8 = 0x08;
const DATA: u8 = 0x10;
const STACK_TOP: u32 = 0x8000;

/// An image that executes what `write` says.
pub fn firmware(write: impl FnOnce(&mut Asm)) -> Vec<u8> {
    let start = 0u32.wrapping_sub(SIZE as u32);
    let mut image = assemble(|asm| {
        asm.raw(&[0x66, 0xb8, DATA, 0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0]); // ds, es, ss
        asm.raw(&[0xbc]).raw(&STACK_TOP.to_le_bytes());
        write(asm);
    });
    assert!(image.len() <= usize::from(ENTRY), "the code fits the image");
    image.resize(SIZE, 0);
    let mut put = |at: u16, bytes: &[u8]| {
        let at = usize::from(at);
        image[at..at + bytes.len()].copy_from_slice(bytes);
    };
    // Null, code, data: flat, and marked as accessed, which cannot be written here.
    let flat = |kind: u8| [0xff, 0xff, 0, 0, 0, kind, 0xcf, 0];
    let table = [[0; 8], flat(0x9b), flat(0x93)].concat();
    put(GDT, &table);
    let mut pointer = (table.len() as u16 - 1).to_le_bytes().to_vec();
    pointer.extend((start + u32::from(GDT)).to_le_bytes());
    put(GDT + 0x18, &pointer);

    let mut entry = vec![0xfa, 0x66, 0x2e, 0x0f, 0x01, 0x16]; // cli; lgdt cs:[pointer]
    entry.extend((GDT + 0x18).to_le_bytes());
    entry.extend([0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0]); // cr0 |= PE
    entry.extend([0x66, 0xea]); // into 32-bit code
    entry.extend(start.to_le_bytes());
    entry.extend([CODE, 0]);
    put(ENTRY, &entry);
    let back = i32::from(ENTRY) - (RESET_VECTOR as i32 + 3);
    let [low, high, ..] = back.to_le_bytes();
    put(RESET_VECTOR as u16, &[0xe9, low, high]);
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reset_vector_is_at_the_end() {
        let image = firmware(|asm| {
            asm.print("x");
        });
        assert_eq!(image.len(), SIZE);
        assert_eq!(image[RESET_VECTOR], 0xe9);
        assert_eq!(image[usize::from(ENTRY)], 0xfa);
    }
}
