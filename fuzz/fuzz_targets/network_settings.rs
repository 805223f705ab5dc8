//! Settings of a network: refused, or served in messages that can be read.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| network::torture::settings_of(data));
