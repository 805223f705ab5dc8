//! A firmware descriptor of any package.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| management::torture::descriptor(data));
