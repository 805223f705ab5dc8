//! Questions over UDP.

use std::io;
use std::net::UdpSocket as StdSocket;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::MAX_QUERY;
use super::answer::Transport;
use super::gate::Gate;
use super::service::{Step, first_step, forward};
use crate::limit::Quiet;
use crate::state::Shared;

pub(super) async fn serve(socket: StdSocket, shared: Shared, waiting: Gate) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let socket = Arc::new(UdpSocket::from_std(socket)?);
    let mut buffer = vec![0; MAX_QUERY];
    let mut trouble = Quiet::once_in(Duration::from_secs(60));
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // Such as that a client did not listen for its answer: the next is another's.
                if let Some(held_back) = trouble.admit() {
                    tracing::warn!(%error, held_back, "a DNS query could not be received");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        match first_step(bytes, client, Transport::Udp, &shared) {
            Step::Nothing => {}
            // A client that cannot be reached is its own trouble.
            Step::Reply(reply) => drop(socket.send_to(&reply, client).await),
            Step::Forward => {
                let (socket, shared) = (socket.clone(), shared.clone());
                let (bytes, waiting) = (bytes.to_vec(), waiting.clone());
                tokio::spawn(async move {
                    if let Some(reply) =
                        forward(&bytes, client, Transport::Udp, &shared, &waiting).await
                    {
                        let _ = socket.send_to(&reply, client).await;
                    }
                });
            }
        }
    }
}
