//! System calls that have no safe form.
#![allow(unsafe_code, reason = "raw descriptors and ancillary data have no safe form")]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Own a descriptor that the process was started with, and keep it from any child.
///
/// To be called once for each number, before the process opens anything itself.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `fcntl` without pointers; a number that is not open makes it fail.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open (just checked), and the caller adopts each number once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Have tokio tell when `socket` can be read. To be called within a runtime.
pub(crate) fn poll(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `OwnedFd` gives out the one descriptor that it owns and closes it only in its drop; the
    // returned `AsyncFd` owns it and deregisters first.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE)? })
}

/// linux/icmpv6.h: a set bit blocks the type of its number.
const ICMPV6_FILTER: libc::c_int = 1;
const ROUTER_SOLICITATION: u32 = 133;

/// Have a raw ICMPv6 socket receive solicitations alone, and tell of the hop limit they came with.
pub(crate) fn hear_solicitations(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut filter = [u32::MAX; 8];
    let [.., word, _, _, _] = &mut filter;
    // 133 is bit 5 of word 4.
    *word &= !(1 << (ROUTER_SOLICITATION % 32));
    set_option(socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &filter)?;
    set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, &1i32)
}

fn set_option<T>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: `value` points to `length` bytes, integers without padding in both uses above, which
    // the kernel only reads.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub length: usize,
    pub hop_limit: Option<u8>,
    pub source: Ipv6Addr,
}

/// Room for the one control message asked for, aligned as such messages must be.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Receive a message with its hop limit.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut source = MaybeUninit::<libc::sockaddr_in6>::zeroed();
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 64]);
    let mut header = MaybeUninit::<libc::msghdr>::zeroed();
    // SAFETY: all zeros is a valid `msghdr`: null pointers and lengths of zero.
    let header = unsafe { header.assume_init_mut() };
    header.msg_name = source.as_mut_ptr().cast();
    header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    // Its type is another one with musl.
    header.msg_controllen = control.0.len() as _;
    // SAFETY: each pointer in `header` is to a live local or to `buffer`, with its own length beside
    // it, and none of them is used otherwise during the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut *header, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: all zeros, which it began as, is a valid `sockaddr_in6`, as is what the kernel wrote.
    let source = unsafe { source.assume_init() };
    Ok(Received {
        length,
        hop_limit: hop_limit(header),
        source: Ipv6Addr::from(source.sin6_addr.s6_addr),
    })
}

/// `header` as `recvmsg` left it.
fn hop_limit(header: &libc::msghdr) -> Option<u8> {
    // SAFETY: `msg_control` and `msg_controllen` are what the kernel filled; the macro compares the
    // length with that of a header before it makes a pointer.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: not null, so it is a whole header within the control buffer, aligned as `Control` is.
        let found = unsafe { &*message };
        // SAFETY: arithmetic on a length alone.
        let whole = unsafe { libc::CMSG_LEN(size_of::<libc::c_int>() as libc::c_uint) } as _;
        let is_limit = found.cmsg_level == libc::IPPROTO_IPV6
            && found.cmsg_type == libc::IPV6_HOPLIMIT
            && found.cmsg_len >= whole;
        if is_limit {
            // SAFETY: the message's length says that an `int` lies behind its header; it is read
            // without asking for alignment.
            let limit = unsafe { libc::CMSG_DATA(message).cast::<libc::c_int>().read_unaligned() };
            return u8::try_from(limit).ok();
        }
        // SAFETY: both pointers are of this control buffer, whose messages the kernel wrote.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}
