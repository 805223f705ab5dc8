//! Documents of pools, volumes and secrets.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| xml::torture::storage(data));
