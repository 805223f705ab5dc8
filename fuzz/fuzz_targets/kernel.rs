//! A file that is given for a kernel.
#![no_main]

use std::sync::OnceLock;

use boot::torture::Machine;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(Machine::new).boot(manor_fuzz::file(data));
});
