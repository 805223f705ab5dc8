//! XML of backups and checkpoints, as clients send it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| xml::torture::backup(data));
