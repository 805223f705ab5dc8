//! A driver that fills its rings with the input: whatever chain comes out lies in RAM, and the
//! queue never hangs or loses count.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| devices::torture::virtqueue(data));
