//! The ioctls of vhost devices (`linux/vhost.h`).
#![allow(unsafe_code, reason = "vhost ioctls have no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::AtomicU64;

use memory::GuestRam;
use vmm_sys_util::eventfd::EventFd;

const GET_FEATURES: u32 = 0x8008_af00;
const SET_FEATURES: u32 = 0x4008_af00;
const SET_OWNER: u32 = 0xaf01;
const SET_MEM_TABLE: u32 = 0x4008_af03;
const SET_LOG_BASE: u32 = 0x4008_af04;
const SET_VRING_NUM: u32 = 0x4008_af10;
const SET_VRING_ADDR: u32 = 0x4028_af11;
const SET_VRING_BASE: u32 = 0x4008_af12;
const GET_VRING_BASE: u32 = 0xc008_af12;
const SET_VRING_KICK: u32 = 0x4008_af20;
const SET_VRING_CALL: u32 = 0x4008_af21;
const NET_SET_BACKEND: u32 = 0x4008_af30;
const SET_GUEST_CID: u32 = 0x4008_af60;
const SET_RUNNING: u32 = 0x4004_af61;

/// VHOST_F_LOG_ALL: the kernel writes a log of dirty pages.
pub(super) const LOG_ALL: u64 = 1 << 26;

/// More regions than a machine here has.
const MOST_REGIONS: usize = 8;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    gpa: u64,
    len: u64,
    hva: u64,
    flags: u64,
}

#[repr(C)]
struct MemoryTable {
    count: u32,
    padding: u32,
    regions: [Region; MOST_REGIONS],
}

/// `struct vhost_vring_state` and, with a descriptor as the number, `struct vhost_vring_file`.
#[repr(C)]
struct Numbered {
    index: u32,
    number: u32,
}

#[repr(C)]
struct Addresses {
    index: u32,
    flags: u32,
    descriptors: u64,
    used: u64,
    available: u64,
    log: u64,
}

/// Addresses in this process.
pub(super) struct Rings {
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

/// # Safety
/// `request` reads or writes no more than a `T`, and keeps no pointer to it.
unsafe fn call<T>(device: BorrowedFd<'_>, request: u32, value: *mut T) -> io::Result<()> {
    // SAFETY: `value` is valid for reads and writes of a `T`, which is all that the caller's request
    // touches; on a descriptor of another kind the call fails.
    let status = unsafe { libc::ioctl(device.as_raw_fd(), request as libc::Ioctl, value) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(super) fn features(device: BorrowedFd<'_>) -> io::Result<u64> {
    let mut features = 0_u64;
    // SAFETY: writes one u64.
    unsafe { call(device, GET_FEATURES, &raw mut features) }?;
    Ok(features)
}

pub(super) fn set_features(device: BorrowedFd<'_>, mut features: u64) -> io::Result<()> {
    // SAFETY: reads one u64.
    unsafe { call(device, SET_FEATURES, &raw mut features) }
}

pub(super) fn set_owner(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no argument.
    unsafe { call::<u8>(device, SET_OWNER, std::ptr::null_mut()) }
}

/// The kernel reads and writes guest RAM by this table from the time rings are set up until the
/// device is closed; whoever calls this keeps `ram` for as long.
pub(super) fn set_memory(device: BorrowedFd<'_>, ram: &GuestRam) -> io::Result<()> {
    let regions = ram.regions();
    if regions.len() > MOST_REGIONS {
        return Err(io::Error::other("guest memory has too many regions for vhost"));
    }
    let mut table = MemoryTable {
        count: regions.len() as u32,
        padding: 0,
        regions: [Region::default(); MOST_REGIONS],
    };
    for (to, from) in table.regions.iter_mut().zip(regions) {
        *to = Region { gpa: from.gpa, len: from.len, hva: from.hva, flags: 0 };
    }
    // SAFETY: reads a header and the `count` regions that follow, all inside `table`; the addresses
    // in it are only ever dereferenced by the kernel, which faults on what is not mapped.
    unsafe { call(device, SET_MEM_TABLE, &raw mut table) }
}

/// Where the kernel notes pages that it writes to: a bit for each, by guest address. It does so from the
/// time rings are set up until the device is closed; whoever calls this keeps `log` for as long.
pub(super) fn set_log(device: BorrowedFd<'_>, log: &[AtomicU64]) -> io::Result<()> {
    let mut base = log.as_ptr() as u64;
    // SAFETY: reads one u64. The kernel sets bits at that address by itself, atomically, as it would for
    // any user memory; there are as many as guest RAM has pages, and whoever reads them does so by
    // atomics.
    unsafe { call(device, SET_LOG_BASE, &raw mut base) }
}

pub(super) fn set_size(device: BorrowedFd<'_>, index: u32, number: u32) -> io::Result<()> {
    // SAFETY: reads one vhost_vring_state.
    unsafe { call(device, SET_VRING_NUM, &mut Numbered { index, number }) }
}

pub(super) fn set_base(device: BorrowedFd<'_>, index: u32, number: u32) -> io::Result<()> {
    // SAFETY: reads one vhost_vring_state.
    unsafe { call(device, SET_VRING_BASE, &mut Numbered { index, number }) }
}

pub(super) fn base(device: BorrowedFd<'_>, index: u32) -> io::Result<u16> {
    let mut state = Numbered { index, number: 0 };
    // SAFETY: reads and writes one vhost_vring_state.
    unsafe { call(device, GET_VRING_BASE, &raw mut state) }?;
    // An available index, which is 16 bits wide.
    Ok(state.number as u16)
}

pub(super) fn set_rings(device: BorrowedFd<'_>, index: u32, rings: &Rings) -> io::Result<()> {
    let mut addresses = Addresses {
        index,
        flags: 0,
        descriptors: rings.descriptors,
        used: rings.used,
        available: rings.available,
        log: 0,
    };
    // SAFETY: reads one vhost_vring_addr. The addresses lie in guest RAM (checked by the caller),
    // which only the kernel dereferences.
    unsafe { call(device, SET_VRING_ADDR, &raw mut addresses) }
}

pub(super) fn set_kick(device: BorrowedFd<'_>, index: u32, event: &EventFd) -> io::Result<()> {
    let number = event.as_raw_fd() as u32;
    // SAFETY: reads one vhost_vring_file; the kernel takes a reference of its own to the event.
    unsafe { call(device, SET_VRING_KICK, &mut Numbered { index, number }) }
}

pub(super) fn set_call(device: BorrowedFd<'_>, index: u32, event: &EventFd) -> io::Result<()> {
    let number = event.as_raw_fd() as u32;
    // SAFETY: as in `set_kick`.
    unsafe { call(device, SET_VRING_CALL, &mut Numbered { index, number }) }
}

/// The tap that a queue of a network device leads to; -1: none.
pub(super) fn set_backend(device: BorrowedFd<'_>, index: u32, tap: RawFd) -> io::Result<()> {
    // SAFETY: reads one vhost_vring_file; the kernel takes a reference of its own to the tap.
    unsafe { call(device, NET_SET_BACKEND, &mut Numbered { index, number: tap as u32 }) }
}

pub(super) fn set_cid(device: BorrowedFd<'_>, mut cid: u64) -> io::Result<()> {
    // SAFETY: reads one u64.
    unsafe { call(device, SET_GUEST_CID, &raw mut cid) }
}

pub(super) fn set_running(device: BorrowedFd<'_>, running: bool) -> io::Result<()> {
    // SAFETY: reads one int.
    unsafe { call(device, SET_RUNNING, &mut i32::from(running)) }
}
