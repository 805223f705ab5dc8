//! A kernel that tells the board's registers anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| devices::torture::chipset(data));
