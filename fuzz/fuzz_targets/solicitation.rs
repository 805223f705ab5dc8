//! A message to the router of a network.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| network::torture::solicitation(data));
