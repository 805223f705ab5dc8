//! The DHCP server on its socket.

use std::net::UdpSocket as StdSocket;
use std::time::Duration;
use std::{future, io};

use tokio::net::UdpSocket;

use crate::limit::Quiet;
use crate::state::{Shared, now};

/// Larger than any message of a client; what is cut off here ends at an incomplete option.
const BUFFER: usize = 4096;

pub(crate) async fn serve(socket: Option<StdSocket>, shared: Shared) -> io::Result<()> {
    let Some(socket) = socket else { return future::pending().await };
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    let mut buffer = vec![0; BUFFER];
    let mut trouble = Quiet::once_in(Duration::from_secs(60));
    loop {
        let result = exchange(&socket, &mut buffer, &shared).await;
        if let Err(error) = result {
            // The bridge is down, or the client has gone: neither ends the service.
            if let Some(held_back) = trouble.admit() {
                tracing::warn!(%error, held_back, "a DHCP message could not be received or sent");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn exchange(socket: &UdpSocket, buffer: &mut [u8], shared: &Shared) -> io::Result<()> {
    let (length, _) = socket.recv_from(buffer).await?;
    let packet = buffer.get(..length).unwrap_or_default();
    // The lease is written to its file in here. That is one write into the page cache, and the
    // client must not hear of a lease that was not on record first.
    let reply = shared.lock().dhcp.as_mut().and_then(|dhcp| dhcp.handle(packet, now()));
    if let Some(reply) = reply {
        socket.send_to(&reply.bytes, reply.to).await?;
    }
    Ok(())
}
