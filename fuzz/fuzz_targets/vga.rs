//! A driver that sets any mode of the graphics card.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| devices::torture::vga(data));
