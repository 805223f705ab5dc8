//! Guest RAM: regions, bounds-checked access, and the host ranges that I/O needs.
//!
//! This room is the only holder of guest pointers. Everyone else copies once through
//! [`GuestRam`], or hands [`IoBuffers`] to the kernel; nobody keeps a `&[u8]` into RAM that the
//! guest can change under its feet.
#![allow(
    unsafe_code,
    reason = "the one room that maps guest RAM and hands its ranges to the kernel"
)]

mod buffers;
mod dirty;
mod mapping;
mod policy;
mod ram;
mod vectors;

pub use buffers::IoBuffers;
pub use dirty::{PAGE, Pages, SharedLog, WriteLog};
pub use policy::{Placement, Policy};
pub use ram::{Backing, GuestRam, HandedOut, MemoryError, ReadFileError, RegionInfo, View};

/// Alignment of every region's host address, congruent with its guest address: lets KVM use
/// 2 MiB pages in the nested page tables, which saves most page-fault exits of a boot.
pub const HUGE_PAGE: u64 = 2 << 20;
