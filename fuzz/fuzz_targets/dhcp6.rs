//! Messages of DHCPv6 clients: a network gives out what is its own, and each lease to one of them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| network::torture::dhcp6(data));
