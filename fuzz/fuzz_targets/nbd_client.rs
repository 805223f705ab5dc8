//! A client of a backup that says anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| devices::torture::nbd_client(data));
