//! The host's end of a guest's sockets: `/dev/vhost-vsock`, with an address for the guest.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::{BrokerError, sys};

const DEVICE: &str = "/dev/vhost-vsock";
/// 0 to 2 are the hypervisor, loopback and the host.
const FIRST: u32 = 3;
/// Addresses that are tried; far more than there are guests on one host.
const TRIES: u32 = 10_000;

/// Open the device and reserve `cid` in it, or the first that is free. None: this host's kernel has
/// no such device.
pub(crate) fn vsock(cid: Option<u32>) -> Result<Option<(OwnedFd, u32)>, BrokerError> {
    let path = Path::new(DEVICE);
    let device = match open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(device) => device,
        Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(BrokerError::open("open", "device", path, errno.into())),
    };
    let candidates = match cid {
        Some(cid) => cid..cid.saturating_add(1),
        None => FIRST..FIRST + TRIES,
    };
    for candidate in candidates {
        match sys::vsock_set_cid(device.as_fd(), candidate) {
            Ok(()) => return Ok(Some((device, candidate))),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && cid.is_none() => {}
            Err(source) => {
                let act = format!("give the guest the vsock address (CID) {candidate}");
                return Err(BrokerError::Host { act, source });
            }
        }
    }
    let act = format!("find a free vsock address (CID) from {FIRST} on");
    Err(BrokerError::Host { act, source: Errno::ADDRINUSE.into() })
}
