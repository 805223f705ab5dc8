//! The file of a saved guest, by somebody who knows how to make one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| vmm_protocol::torture::saved_state(manor_fuzz::empty_file(), data));
