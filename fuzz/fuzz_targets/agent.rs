//! A guest agent that says anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| management::torture::agent(data));
