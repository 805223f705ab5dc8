//! A driver of the balloon, of an input device or of the source of random numbers that does anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| devices::torture::virtio_small(data));
