//! A driver of vsock that does anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| devices::torture::virtio_vsock(data));
