//! The advertiser on its socket.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::advertisement::advertisement;
use super::schedule::{Schedule, Spread};
use super::solicitation;
use crate::limit::Quiet;
use crate::state::Shared;
use crate::sys;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// A solicitation has 24 bytes; options that nobody knows may come with it.
const BUFFER: usize = 2048;

/// A raw ICMPv6 socket that hears nothing but solicitations.
#[derive(Debug)]
pub(crate) struct Socket(AsyncFd<OwnedFd>);

impl Socket {
    /// To be called within a runtime.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        // RFC 4861 §4.2: what has crossed a router is no advertisement.
        sockopt::set_ipv6_multicast_hops(&socket, 255)?;
        sockopt::set_ipv6_unicast_hops(&socket, Some(255))?;
        // The host is no client of its own.
        sockopt::set_ipv6_multicast_loop(&socket, false)?;
        sys::hear_solicitations(socket.as_fd())?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(sys::poll(socket)?))
    }

    fn advertise(&self, shared: &Shared, last: bool) -> io::Result<()> {
        let message = advertisement(&shared.lock().config, last);
        let Some(message) = message else { return Ok(()) };
        // The socket is bound to the bridge, so no scope is needed to tell which link is meant.
        let to = SocketAddrV6::new(ALL_NODES, 0, 0, 0);
        rustix::net::sendto(self.0.get_ref(), &message, rustix::net::SendFlags::empty(), &to)?;
        shared.lock().router.advertisements += 1;
        Ok(())
    }

    /// Let guests look for another router at once (RFC 4861 §6.2.5).
    pub(crate) fn farewell(&self, shared: &Shared) {
        if let Err(error) = self.advertise(shared, true) {
            tracing::debug!(%error, "the last advertisement was not sent");
        }
    }

    async fn solicited(&self, buffer: &mut [u8], shared: &Shared) -> io::Result<bool> {
        let receive = |socket: &OwnedFd| sys::receive(socket.as_fd(), buffer);
        let received = self.0.async_io(Interest::READABLE, receive).await?;
        let message = buffer.get(..received.length).unwrap_or_default();
        let valid = solicitation::is_valid(message, received.hop_limit, received.source);
        let counters = &mut shared.lock().router;
        match valid {
            true => counters.solicitations += 1,
            false => counters.ignored += 1,
        }
        Ok(valid)
    }
}

/// Advertise for ever.
pub(crate) async fn serve(socket: Option<&Socket>, shared: &Shared) {
    let Some(socket) = socket else { return std::future::pending().await };
    let mut schedule = Schedule::new(Instant::now());
    let mut buffer = vec![0; BUFFER];
    let mut trouble = Quiet::once_in(Duration::from_secs(3600));
    loop {
        // Looked at before each message, so that a flood of them cannot keep it from its time.
        if schedule.next() <= Instant::now() {
            // A bridge without a guest has no address to send from: that is no fault.
            if let Err(error) = socket.advertise(shared, false) {
                tracing::debug!(%error, "an advertisement was not sent");
            }
            schedule.on_sent(Instant::now(), Spread::random());
        }
        let solicited = socket.solicited(&mut buffer, shared);
        match tokio::time::timeout_at(schedule.next().into(), solicited).await {
            Ok(Ok(true)) => schedule.on_solicited(Instant::now(), Spread::random()),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) => {
                if let Some(held_back) = trouble.admit() {
                    tracing::warn!(%error, held_back, "a solicitation could not be received");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
