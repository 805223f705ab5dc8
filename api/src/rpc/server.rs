//! The sockets that libvirt's clients connect to.
//!
//! ```text
//! unix ─ the kernel says who it is ──────┐
//! TCP, on loopback ─ nobody knows ───────┼─▶ connection
//! TLS ─ handshake ─ subject ─ welcome ───┘
//! ```

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use management::{Access, Caller, Manager, Via};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::admission::Admission;
pub use super::admission::Auth;
use super::connection;
pub use super::tls::{Client, Tls, TlsError, TlsParts};
use super::wire::Bytes;
use crate::http::server::{ListenError, bind, inherit, keep_alive};
use crate::peers::{Peer, Peers};
use crate::places::{Place, Places};
use crate::room;

/// For connections to hear that the daemon goes.
const DRAIN: Duration = Duration::from_secs(1);
/// After an `accept` that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An open socket and what being connected to it proves.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Connections at a time.
    most: usize,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener, Access, Auth, Arc<Places>),
    Tcp(TcpListener, Access),
    Tls(TcpListener, Tls, Arc<Peers>),
}

impl Listener {
    fn new(socket: Socket) -> Self {
        Self { socket, most: room::USUAL }
    }

    /// As [`Listener::admitting`](crate::http::server::Listener::admitting).
    #[must_use]
    pub fn admitting(mut self, most: usize) -> Self {
        self.most = most;
        if let Socket::Unix(_, access, _, shares) = &mut self.socket {
            *shares = places(*access, most);
        }
        self
    }

    /// As [`Listener::unix`](crate::http::server::Listener::unix).
    pub fn unix(path: &Path, access: Access, auth: Auth) -> Result<Self, ListenError> {
        let places = places(access, room::USUAL);
        Ok(Self::new(Socket::Unix(bind(path)?, access, auth, places)))
    }

    /// A listening socket that systemd opened for us.
    pub fn inherited(
        index: usize,
        socket: std::os::unix::net::UnixListener,
        access: Access,
        auth: Auth,
    ) -> Result<Self, ListenError> {
        let places = places(access, room::USUAL);
        Ok(Self::new(Socket::Unix(inherit(index, socket)?, access, auth, places)))
    }

    /// TCP, on loopback only: the connection is not encrypted and proves nobody.
    pub async fn tcp(address: SocketAddr, access: Access) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::LibvirtNotLoopback { address });
        }
        Ok(Self::new(Socket::Tcp(listen(address).await?, access)))
    }

    /// TCP with TLS, for those who can prove who they are.
    pub async fn tls(address: SocketAddr, tls: Tls) -> Result<Self, ListenError> {
        Ok(Self::new(Socket::Tls(listen(address).await?, tls, Arc::default())))
    }

    /// Where it listens, for people.
    #[must_use]
    pub fn name(&self) -> String {
        let (scheme, socket) = match &self.socket {
            Socket::Unix(socket, ..) => return crate::http::server::name_of(socket),
            Socket::Tcp(socket, _) => ("qemu+tcp", socket),
            Socket::Tls(socket, ..) => ("qemu+tls", socket),
        };
        let address = socket.local_addr();
        address.map_or_else(|_| scheme.to_owned(), |address| format!("{scheme}://{address}"))
    }

    async fn next(&self) -> std::io::Result<Option<Guest>> {
        match &self.socket {
            Socket::Unix(socket, access, auth, places) => {
                let (stream, _) = socket.accept().await?;
                let peer = stream.peer_cred()?;
                let Some(place) = places.take(peer.uid()) else {
                    tracing::debug!(uid = peer.uid(), "too many connections of one user");
                    return Ok(None);
                };
                let pid = peer.pid().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                let name = format!("uid {}{pid}, by libvirt", peer.uid());
                let caller = Caller::new(name, *access).via(Via::Unix);
                let admission = Admission { caller, auth: *auth, remote: None };
                Ok(Some(Guest::Unix { stream, admission, _place: place }))
            }
            Socket::Tcp(socket, access) => {
                let (stream, peer) = socket.accept().await?;
                // Answers are small; waiting to fill a packet only delays them.
                stream.set_nodelay(true)?;
                let name = format!("{peer}, by libvirt");
                let caller = Caller::new(name, *access).via(Via::Loopback);
                Ok(Some(Guest::Tcp { stream, caller }))
            }
            Socket::Tls(socket, tls, peers) => {
                let (stream, address) = socket.accept().await?;
                let Some(peer) = peers.connect(address.ip()) else {
                    tracing::debug!(%address, "too many connections of one address");
                    return Ok(None);
                };
                stream.set_nodelay(true)?;
                let (tls, peers) = (tls.clone(), peers.clone());
                Ok(Some(Guest::Stranger { stream, address, tls, peers, _peer: peer }))
            }
        }
    }
}

/// What each user has of a unix socket.
fn places(access: Access, most: usize) -> Arc<Places> {
    Places::new(room::of_a_user(access, room::of_a_socket(most)))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError::Tcp { address: address.to_string(), source };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    keep_alive(&socket).map_err(|error| failed(error.into()))?;
    Ok(socket)
}

/// Serve until `stop` changes. Clients that are connected then are cut off: they come again.
pub async fn serve(listeners: Vec<Listener>, manager: Manager, stop: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(accept(listener, manager.clone(), stop.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

async fn accept(listener: Listener, manager: Manager, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(room::of_a_socket(listener.most)));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.next() => accepted,
        };
        match accepted {
            Ok(Some(guest)) => {
                connections.spawn(guest.serve(manager.clone(), place, stop.clone()));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(socket = %listener.name(), %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, drained).await;
}

/// Somebody at the door, with the place that is taken there.
enum Guest {
    Unix { stream: UnixStream, admission: Admission, _place: Place },
    Tcp { stream: TcpStream, caller: Caller },
    Stranger { stream: TcpStream, address: SocketAddr, tls: Tls, peers: Arc<Peers>, _peer: Peer },
}

impl Guest {
    async fn serve(
        self,
        manager: Manager,
        _place: OwnedSemaphorePermit,
        stop: watch::Receiver<bool>,
    ) {
        match self {
            Self::Unix { stream, admission, _place } => {
                connection::serve(stream, manager, admission, stop).await;
            }
            Self::Tcp { stream, caller } => {
                connection::serve(Bytes(stream), manager, Admission::known(caller), stop).await;
            }
            Self::Stranger { stream, address, tls, peers, _peer } => {
                let ip = address.ip().to_canonical();
                match tls.accept(stream, ip).await {
                    Ok((stream, caller, auth)) => {
                        let admission = Admission { caller, auth, remote: Some((peers, ip)) };
                        connection::serve(Bytes(stream), manager, admission, stop).await;
                    }
                    Err(error) => {
                        tracing::info!(%address, %error, "a client of libvirt's is turned away");
                    }
                }
            }
        }
    }
}
