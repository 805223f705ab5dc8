//! The sockets that libvirt's clients connect to.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use management::{Access, Caller, Manager, Via};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::connection;
use crate::http::server::{ListenError, bind, inherit};

/// Connections at a time, of each kind of socket: those who may only look, whom anybody may be,
/// take no place from the others.
const MAX_CONNECTIONS: usize = 256;
/// After an `accept` that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An open socket and what being connected to it proves.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    access: Access,
}

impl Listener {
    /// As [`Listener::unix`](crate::http::server::Listener::unix).
    pub fn unix(path: &Path, access: Access) -> Result<Self, ListenError> {
        Ok(Self { socket: bind(path)?, access })
    }

    /// A listening socket that systemd opened for us.
    pub fn inherited(
        index: usize,
        socket: std::os::unix::net::UnixListener,
        access: Access,
    ) -> Result<Self, ListenError> {
        Ok(Self { socket: inherit(index, socket)?, access })
    }

    /// Where it listens, for people.
    #[must_use]
    pub fn name(&self) -> String {
        crate::http::server::name_of(&self.socket)
    }
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
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.socket.accept() => accepted,
        };
        let accepted = accepted.and_then(|(socket, _)| {
            let caller = caller(&socket, listener.access)?;
            Ok((socket, caller))
        });
        match accepted {
            Ok((socket, caller)) => {
                let manager = manager.clone();
                connections.spawn(async move {
                    connection::serve(socket, manager, caller).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(socket = %listener.name(), %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn caller(socket: &UnixStream, access: Access) -> std::io::Result<Caller> {
    let peer = socket.peer_cred()?;
    let pid = peer.pid().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    Ok(Caller::new(format!("uid {}{pid}, by libvirt", peer.uid()), access).via(Via::Unix))
}
