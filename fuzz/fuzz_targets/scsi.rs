//! Commands for a SCSI disk or CD-ROM drive.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| devices::torture::scsi(data));
