//! A guest's console over a WebSocket: binary frames, raw bytes both ways.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use management::ops;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use utoipa::IntoParams;

use super::App;
use super::error::{Failure, HttpCode};
use super::extract::{Domain, Params, Who, switch};

/// Typing and pasting; nobody sends more in one frame.
pub(super) const MAX_FRAME: usize = 64 << 10;
/// Finds peers that vanished without a word.
const PING: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ConsoleQuery {
    /// Alias (`serial0`) or channel name; the first console if absent.
    device: Option<String>,
    /// Throw out whoever has it.
    #[serde(deserialize_with = "switch")]
    force: bool,
    /// Leave out the recent output that a console begins with.
    #[serde(deserialize_with = "switch")]
    no_replay: bool,
}

/// Attach to a console over a WebSocket.
///
/// It begins with the recent output; binary frames carry what the
/// guest writes and what is typed. The socket closes when the guest ends.
#[utoipa::path(get, path = "/v1/domains/{domain}/console", tag = "Devices",
    params(Domain,
        ConsoleQuery),
    responses((status = 101, description = "Switching to WebSocket"),
        (status = 426, body = crate::types::Problem, content_type = "application/problem+json",
            description = "Not a WebSocket request")))]
pub(super) async fn console(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(query): Params<ConsoleQuery>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let upgrade = upgrade
        .map_err(|error| Failure::new(HttpCode::UpgradeRequired, error.body_text()))?
        .max_frame_size(MAX_FRAME)
        .max_message_size(MAX_FRAME);
    let open = ops::OpenConsole {
        domain,
        device: query.device,
        force: query.force,
        replay: !query.no_replay,
    };
    // Opened before the upgrade, so that a refusal is an ordinary error.
    let console = app.manager.call(&caller, open).await?;
    Ok(upgrade.on_upgrade(|socket| relay(socket, console.stream)))
}

/// Carry bytes until either side ends. The directions wait for nothing but their own reader: a guest
/// that takes no input is still heard.
pub(super) async fn relay(socket: WebSocket, guest: UnixStream) {
    let (from_guest, to_guest) = guest.into_split();
    let (to_client, from_client) = socket.split();
    tokio::select! {
        () = guest_to_client(from_guest, to_client) => {}
        () = client_to_guest(from_client, to_guest) => {}
    }
}

async fn guest_to_client(mut guest: OwnedReadHalf, mut client: SplitSink<WebSocket, Message>) {
    let mut buffer = vec![0; 16 << 10];
    let mut ping = tokio::time::interval(PING);
    ping.tick().await;
    loop {
        let message = tokio::select! {
            read = guest.read(&mut buffer) => match read {
                Ok(0) | Err(_) => break,
                Ok(len) => Message::Binary(Bytes::copy_from_slice(&buffer[..len])),
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        if client.send(message).await.is_err() {
            return;
        }
    }
    let reason = CloseFrame { code: close_code::NORMAL, reason: "console closed".into() };
    // Nobody is left to tell if this fails.
    let _ = client.send(Message::Close(Some(reason))).await;
}

async fn client_to_guest(mut client: SplitStream<WebSocket>, mut guest: OwnedWriteHalf) {
    while let Some(Ok(message)) = client.next().await {
        let typed = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return,
        };
        if guest.write_all(&typed).await.is_err() {
            return;
        }
    }
}
