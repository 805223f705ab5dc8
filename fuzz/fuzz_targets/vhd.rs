//! An image from a stranger: whatever is in it, only errors come of it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| image::torture::any(image::Format::Vpc, data.to_vec()));
