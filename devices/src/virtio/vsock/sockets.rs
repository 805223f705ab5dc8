//! The host's side of a vsock device as one unix socket, for hosts without vhost-vsock, or that do
//! not want a guest among the addresses of their kernel.
//!
//! Who connects to the socket says a line, and hears one:
//!
//! ```text
//! CONNECT 5000   the guest's port 5000: "OK 1073741824", then the stream
//! LISTEN 5001    the host's port 5001: "OK 5001", then with each connection of the guest a line
//!                "ACCEPT 4242" (the guest's port) and a socket (SCM_RIGHTS), until this one closes
//! ```
//! The first is the convention of Firecracker and Cloud Hypervisor, which ssh proxies speak too. In
//! the second it is the guest that connects; a process that opens no path can only wait for who
//! wants to hear of that.

mod connection;
mod greeting;
mod muxer;
mod packet;
#[cfg(test)]
mod tests;
mod worker;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use crate::sync::Lock;
use connection::Ports;
use muxer::Muxer;
use packet::{HOST_CID, Header, TYPE_STREAM};
pub(super) use worker::SocketWorker;

/// A listening unix socket, and all that goes through it. It outlives resets of the device.
pub struct Sockets {
    listener: OwnedFd,
    /// The worker has it while it runs.
    muxer: Mutex<Option<Muxer>>,
}

impl Sockets {
    /// `listener`: a listening stream socket.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(listener: OwnedFd, cid: u32) -> io::Result<Arc<Self>> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        let muxer = Mutex::new(Some(Muxer::new(cid.into())));
        Ok(Arc::new(Self { listener, muxer }))
    }

    /// The driver forgot its connections. Who waits for some goes on waiting.
    pub(super) fn reset(&self) {
        if let Some(muxer) = &mut *self.muxer.hold() {
            muxer.forget_connections();
        }
    }
}

fn header(cid: u64, ports: Ports, op: u16) -> Header {
    Header {
        source_cid: HOST_CID,
        destination_cid: cid,
        source_port: ports.host,
        destination_port: ports.guest,
        kind: TYPE_STREAM,
        op,
        ..Header::default()
    }
}
