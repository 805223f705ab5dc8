//! A typed client of the API, over a unix socket, TCP or TLS.
//!
//! Each call opens a connection of its own: on a unix socket that costs less than finding out
//! whether an idle one is still good.

mod access;
mod backup;
mod block_jobs;
mod console;
mod devices;
mod domain;
mod endpoint;
mod events;
mod guest;
mod guest_cpus;
mod host;
mod host_devices;
mod import;
mod metadata;
mod network;
mod saved;
mod snapshot;
mod storage;
mod tls;
mod tuning;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

pub use console::{Console, ConsoleReader, ConsoleWriter};
pub use endpoint::{BadUri, DEFAULT_SOCKET, Endpoint, READ_ONLY_SOCKET};
pub use events::EventStream;
pub use storage::Download;
pub use tls::{Identity, IdentityError, IdentityParts};

use crate::types::{PROBLEM_JSON, Problem, XML};

/// Longer than any operation's own deadline: it bounds what a dead daemon can cost.
const TIMEOUT: Duration = Duration::from_secs(150);
/// An address that nobody answers from is given up after so long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Definitions and lists are far smaller.
const MAX_REPLY: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("failed to connect to {endpoint}")]
    Unreachable { endpoint: Endpoint, source: std::io::Error },
    /// What the daemon answered.
    #[error(transparent)]
    Refused(#[from] Box<Problem>),
    #[error("the connection to {endpoint} broke off")]
    Broken { endpoint: Endpoint, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("no answer from {endpoint} within {} s", TIMEOUT.as_secs())]
    Timeout { endpoint: Endpoint },
    #[error("{endpoint} does not speak Manor's API: {what}")]
    Foreign { endpoint: Endpoint, what: String },
}

type Result<T> = std::result::Result<T, ClientError>;

/// A daemon to talk to. Nothing is connected until a call is made.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    /// For an endpoint of TLS.
    identity: Option<Identity>,
}

/// A body to send.
enum Payload {
    Nothing,
    Xml(String),
    Json(Vec<u8>),
    /// Bytes as they come, and how many, if that is known.
    Bytes(Outgoing, Option<u64>),
}

type Outgoing = BoxBody<Bytes, std::io::Error>;

impl Client {
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, identity: None }
    }

    /// Over TLS.
    #[must_use]
    pub fn with_identity(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.answer(self.call(Method::GET, path, Payload::Nothing).await?)
    }

    fn answer<T: DeserializeOwned>(&self, body: Bytes) -> Result<T> {
        serde_json::from_slice(&body).map_err(|error| self.foreign(&error.to_string()))
    }

    /// One request and its whole reply.
    async fn call(&self, method: Method, path: &str, body: Payload) -> Result<Bytes> {
        self.in_time(async {
            let response = self.send(method, path, body, |request| request).await?;
            if response.status().is_success() {
                return self.body(response).await;
            }
            Err(self.refusal(response).await)
        })
        .await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(TIMEOUT, work)
            .await
            .unwrap_or_else(|_| Err(ClientError::Timeout { endpoint: self.endpoint.clone() }))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Payload,
        extra: impl FnOnce(hyper::http::request::Builder) -> hyper::http::request::Builder,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.host());
        // A token goes over TLS and nowhere else.
        if let (Endpoint::Tls(_), Some(identity)) = (&self.endpoint, &self.identity)
            && let Some(token) = &identity.token
        {
            request = request.header(AUTHORIZATION, token);
        }
        request = match &body {
            Payload::Nothing => request,
            Payload::Xml(_) => request.header(CONTENT_TYPE, XML),
            Payload::Json(_) => request.header(CONTENT_TYPE, "application/json"),
            Payload::Bytes(_, length) => {
                let request = request.header(CONTENT_TYPE, "application/octet-stream");
                match length {
                    Some(length) => request.header(CONTENT_LENGTH, *length),
                    None => request,
                }
            }
        };
        let whole = |bytes: Bytes| Full::new(bytes).map_err(|never| match never {}).boxed();
        let body = match body {
            Payload::Nothing => whole(Bytes::new()),
            Payload::Xml(text) => whole(text.into()),
            Payload::Json(text) => whole(text.into()),
            Payload::Bytes(body, _) => body,
        };
        let request = extra(request).body(body).map_err(|error| ClientError::Broken {
            endpoint: self.endpoint.clone(),
            source: error.into(),
        })?;
        match self.connect().await? {
            Connected::Unix(stream) => self.exchange(stream, request).await,
            Connected::Tcp(stream) => self.exchange(stream, request).await,
            Connected::Tls(stream) => self.exchange(*stream, request).await,
        }
    }

    async fn exchange<S>(&self, stream: S, request: Request<Outgoing>) -> Result<Response<Incoming>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        // It ends with the response's body, or when that is dropped.
        tokio::spawn(connection.with_upgrades());
        sender.ready().await.map_err(|error| self.broken(error))?;
        sender.send_request(request).await.map_err(|error| self.broken(error))
    }

    async fn connect(&self) -> Result<Connected> {
        let connected = match &self.endpoint {
            Endpoint::Unix(path) => UnixStream::connect(path).await.map(Connected::Unix),
            Endpoint::Tcp(address) => dial(address).await.map(Connected::Tcp),
            Endpoint::Tls(address) => self.connect_tls(address).await,
        };
        connected
            .map_err(|source| ClientError::Unreachable { endpoint: self.endpoint.clone(), source })
    }

    async fn connect_tls(&self, address: &str) -> std::io::Result<Connected> {
        let missing = || std::io::Error::other("nobody said which authority's servers to trust");
        let identity = self.identity.as_ref().ok_or_else(missing)?;
        let stream = dial(address).await?;
        let greeting = tokio::time::timeout(CONNECT_TIMEOUT, identity.connect(address, stream));
        let stream = greeting.await.map_err(|_| std::io::ErrorKind::TimedOut)??;
        Ok(Connected::Tls(Box::new(stream)))
    }

    /// What comes back for these bytes over TLS.
    #[cfg(test)]
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let Ok(Connected::Tls(mut stream)) = self.connect().await else { return String::new() };
        stream.write_all(bytes).await.unwrap();
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        String::from_utf8_lossy(&reply).into_owned()
    }

    fn host(&self) -> &str {
        match &self.endpoint {
            Endpoint::Unix(_) => "localhost",
            Endpoint::Tcp(address) | Endpoint::Tls(address) => address,
        }
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes> {
        let body = http_body_util::Limited::new(response.into_body(), MAX_REPLY);
        body.collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .map_err(|source| ClientError::Broken { endpoint: self.endpoint.clone(), source })
    }

    /// What a response that is no success says.
    async fn refusal(&self, response: Response<Incoming>) -> ClientError {
        let status = response.status();
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with(PROBLEM_JSON)) {
            return self.foreign(&format!("it answered {status}"));
        }
        match self.body(response).await.and_then(|body| self.answer::<Problem>(body)) {
            Ok(problem) => ClientError::Refused(Box::new(problem)),
            Err(error) => error,
        }
    }

    fn broken(&self, error: hyper::Error) -> ClientError {
        ClientError::Broken { endpoint: self.endpoint.clone(), source: error.into() }
    }

    fn foreign(&self, what: &str) -> ClientError {
        ClientError::Foreign { endpoint: self.endpoint.clone(), what: what.to_owned() }
    }
}

enum Connected {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<tls::TlsStream>),
}

async fn dial(address: &str) -> std::io::Result<TcpStream> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    let stream = connecting.await.map_err(|_| std::io::ErrorKind::TimedOut)??;
    // Requests and keys are small; waiting to fill a packet only delays them.
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn json<T: Serialize>(body: &T) -> Payload {
    Payload::Json(serde_json::to_vec(body).unwrap_or_default())
}

fn domain_path(domain: &str, rest: &str) -> String {
    format!("/v1/domains/{}{rest}", percent(domain))
}

/// A path with a query, of a type whose members are strings, numbers and switches.
fn path<Q: Serialize>(path: &str, query: &Q) -> String {
    let members = serde_json::to_value(query).unwrap_or_default();
    let mut path = path.to_owned();
    let members = members.as_object().into_iter().flatten();
    for (index, (name, value)) in members.enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        path.push_str(&format!("{name}={}", percent(&value)));
    }
    path
}

/// RFC 3986: everything but the unreserved characters is encoded, slashes too.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
