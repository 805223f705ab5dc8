//! The ioctls of tap devices (linux/if_tun.h), and scatter-gather transfers between guest memory
//! and a descriptor.
#![allow(unsafe_code, reason = "tap ioctls and readv/writev on guest memory have no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use memory::IoBuffers;

pub(super) const IFF_TAP: u16 = 0x0002;
pub(super) const IFF_NO_PI: u16 = 0x1000;
pub(super) const IFF_VNET_HDR: u16 = 0x4000;
pub(super) const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_ATTACH_QUEUE: u16 = 0x0200;
pub(super) const IFF_DETACH_QUEUE: u16 = 0x0400;

const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0_u32 as libc::Ioctl;
const TUNGETIFF: libc::Ioctl = 0x8004_54d2_u32 as libc::Ioctl;
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8_u32 as libc::Ioctl;
const TUNSETQUEUE: libc::Ioctl = 0x4004_54d9_u32 as libc::Ioctl;
const TUNSETVNETLE: libc::Ioctl = 0x4004_54dc_u32 as libc::Ioctl;

/// `struct ifreq` as far as taps use it: a name, flags, and the rest of its 40 bytes.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

impl InterfaceRequest {
    const fn new(flags: u16) -> Self {
        Self { name: [0; 16], flags, rest: [0; 22] }
    }
}

fn check(status: i32) -> io::Result<()> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Name and flags of the interface that a queue belongs to.
pub(super) fn interface(fd: BorrowedFd<'_>) -> io::Result<(String, u16)> {
    let mut request = InterfaceRequest::new(0);
    // SAFETY: TUNGETIFF writes one `struct ifreq`, of which `request` has the size and layout; on a
    // descriptor that is no tap the call fails without writing.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNGETIFF, &raw mut request) })?;
    let name = request.name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok((String::from_utf8_lossy(name).into_owned(), request.flags))
}

pub(super) fn set_header_size(fd: BorrowedFd<'_>, size: i32) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETVNETHDRSZ, &raw const size) })
}

pub(super) fn set_little_endian(fd: BorrowedFd<'_>) -> io::Result<()> {
    let on: i32 = 1;
    // SAFETY: TUNSETVNETLE reads one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETVNETLE, &raw const on) })
}

pub(super) fn set_offload(fd: BorrowedFd<'_>, offloads: u32) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory of ours.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETOFFLOAD, libc::c_ulong::from(offloads)) })
}

pub(super) fn attach_queue(fd: BorrowedFd<'_>, attach: bool) -> io::Result<()> {
    let request = InterfaceRequest::new(if attach { IFF_ATTACH_QUEUE } else { IFF_DETACH_QUEUE });
    // SAFETY: TUNSETQUEUE reads one `struct ifreq`, of which `request` has the size and layout.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETQUEUE, &raw const request) })
}

pub(crate) fn readv(fd: BorrowedFd<'_>, buffers: &IoBuffers) -> io::Result<usize> {
    let vectors = vectors(buffers);
    // SAFETY: the vectors are mapped guest memory for as long as `buffers` lives; the kernel is
    // done with them when the call returns.
    let count =
        unsafe { libc::readv(fd.as_raw_fd(), vectors.as_ptr(), vectors.len() as libc::c_int) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

pub(crate) fn writev(fd: BorrowedFd<'_>, buffers: &IoBuffers) -> io::Result<usize> {
    let vectors = vectors(buffers);
    if vectors.len() < buffers.as_iovecs().len() {
        // A packet cut in two would be two wrong packets.
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: as in `readv`; the kernel only reads.
    let count =
        unsafe { libc::writev(fd.as_raw_fd(), vectors.as_ptr(), vectors.len() as libc::c_int) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// No more than the kernel takes at once.
fn vectors(buffers: &IoBuffers) -> &[libc::iovec] {
    let vectors = buffers.as_iovecs();
    &vectors[..vectors.len().min(libc::UIO_MAXIOV as usize)]
}

/// Make a tap device, which lives as long as its descriptor.
#[cfg(test)]
pub(super) fn create(fd: BorrowedFd<'_>, flags: u16) -> io::Result<()> {
    const TUNSETIFF: libc::Ioctl = 0x4004_54ca_u32 as libc::Ioctl;
    let mut request = InterfaceRequest::new(flags);
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`; `request` has its size and layout.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF, &raw mut request) })
}
