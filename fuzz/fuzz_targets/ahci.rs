//! A driver of the AHCI adapter that does anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| devices::torture::ahci(data));
