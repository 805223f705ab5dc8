//! Connections to servers of disks. A process of a guest has no network of its own.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::BrokerError;
use crate::policy::{Judge, Wish};
use crate::request::Peer;

/// For all addresses of a name together.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before a server that says nothing is asked whether it is still there, and between two questions.
const IDLE: Duration = Duration::from_secs(10);
/// What is sent and not acknowledged for so long ends the connection, so that there can be another.
const UNHEARD: Duration = Duration::from_secs(30);

pub(crate) fn connect(judge: Judge<'_>, peer: &Peer) -> Result<OwnedFd, BrokerError> {
    match peer {
        Peer::Tcp { host, port } => tcp(host, *port),
        Peer::Unix { path } => {
            let failed = |source| BrokerError::open("connect to", "socket", path, source);
            let place = judge.find(Wish::Write, "socket", path, true)?;
            let stream = UnixStream::connect(place.by()).map_err(failed)?;
            stream.set_nonblocking(true).map_err(failed)?;
            Ok(stream.into())
        }
    }
}

fn tcp(host: &str, port: u16) -> Result<OwnedFd, BrokerError> {
    let unknown = |source| BrokerError::UnknownHost { host: host.to_owned(), source };
    let addresses = (host, port).to_socket_addrs().map_err(unknown)?;
    let deadline = Instant::now() + PATIENCE;
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match to(address, left) {
            Ok(stream) => return Ok(stream.into()),
            Err(error) => failure = error,
        }
    }
    Err(BrokerError::Connect { place: format!("{host} port {port}"), source: failure })
}

fn to(address: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, within)?;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, IDLE)?;
    sockopt::set_tcp_keepintvl(&stream, IDLE)?;
    let unheard = u32::try_from(UNHEARD.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(&stream, unheard)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use rustix::net::sockopt::set_socket_reuseaddr;
    use rustix::net::{AddressFamily, SocketType};

    use super::*;

    #[test]
    fn a_server_is_found_by_name_and_one_that_is_not_there_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            connect(Judge::NONE, &Peer::Tcp { host: host.to_owned(), port }).unwrap();
        }
        drop(listener);
        // Taken, so that nobody else listens there meanwhile.
        let taken = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        set_socket_reuseaddr(&taken, true).unwrap();
        rustix::net::bind(&taken, &SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        let error =
            connect(Judge::NONE, &Peer::Tcp { host: "127.0.0.1".to_owned(), port }).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot connect to 127.0.0.1 port {port}"));
        let host = "no such host".to_owned();
        let error = connect(Judge::NONE, &Peer::Tcp { host, port }).unwrap_err().to_string();
        assert!(error.contains("\"no such host\" is no address"), "{error}");
        let error =
            connect(Judge::NONE, &Peer::Unix { path: "/nowhere/nbd.sock".into() }).unwrap_err();
        assert!(error.to_string().contains("/nowhere/nbd.sock does not exist"), "{error}");
    }
}
