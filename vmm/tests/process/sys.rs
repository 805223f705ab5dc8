//! What a daemon's broker would do: start a process with files at given descriptors, make taps.
#![allow(unsafe_code, reason = "the child arranges its descriptors between fork and exec; ioctls")]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Above everything a child is given.
const ABOVE: RawFd = 200;

/// Start `command` with `files` as its descriptors 3, 4, 5 ….
pub(crate) fn spawn(mut command: Command, files: &[OwnedFd]) -> io::Result<Child> {
    // Out of the way first, so that none is overwritten before it is in its place.
    let moved: Vec<OwnedFd> = files
        .iter()
        .map(|file| rustix::io::fcntl_dupfd_cloexec(file, ABOVE))
        .collect::<Result<_, _>>()?;
    let numbers: Vec<RawFd> = moved.iter().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: only plain system calls run between fork and exec; nothing allocates. An all-zero
    // signal set is a valid one.
    unsafe {
        command.pre_exec(move || {
            // A test or tool that dies takes its guests along.
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The test runner's own threads must not take it before the VMM's does.
            let mut signals = std::mem::zeroed();
            libc::sigemptyset(&raw mut signals);
            libc::sigaddset(&raw mut signals, libc::SIGTERM);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut());
            for (target, number) in (3..).zip(&numbers) {
                if libc::dup2(*number, target) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    command.spawn()
}

/// One queue of tap device `name`, made if it is not there.
#[allow(dead_code, reason = "not every user of this file has a network")]
pub(crate) fn open_tap(name: &str) -> io::Result<OwnedFd> {
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let mut request = [0u8; 40];
    let name = name.as_bytes();
    request[..name.len().min(15)].copy_from_slice(&name[..name.len().min(15)]);
    // IFF_TAP, IFF_NO_PI, IFF_VNET_HDR.
    request[16..18].copy_from_slice(&0x5002u16.to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes an ifreq of 40 bytes, which `request` is.
    let status = unsafe { libc::ioctl(tun.as_raw_fd(), 0x4004_54ca, request.as_mut_ptr()) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(tun.into())
}

/// Network interface `name` up, with an IPv4 address in the network that its class says (netdevice(7)).
#[allow(dead_code, reason = "not every user of this file has a network")]
pub(crate) fn set_up_interface(name: &str, address: [u8; 4]) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let set = |call: libc::Ioctl, value: &[u8]| {
        let mut request = [0u8; 40];
        let name = name.as_bytes();
        request[..name.len().min(15)].copy_from_slice(&name[..name.len().min(15)]);
        request[16..16 + value.len()].copy_from_slice(value);
        // SAFETY: both calls read an ifreq of 40 bytes, which `request` is.
        let status = unsafe { libc::ioctl(socket.as_raw_fd(), call, request.as_ptr()) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // A sockaddr_in: its family, no port, the address.
    let mut inet = [0; 8];
    inet[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    inet[4..].copy_from_slice(&address);
    set(libc::SIOCSIFADDR, &inet)?;
    set(libc::SIOCSIFFLAGS, &(libc::IFF_UP as u16).to_ne_bytes())
}

/// What shell code would need first.
#[allow(dead_code, reason = "not every user of this file is confined")]
pub(crate) fn map_executable() {
    let (prot, flags) =
        (libc::PROT_WRITE | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address of the kernel's choice, which nobody uses.
    unsafe { libc::mmap(std::ptr::null_mut(), 4096, prot, flags, -1, 0) };
}
