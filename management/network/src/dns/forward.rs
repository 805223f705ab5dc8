//! Asking an upstream: a number and a port of their own for each question (RFC 5452), and an answer
//! that is taken only if it fits.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::answer::Transport;
use super::query::{Query, RCODE, Rcode};
use super::tcp;
use crate::random;

/// How long a client waits at most, over all upstreams that are asked one after the other.
const PATIENCE: Duration = Duration::from_secs(5);
/// One that has not answered is asked last for so long.
const DISTRUST: Duration = Duration::from_secs(30);
/// Answers over UDP beyond this size do not come: we and clients ask for less.
const MAX_UDP: usize = 4096;
/// Forged or late answers to look at before the upstream is given up.
const MAX_STRAY: usize = 64;

/// Which upstreams have failed of late.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upstreams(Arc<Mutex<BTreeMap<SocketAddr, Instant>>>);

impl Upstreams {
    fn failed(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, upstreams: &mut [SocketAddr]) {
        let mut failed = self.failed();
        // Those of a configuration that is gone leave with their time.
        failed.retain(|_, at| at.elapsed() < DISTRUST);
        upstreams.sort_by_key(|upstream| failed.get(upstream).copied());
    }

    /// The answer of the first of `upstreams` that has one. Refusals and failures are passed on only
    /// if nobody does better.
    pub(super) async fn ask(
        &self,
        query: &Query<'_>,
        mut upstreams: Vec<SocketAddr>,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        self.order(&mut upstreams);
        let patience = PATIENCE / u32::try_from(upstreams.len().max(1)).unwrap_or(1);
        let mut worst = None;
        for upstream in upstreams {
            let exchange = async {
                match transport {
                    Transport::Udp => over_udp(query, upstream).await,
                    Transport::Tcp => over_tcp(query, upstream).await,
                }
            };
            let result = timeout(patience, exchange).await;
            match result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(reply) if is_of_use(&reply) => {
                    self.failed().remove(&upstream);
                    return Some(reply);
                }
                Ok(reply) => worst = Some(reply),
                Err(error) => {
                    tracing::debug!(%upstream, %error, "an upstream did not answer");
                    self.failed().insert(upstream, Instant::now());
                }
            }
        }
        worst
    }
}

fn is_of_use(reply: &[u8]) -> bool {
    let flags = reply.get(3).copied().map_or(0, u16::from);
    let useless = [Rcode::ServFail, Rcode::NotImp, Rcode::Refused];
    !useless.iter().any(|rcode| flags & RCODE == *rcode as u16)
}

/// The query with a number that no one can guess.
fn renumbered(query: &Query<'_>) -> io::Result<(u16, Vec<u8>)> {
    let number = random::bytes::<2>()?;
    let mut bytes = query.bytes.to_vec();
    *bytes.first_chunk_mut::<2>().ok_or(io::ErrorKind::InvalidInput)? = number;
    Ok((u16::from_be_bytes(number), bytes))
}

async fn over_udp(query: &Query<'_>, upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let (id, bytes) = renumbered(query)?;
    let any: SocketAddr = match upstream {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    // From now on the kernel drops what others send to this port.
    socket.connect(upstream).await?;
    socket.send(&bytes).await?;
    let mut reply = vec![0; MAX_UDP];
    for _ in 0..MAX_STRAY {
        let length = socket.recv(&mut reply).await?;
        let answer = reply.get(..length).unwrap_or_default();
        if query.is_answered_by(id, answer) {
            reply.truncate(length);
            return Ok(reply);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

async fn over_tcp(query: &Query<'_>, upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let (id, bytes) = renumbered(query)?;
    let mut stream = TcpStream::connect(upstream).await?;
    tcp::write_message(&mut stream, &bytes).await?;
    let reply = tcp::read_message(&mut stream, usize::from(u16::MAX)).await?;
    let reply = reply.filter(|reply| query.is_answered_by(id, reply));
    reply.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
