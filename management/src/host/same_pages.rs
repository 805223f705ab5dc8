//! Pages of guests that are the same and that the kernel keeps once (KSM), in libvirt's words
//! (virNodeGetMemoryParameters).

use std::path::Path;

use super::read;

/// What the kernel tells of it; nothing, where it has no KSM.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedMemory {
    pub pages_to_scan: Option<u32>,
    pub sleep_millisecs: Option<u32>,
    pub pages_shared: Option<u64>,
    pub pages_sharing: Option<u64>,
    pub pages_unshared: Option<u64>,
    pub pages_volatile: Option<u64>,
    pub full_scans: Option<u64>,
    pub merge_across_nodes: Option<u32>,
}

pub(crate) fn shared_memory(sys: &Path) -> SharedMemory {
    let number = |name: &str| read(sys.join("kernel/mm/ksm").join(name)).trim().parse().ok();
    let small = |name: &str| number(name).and_then(|number: u64| u32::try_from(number).ok());
    SharedMemory {
        pages_to_scan: small("pages_to_scan"),
        sleep_millisecs: small("sleep_millisecs"),
        pages_shared: number("pages_shared"),
        pages_sharing: number("pages_sharing"),
        pages_unshared: number("pages_unshared"),
        pages_volatile: number("pages_volatile"),
        full_scans: number("full_scans"),
        merge_across_nodes: small("merge_across_nodes"),
    }
}
