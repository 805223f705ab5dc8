//! The DHCPv6 server on its socket.

use std::net::{SocketAddr, SocketAddrV6, UdpSocket as StdSocket};
use std::time::Duration;
use std::{future, io};

use tokio::net::UdpSocket;

use crate::limit::Quiet;
use crate::state::{Shared, now};

/// Larger than any message of a client; what is cut off here ends at an incomplete option.
const BUFFER: usize = 4096;
/// Where clients listen, wherever they speak from (RFC 8415 §7.2).
const CLIENT: u16 = 546;

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
                tracing::warn!(%error, held_back, "a DHCPv6 message could not be received or sent");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn exchange(socket: &UdpSocket, buffer: &mut [u8], shared: &Shared) -> io::Result<()> {
    let (length, SocketAddr::V6(from)) = socket.recv_from(buffer).await? else { return Ok(()) };
    let packet = buffer.get(..length).unwrap_or_default();
    // As with IPv4, the lease is on record before the client hears of it.
    let handle = |server: &mut super::Server| server.handle(packet, *from.ip(), now());
    let reply = shared.lock().dhcp6.as_mut().and_then(handle);
    if let Some(reply) = reply {
        let to = SocketAddrV6::new(*from.ip(), CLIENT, 0, from.scope_id());
        socket.send_to(&reply, to).await?;
    }
    Ok(())
}
