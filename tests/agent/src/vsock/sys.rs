//! Addresses of AF_VSOCK (`linux/vm_sockets.h`), which rustix has no type for.
#![allow(unsafe_code, reason = "an address type of our own")]

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};

const AF_VSOCK: u16 = 40;

/// `struct sockaddr_vm`.
#[repr(C)]
pub(super) struct Address {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: [u8; 4],
}

impl Address {
    pub(super) fn new(cid: u32, port: u32) -> Self {
        Self { family: AF_VSOCK, reserved: 0, port, cid, zero: [0; 4] }
    }
}

// SAFETY: the pointer is to a whole `struct sockaddr_vm`, with its length, for as long as `f` runs.
unsafe impl SocketAddrArg for Address {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        f((&raw const *self).cast(), size_of::<Self>() as SocketAddrLen)
    }
}
