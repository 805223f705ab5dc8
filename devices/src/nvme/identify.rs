//! What the controller and its namespaces are (NVMe 1.4 §5.15), and the log pages (§5.14).

use std::sync::atomic::Ordering;

use super::device::{Namespace, NvmeIdentity};
use super::spec::{MDTS, MOST_EVENT_REQUESTS, NAMESPACE_NOTICES, VERSION, log};
use crate::backend::DiskInfo;

pub(super) const VENDOR: u16 = 0x1b36;
pub(super) const DEVICE: u16 = 0x0010;
pub(super) const SUBSYSTEM: (u16, u16) = (0x1af4, 0x1100);

const PAGE: usize = 4096;

fn put(page: &mut [u8], at: usize, data: &[u8]) {
    page[at..at + data.len()].copy_from_slice(data);
}

/// `value` left-aligned, cut off or filled up with spaces.
fn text(page: &mut [u8], at: usize, len: usize, value: &str) {
    let place = &mut page[at..at + len];
    place.fill(b' ');
    for (place, byte) in place.iter_mut().zip(value.bytes()) {
        *place = byte;
    }
}

pub(super) fn controller(identity: &NvmeIdentity, namespaces: usize, trims: bool) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    put(&mut page, 0, &VENDOR.to_le_bytes());
    put(&mut page, 2, &SUBSYSTEM.0.to_le_bytes());
    text(&mut page, 4, 20, &identity.serial);
    text(&mut page, 24, 40, &identity.model);
    text(&mut page, 64, 8, env!("CARGO_PKG_VERSION"));
    // Arbitration burst.
    page[72] = 6;
    page[77] = MDTS;
    put(&mut page, 80, &VERSION.to_le_bytes());
    put(&mut page, 92, &NAMESPACE_NOTICES.to_le_bytes());
    // An I/O controller.
    page[111] = 1;
    // Four aborts and event requests at once.
    page[258] = 3;
    page[259] = MOST_EVENT_REQUESTS as u8 - 1;
    // One slot of firmware, which cannot be written.
    page[260] = 0x03;
    // Log pages of any length and offset.
    page[261] = 0x04;
    page[264] = 1;
    // Kelvin: warning and critical.
    put(&mut page, 266, &0x157_u16.to_le_bytes());
    put(&mut page, 268, &0x175_u16.to_le_bytes());
    // Entries of 64 and 16 bytes.
    page[512] = 0x66;
    page[513] = 0x44;
    put(&mut page, 516, &(namespaces as u32).to_le_bytes());
    // Write zeroes, and dataset management where space can be given back.
    let optional = 0x08_u16 | u16::from(trims) << 2;
    put(&mut page, 520, &optional.to_le_bytes());
    // A write cache, and flushes of all namespaces at once.
    page[525] = 0x07;
    // The name that §7.9 forms of the identity.
    let (vendor, subsystem) = (VENDOR, SUBSYSTEM.0);
    let name = format!("nqn.2014.08.org.nvmexpress:{vendor:04x}{subsystem:04x}");
    let name: Vec<u8> = name.bytes().chain(page[4..64].to_vec()).take(223).collect();
    put(&mut page, 768, &name);
    // The one power state: 25 W.
    put(&mut page, 2048, &2500_u16.to_le_bytes());
    page
}

pub(super) fn namespace(namespace: &Namespace) -> Vec<u8> {
    let info = namespace.disk.info();
    let blocks = blocks(&info);
    let mut page = vec![0; PAGE];
    // Size, capacity and use: what is allocated on the host is not told.
    for at in [0, 8, 16] {
        put(&mut page, at, &blocks.to_le_bytes());
    }
    // Preferred granularities are given below.
    page[24] = 0x10;
    page[99] = u8::from(info.read_only);
    let granularity = (info.physical_block_size / info.block_size).saturating_sub(1) as u16;
    // Of writes and of deallocation, with their alignments, and the optimal write.
    for at in [64, 66, 68, 70, 72] {
        put(&mut page, at, &granularity.to_le_bytes());
    }
    if let Some(name) = namespace.eui {
        put(&mut page, 120, &name.to_be_bytes());
    }
    // The one format: no metadata, blocks of this power of two.
    page[130] = info.block_size.trailing_zeros() as u8;
    page
}

pub(super) fn blocks(info: &DiskInfo) -> u64 {
    info.size / u64::from(info.block_size)
}

/// Numbers of the namespaces above `after`.
pub(super) fn list(namespaces: &[Option<Namespace>], after: u32) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    let there = (1_u32..).zip(namespaces).filter(|(_, namespace)| namespace.is_some());
    let numbers = there.map(|(number, _)| number).filter(|number| *number > after);
    for (place, number) in page.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    page
}

/// The names of a namespace.
pub(super) fn names(namespace: &Namespace) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    if let Some(name) = namespace.eui {
        // EUI64, eight bytes.
        put(&mut page, 0, &[1, 8, 0, 0]);
        put(&mut page, 4, &name.to_be_bytes());
    }
    page
}

/// A log page, if there is one of this number.
pub(super) fn log_page(number: u8, namespaces: &[Option<Namespace>]) -> Option<Vec<u8>> {
    match number {
        // No entry is kept.
        log::ERRORS => Some(vec![0; 64]),
        log::HEALTH => Some(health(namespaces)),
        log::FIRMWARE => {
            let mut page = vec![0; 512];
            page[0] = 1;
            text(&mut page, 8, 8, env!("CARGO_PKG_VERSION"));
            Some(page)
        }
        _ => None,
    }
}

/// The log page of namespaces that have changed. There are fewer than it has room for.
pub(super) fn changed(numbers: &[u32]) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    for (place, number) in page.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    page
}

/// A controller that is never ill, and what its namespaces have moved.
fn health(namespaces: &[Option<Namespace>]) -> Vec<u8> {
    let mut page = vec![0; 512];
    // 300 K; all spare blocks, of which a tenth would be few.
    put(&mut page, 1, &300_u16.to_le_bytes());
    page[3] = 100;
    page[4] = 10;
    let sum = |read: fn(&crate::backend::stats::BlockStats) -> u64| {
        namespaces.iter().flatten().map(|namespace| read(&namespace.meter.stats)).sum::<u64>()
    };
    // In thousands of 512 bytes.
    let units = |bytes: u64| bytes.div_ceil(512_000);
    put(&mut page, 32, &units(sum(|s| s.read_bytes.load(Ordering::Relaxed))).to_le_bytes());
    put(&mut page, 48, &units(sum(|s| s.write_bytes.load(Ordering::Relaxed))).to_le_bytes());
    put(&mut page, 64, &sum(|s| s.read_requests.load(Ordering::Relaxed)).to_le_bytes());
    put(&mut page, 80, &sum(|s| s.write_requests.load(Ordering::Relaxed)).to_le_bytes());
    page
}
