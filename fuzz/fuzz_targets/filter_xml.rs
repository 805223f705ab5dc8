//! A filter from a client: read or refused, and what was read is written so that it reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| xml::torture::filter(data));
