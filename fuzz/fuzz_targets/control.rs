//! What comes over a VMM's control socket, from either side.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| vmm_protocol::torture::control(data));
