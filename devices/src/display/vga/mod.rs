//! The card that firmware, boot loaders and installers know: a VGA with the Bochs display interface
//! (`1234:1111`), and the same without the VGA (`bochs-display`).
//!
//! ```text
//! ports 0x3b4–0x3df ─┐                        ┌─ window 0xa0000 (planes, banks)
//! ports 0x1ce–0x1d1 ─┼─▶ State (registers) ◀──┤
//! BAR 2 (registers) ─┘        │               └─ BAR 0: the memory itself, mapped like RAM
//!                             ▼ copied
//!                   draw ──▶ Surface
//! ```
//! Drawing copies the registers and reads the memory while the guest goes on writing it, as a
//! monitor does; no vCPU ever waits for a picture.

mod device;
mod dispi;
mod draw;
mod edid;
mod legacy;
mod registers;
mod spec;
#[cfg(test)]
mod tests;
mod window;

pub use device::{Model, Vga, VgaError, VgaParts};
