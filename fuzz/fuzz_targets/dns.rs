//! A question of a guest, and what an upstream answers: replies go back by the number that came.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| network::torture::dns(data));
