//! Sockets and connections: who may be on the other side, and how much of us they may take.

use std::any::Any;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use management::{Access, Caller, Via};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::remote::{Leash, Leashed, Remote, Tls};
use super::stalled::Stalled;
use super::turned_away::TurnedAway;
use crate::peers::{Peer, Peers};
use crate::places::{Place, Places};
use crate::room;

/// Of those who come by TLS, beside what each socket admits.
const MAX_REMOTE: usize = 512;
/// From one request's end to the end of the next one's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// No progress in sending for so long: the client does not read.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// For a request's head; hyper answers 431 beyond it.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 100;
/// How long connections may take to finish what they are at when the daemon stops.
const DRAIN: Duration = Duration::from_secs(2);
/// After an `accept` that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Of a unix socket, without the byte that ends it.
pub const LONGEST_PATH: usize = 107;

/// An open listening socket and what being connected to it proves.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    access: Access,
    /// Connections at a time.
    most: usize,
    turned_away: TurnedAway,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener, Arc<Places>),
    Tcp(TcpListener),
    Tls(TcpListener, Tls, Arc<Peers>),
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {path:?}")]
    Unix { path: PathBuf, source: std::io::Error },
    #[error(
        "cannot listen on {path:?}: the path is {len} bytes long, and the kernel takes \
         {LONGEST_PATH} at most"
    )]
    TooLong { path: PathBuf, len: usize },
    #[error("another daemon listens on {path:?}")]
    InUse { path: PathBuf },
    #[error("cannot listen on {address}")]
    Tcp { address: String, source: std::io::Error },
    #[error(
        "{address} is not a loopback address; without TLS the API listens on no other: use \
         [listen] tcp, or --listen, with a certificate"
    )]
    NotLoopback { address: SocketAddr },
    #[error(
        "{address} is not a loopback address; without TLS libvirt's clients prove nobody, and come \
         from this host only: use [libvirt] tls, or --libvirt-tls"
    )]
    LibvirtNotLoopback { address: SocketAddr },
    #[error("{address:?} is not an address with a port (127.0.0.1:8600)")]
    NotAnAddress { address: String },
    #[error("inherited socket {index} cannot be used")]
    Inherited { index: usize, source: std::io::Error },
}

impl Listener {
    fn new(socket: Socket, access: Access) -> Self {
        Self { socket, access, most: room::USUAL, turned_away: TurnedAway::default() }
    }

    /// So many connections at a time, or fewer where the process may have few files open; of one user
    /// a share of them.
    #[must_use]
    pub fn admitting(mut self, most: usize) -> Self {
        self.most = most;
        if let Socket::Unix(_, shares) = &mut self.socket {
            *shares = places(self.access, most);
        }
        self
    }

    /// A unix socket. Its mode and owner are the caller's to set, in a directory that nobody else
    /// can write. A socket left behind by a daemon that is gone is replaced.
    pub fn unix(path: &Path, access: Access) -> Result<Self, ListenError> {
        Ok(Self::new(Socket::Unix(bind(path)?, places(access, room::USUAL)), access))
    }

    /// TCP, on loopback only: the connection is not encrypted and proves nobody.
    pub async fn tcp(address: &str, access: Access) -> Result<Self, ListenError> {
        let parsed: SocketAddr = address
            .parse()
            .map_err(|_| ListenError::NotAnAddress { address: address.to_owned() })?;
        if !parsed.ip().is_loopback() {
            return Err(ListenError::NotLoopback { address: parsed });
        }
        let socket = TcpListener::bind(parsed)
            .await
            .map_err(|source| ListenError::Tcp { address: address.to_owned(), source })?;
        Ok(Self::new(Socket::Tcp(socket), access))
    }

    /// TCP with TLS, for those who can prove who they are.
    pub async fn tls(address: &str, tls: Tls) -> Result<Self, ListenError> {
        let parsed: SocketAddr = address
            .parse()
            .map_err(|_| ListenError::NotAnAddress { address: address.to_owned() })?;
        let failed = |source| ListenError::Tcp { address: address.to_owned(), source };
        let socket = TcpListener::bind(parsed).await.map_err(failed)?;
        keep_alive(&socket).map_err(|error| failed(error.into()))?;
        // Whatever a connection proves, it is looked at in each request.
        Ok(Self::new(Socket::Tls(socket, tls, Arc::default()), Access::Read))
    }

    /// A listening unix socket that systemd opened for us.
    pub fn inherited(
        index: usize,
        socket: std::os::unix::net::UnixListener,
        access: Access,
    ) -> Result<Self, ListenError> {
        let places = places(access, room::USUAL);
        Ok(Self::new(Socket::Unix(inherit(index, socket)?, places), access))
    }

    /// Where it listens, for people.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.socket {
            Socket::Unix(socket, _) => name_of(socket),
            Socket::Tcp(socket) => socket
                .local_addr()
                .map_or_else(|_| "TCP".to_owned(), |address| format!("http://{address}")),
            Socket::Tls(socket, ..) => socket
                .local_addr()
                .map_or_else(|_| "TLS".to_owned(), |address| format!("https://{address}")),
        }
    }

    /// The port of a TCP listener.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match &self.socket {
            Socket::Tcp(socket) | Socket::Tls(socket, ..) => {
                socket.local_addr().ok().map(|address| address.port())
            }
            Socket::Unix(..) => None,
        }
    }
}

/// What each user has of a unix socket.
fn places(access: Access, most: usize) -> Arc<Places> {
    Places::new(room::of_a_user(access, room::of_a_socket(most)))
}

/// See [`Listener::unix`].
pub(crate) fn bind(path: &Path) -> Result<UnixListener, ListenError> {
    let len = path.as_os_str().len();
    if len > LONGEST_PATH {
        return Err(ListenError::TooLong { path: path.to_owned(), len });
    }
    let failed = |source| ListenError::Unix { path: path.to_owned(), source };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(ListenError::InUse { path: path.to_owned() });
    }
    match std::fs::symlink_metadata(path) {
        Ok(old) if std::os::unix::fs::FileTypeExt::is_socket(&old.file_type()) => {
            std::fs::remove_file(path).map_err(failed)?;
        }
        _ => {}
    }
    UnixListener::bind(path).map_err(failed)
}

/// See [`Listener::inherited`].
pub(crate) fn inherit(
    index: usize,
    socket: std::os::unix::net::UnixListener,
) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Inherited { index, source };
    socket.set_nonblocking(true).map_err(failed)?;
    UnixListener::from_std(socket).map_err(failed)
}

pub(crate) fn name_of(socket: &UnixListener) -> String {
    let address = socket.local_addr().ok();
    let path = address.and_then(|address| Some(address.as_pathname()?.display().to_string()));
    path.unwrap_or_else(|| "an unnamed socket".to_owned())
}

/// Serve until `stop` changes, then let connections finish what they are at, for a moment.
pub async fn serve(listeners: Vec<Listener>, router: Router, stop: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(accept(listener, router.clone(), stop.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

async fn accept(listener: Listener, router: Router, mut stop: watch::Receiver<bool>) {
    let most = match listener.socket {
        Socket::Unix(..) | Socket::Tcp(_) => listener.most,
        Socket::Tls(..) => listener.most.min(MAX_REMOTE),
    };
    let places = Arc::new(Semaphore::new(room::of_a_socket(most)));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = next(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(Some(accepted)) => accepted,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(socket = %listener.name(), %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            match stream {
                Stream::Unix(stream, caller, user) => {
                    let place = (place, user);
                    connection(stream, place, caller.name.clone(), caller, router, stop).await;
                }
                Stream::Tcp(stream, caller) => {
                    connection(stream, place, caller.name.clone(), caller, router, stop).await;
                }
                Stream::Tls(stranger) => stranger.serve(place, router, stop).await,
            }
        });
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    // What is still there after that (streams, consoles) is cut; clients come again.
    let _ = tokio::time::timeout(DRAIN, drained).await;
}

/// Ends when the daemon is told to stop, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

enum Stream {
    Unix(UnixStream, Caller, Place),
    Tcp(TcpStream, Caller),
    Tls(Stranger),
}

/// None of a connection that was closed at once.
type Accepted = Option<(Stream, OwnedSemaphorePermit)>;

async fn next(listener: &Listener, places: &Arc<Semaphore>) -> std::io::Result<Accepted> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(|_| std::io::Error::other("the server is closed"))?;
    let stream = match &listener.socket {
        Socket::Unix(socket, places) => {
            let (stream, _) = socket.accept().await?;
            let peer = stream.peer_cred()?;
            let Some(place) = places.take(peer.uid()) else {
                listener.turned_away.tell(stream, peer.uid());
                return Ok(None);
            };
            let pid = peer.pid().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            let caller = Caller::new(format!("uid {}{pid}", peer.uid()), listener.access);
            Stream::Unix(stream, caller.via(Via::Unix), place)
        }
        Socket::Tcp(socket) => {
            let (stream, peer) = socket.accept().await?;
            // Replies are small; waiting to fill a packet only delays them.
            stream.set_nodelay(true)?;
            let caller = Caller::new(peer.to_string(), listener.access).via(Via::Loopback);
            Stream::Tcp(stream, caller)
        }
        Socket::Tls(socket, tls, peers) => {
            let (stream, address) = socket.accept().await?;
            let Some(peer) = peers.connect(address.ip()) else {
                tracing::debug!(%address, "too many connections of one address");
                return Ok(None);
            };
            stream.set_nodelay(true)?;
            let (tls, peers) = (tls.clone(), peers.clone());
            Stream::Tls(Stranger { stream, address, tls, peers, peer })
        }
    };
    Ok(Some((stream, place)))
}

/// Somebody from elsewhere who has said nothing yet.
struct Stranger {
    stream: TcpStream,
    address: SocketAddr,
    tls: Tls,
    peers: Arc<Peers>,
    peer: Peer,
}

impl Stranger {
    async fn serve(
        self,
        place: OwnedSemaphorePermit,
        router: Router,
        mut stop: watch::Receiver<bool>,
    ) {
        let Self { stream, address, tls, peers, peer } = self;
        let accepted = tokio::select! {
            () = stopped(&mut stop) => return,
            accepted = tls.accept(stream) => accepted,
        };
        match accepted {
            Ok((stream, certificate)) => {
                let leash = Leash::new();
                let stream = Leashed::new(stream, leash.clone());
                let remote = Remote { address, certificate, peers, leash };
                let place = (place, peer);
                connection(stream, place, address.to_string(), remote, router, stop).await;
            }
            Err(error) => tracing::debug!(%address, %error, "no connection by TLS"),
        }
    }
}

/// A peer that vanished without a word is noticed, also where nothing is sent to it.
pub(crate) fn keep_alive(socket: &TcpListener) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    // Connections have it from the socket that accepts them.
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(socket, 4)
}

/// Serve one connection, each request with what the connection proves. `place` is what it takes of the
/// server's, for as long as it is open.
pub(crate) async fn connection<S, P>(
    stream: S,
    place: impl Any + Send,
    name: String,
    proof: P,
    router: Router,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    P: Clone + Send + Sync + 'static,
{
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(proof.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let stream = Stalled::new(stream, STALL_TIMEOUT).holding(place);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(caller = %name, %error, "connection ended badly");
    }
}
