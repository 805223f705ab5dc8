//! Questions over TCP: each message has its length before it (RFC 1035 §4.2.2, RFC 7766).

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::MAX_QUERY;
use super::answer::Transport;
use super::gate::Gate;
use super::service::{Step, first_step, forward};
use crate::state::Shared;

/// A client that sends or takes nothing for so long has gone.
const IDLE: Duration = Duration::from_secs(10);

pub(super) async fn serve(
    listener: StdListener,
    shared: Shared,
    (connections, waiting): (Gate, Gate),
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a DNS connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Who finds no place is hung up on: it tries again or asks somebody else.
        let Some(place) = connections.enter(client.ip()) else { continue };
        let (shared, waiting) = (shared.clone(), waiting.clone());
        tokio::spawn(async move {
            if let Err(error) = serve_client(stream, client, &shared, &waiting, IDLE).await {
                tracing::debug!(%client, %error, "a DNS connection ended");
            }
            drop(place);
        });
    }
}

pub(super) async fn serve_client(
    mut stream: TcpStream,
    client: SocketAddr,
    shared: &Shared,
    waiting: &Gate,
    idle: Duration,
) -> io::Result<()> {
    while let Some(bytes) = timeout(idle, read_message(&mut stream, MAX_QUERY)).await?? {
        let reply = match first_step(&bytes, client, Transport::Tcp, shared) {
            Step::Nothing => None,
            Step::Reply(reply) => Some(reply),
            Step::Forward => forward(&bytes, client, Transport::Tcp, shared, waiting).await,
        };
        let Some(reply) = reply else { return Ok(()) };
        timeout(idle, write_message(&mut stream, &reply)).await??;
    }
    Ok(())
}

/// `None` at the end of the stream.
pub(super) async fn read_message(
    stream: &mut TcpStream,
    most: usize,
) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => usize::from(length),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(Some(bytes))
}

pub(super) async fn write_message(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // In one write, so that it leaves in one packet.
    let message = [&length.to_be_bytes(), bytes].concat();
    stream.write_all(&message).await
}
