//! Images that qemu-img wrote are read, and images that we wrote are shown to qemu-img.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails that way")]

mod bitmaps;
mod formats;
mod orders;
mod power;
mod qcow2;
mod rig;
mod snapshots;
