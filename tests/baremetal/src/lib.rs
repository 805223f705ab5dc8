//! Bare-metal guests: kernel images of a few hundred bytes, written by tests.
//!
//! ```
//! let kernel = baremetal::pvh(|asm| {
//!     asm.print("hello\n");
//!     asm.power_off();
//! });
//! assert!(kernel.starts_with(b"\x7fELF"));
//! ```
//!
//! A guest reports through COM1 and ends by ACPI power-off, so it needs nothing of a machine that
//! an ordinary guest would not. It polls and halts, and takes no interrupts: such a guest runs on
//! any `/dev/kvm`, also where an emulating one cannot do `iret`.

mod asm;
mod firmware;
pub mod image;
pub mod sector;

pub use asm::{Asm, Label, TRAMPOLINE_VECTOR, Width};
pub use firmware::firmware;

/// Where the code lies: the first free MiB.
pub const BASE: u64 = 0x10_0000;
/// Scratch memory that no boot structure uses.
pub const SCRATCH: u32 = 0x20_0000;

/// A kernel that is entered by PVH: 32-bit protected mode, EBX = start info.
pub fn pvh(write: impl FnOnce(&mut Asm)) -> Vec<u8> {
    let code = assemble(write);
    let note = image::pvh_note(&BASE.to_le_bytes());
    image::elf(BASE, &[image::load(BASE, &code), image::note(&note)])
}

/// A kernel that is entered in long mode: RSI = boot parameters.
pub fn long_mode(write: impl FnOnce(&mut Asm)) -> Vec<u8> {
    image::elf(BASE, &[image::load(BASE, &assemble(write))])
}

/// A bzImage that is entered in long mode, 0x200 behind its load address.
pub fn bzimage(write: impl FnOnce(&mut Asm)) -> Vec<u8> {
    let mut payload = vec![0xf4; 0x200];
    payload.extend(assemble(write));
    image::bzimage(&payload)
}

fn assemble(write: impl FnOnce(&mut Asm)) -> Vec<u8> {
    let mut asm = Asm::new();
    write(&mut asm);
    asm.finish()
}
