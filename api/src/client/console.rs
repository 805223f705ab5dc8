//! A guest's console.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::{Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Client, ClientError, Endpoint, Payload, Result, domain_path, percent};

/// A daemon that does not answer keeps nobody from leaving.
const FAREWELL: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// An open console: both directions, to be used side by side.
#[derive(Debug)]
pub struct Console {
    pub reader: ConsoleReader,
    pub writer: ConsoleWriter,
}

#[derive(Debug)]
pub struct ConsoleReader {
    socket: SplitStream<Socket>,
    endpoint: Endpoint,
}

#[derive(Debug)]
pub struct ConsoleWriter {
    socket: SplitSink<Socket, Message>,
    endpoint: Endpoint,
}

impl Client {
    /// Attach to a console: the first one, or that of this device.
    pub async fn console(
        &self,
        domain: &str,
        device: Option<&str>,
        force: bool,
    ) -> Result<Console> {
        let device = device.map(|device| format!("&device={}", percent(device)));
        let query = format!("/console?force={force}{}", device.unwrap_or_default());
        let path = domain_path(domain, &query);
        self.in_time(async {
            let response = self
                .send(Method::GET, &path, Payload::Nothing, |request| {
                    request
                        .header(header::CONNECTION, "upgrade")
                        .header(header::UPGRADE, "websocket")
                        .header(header::SEC_WEBSOCKET_VERSION, "13")
                        .header(header::SEC_WEBSOCKET_KEY, generate_key())
                })
                .await?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Err(self.refusal(response).await);
            }
            let upgraded =
                hyper::upgrade::on(response).await.map_err(|error| self.broken(error))?;
            let io = TokioIo::new(upgraded);
            let socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
            let (sink, stream) = socket.split();
            let endpoint = || self.endpoint().clone();
            Ok(Console {
                reader: ConsoleReader { socket: stream, endpoint: endpoint() },
                writer: ConsoleWriter { socket: sink, endpoint: endpoint() },
            })
        })
        .await
    }
}

impl Console {
    /// Say goodbye, and wait until the daemon has let go of the guest's console: it is free then.
    pub async fn leave(mut self) {
        let farewell = async {
            // One that is closed already needs no goodbye.
            if self.writer.socket.send(Message::Close(None)).await.is_ok() {
                while let Some(Ok(_)) = self.reader.socket.next().await {}
            }
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}

impl ConsoleReader {
    /// What the guest wrote next; none when the console closes.
    pub async fn read(&mut self) -> Result<Option<Bytes>> {
        loop {
            return match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => Ok(Some(bytes)),
                Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) | None => Ok(None),
                Some(Ok(_)) => continue,
                Some(Err(error)) => Err(broken(&self.endpoint, error)),
            };
        }
    }
}

impl ConsoleWriter {
    pub async fn write(&mut self, typed: Bytes) -> Result<()> {
        let sent = self.socket.send(Message::Binary(typed)).await;
        sent.map_err(|error| broken(&self.endpoint, error))
    }
}

fn broken(endpoint: &Endpoint, error: Error) -> ClientError {
    ClientError::Broken { endpoint: endpoint.clone(), source: error.into() }
}
