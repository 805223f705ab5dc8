//! A client of the API that says anything.
#![no_main]

use std::sync::OnceLock;

use api::torture::Service;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE.get_or_init(|| Service::new(&manor_fuzz::directory())).http(data);
});
