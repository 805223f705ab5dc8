//! Firmware that asks fw_cfg for anything, by ports and by DMA.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| devices::torture::fw_cfg(data));
