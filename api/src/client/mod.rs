//! A typed client of the API, over a unix socket, TCP or TLS.
//!
//! Each call opens a connection of its own: on a unix socket that costs less than finding out
//! whether an idle one is still good.

mod access;
mod backup;
mod block_jobs;
mod console;
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

use crate::types::{self, PROBLEM_JSON, Problem, XML};

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

    pub async fn list(&self, query: &types::ListQuery) -> Result<Vec<types::DomainSummary>> {
        let list: types::DomainList = self.get(&path("/v1/domains", query)).await?;
        Ok(list.domains)
    }

    pub async fn domain(&self, domain: &str) -> Result<types::Domain> {
        self.get(&domain_path(domain, "")).await
    }

    pub async fn state(&self, domain: &str) -> Result<types::DomainState> {
        self.get(&domain_path(domain, "/state")).await
    }

    /// Of a running one.
    pub async fn security(&self, domain: &str) -> Result<Vec<types::SecurityFact>> {
        self.get(&domain_path(domain, "/security")).await
    }

    pub async fn stats(&self, domain: &str) -> Result<types::DomainStats> {
        self.get(&domain_path(domain, "/stats")).await
    }

    pub async fn all_stats(&self) -> Result<types::StatsList> {
        self.get("/v1/stats").await
    }

    pub async fn disks(&self, domain: &str, inactive: bool) -> Result<Vec<types::Disk>> {
        self.get(&domain_path(domain, &format!("/disks?inactive={inactive}"))).await
    }

    pub async fn interfaces(&self, domain: &str, inactive: bool) -> Result<Vec<types::Interface>> {
        self.get(&domain_path(domain, &format!("/interfaces?inactive={inactive}"))).await
    }

    /// `interface` is its MAC address, or the name of its tap.
    pub async fn set_link(
        &self,
        domain: &str,
        interface: &str,
        state: types::LinkState,
        affects: types::Affects,
    ) -> Result<()> {
        let place = format!("/interfaces/{}/link", percent(interface));
        let path = path(&domain_path(domain, &place), &affects);
        self.call(Method::PUT, &path, json(&types::Link { state })).await.map(drop)
    }

    /// `disk` is its target, or its image.
    pub async fn change_medium(
        &self,
        domain: &str,
        disk: &str,
        medium: &types::Medium,
        affects: types::Affects,
    ) -> Result<()> {
        let place = format!("/disks/{}/medium", percent(disk));
        let path = path(&domain_path(domain, &place), &affects);
        self.call(Method::PUT, &path, json(medium)).await.map(drop)
    }

    /// What the definition `xml` would change in a domain.
    pub async fn plan(&self, domain: &str, xml: String) -> Result<types::Plan> {
        let path = domain_path(domain, "/plan");
        self.answer(self.call(Method::POST, &path, Payload::Xml(xml)).await?)
    }

    /// Give a domain this definition, and make it true as far as that can be at once.
    pub async fn apply(&self, domain: &str, xml: String) -> Result<types::Job> {
        let path = domain_path(domain, "/apply");
        self.answer(self.call(Method::POST, &path, Payload::Xml(xml)).await?)
    }

    /// Put the device that `xml` describes into a domain.
    pub async fn attach_device(
        &self,
        domain: &str,
        xml: String,
        affects: types::Affects,
    ) -> Result<()> {
        let path = path(&domain_path(domain, "/devices"), &affects);
        self.call(Method::POST, &path, Payload::Xml(xml)).await.map(drop)
    }

    /// Change a device that stays.
    pub async fn update_device(
        &self,
        domain: &str,
        xml: String,
        affects: types::Affects,
    ) -> Result<()> {
        let path = path(&domain_path(domain, "/devices"), &affects);
        self.call(Method::PUT, &path, Payload::Xml(xml)).await.map(drop)
    }

    /// Take a device out, by its alias, target or MAC address.
    pub async fn detach_device(
        &self,
        domain: &str,
        device: &str,
        affects: types::Affects,
    ) -> Result<types::Detached> {
        let place = format!("/devices/{}", percent(device));
        let path = path(&domain_path(domain, &place), &affects);
        self.answer(self.call(Method::DELETE, &path, Payload::Nothing).await?)
    }

    /// Take out the device that `xml` describes.
    pub async fn detach_device_like(
        &self,
        domain: &str,
        xml: String,
        affects: types::Affects,
    ) -> Result<types::Detached> {
        let path = path(&domain_path(domain, "/devices/detach"), &affects);
        self.answer(self.call(Method::POST, &path, Payload::Xml(xml)).await?)
    }

    /// Make a disk larger while its domain runs.
    pub async fn resize_disk(&self, domain: &str, disk: &str, bytes: u64) -> Result<()> {
        let path = domain_path(domain, &format!("/disks/{}/size", percent(disk)));
        self.call(Method::PUT, &path, json(&types::DiskSize { bytes })).await.map(drop)
    }

    /// Where in its image's file; none: nobody wants to hear of it any more.
    pub async fn set_threshold(&self, domain: &str, disk: &str, bytes: Option<u64>) -> Result<()> {
        let path = domain_path(domain, &format!("/disks/{}/threshold", percent(disk)));
        self.call(Method::PUT, &path, json(&types::DiskThreshold { bytes })).await.map(drop)
    }

    pub async fn disk_sizes(&self, domain: &str, disk: &str) -> Result<types::DiskSizes> {
        self.get(&domain_path(domain, &format!("/disks/{}/size", percent(disk)))).await
    }

    /// A PNG file.
    pub async fn screenshot(&self, domain: &str) -> Result<Bytes> {
        self.call(Method::GET, &domain_path(domain, "/screenshot"), Payload::Nothing).await
    }

    pub async fn send_keys(&self, domain: &str, keys: &types::SendKeys) -> Result<()> {
        let path = domain_path(domain, "/send-keys");
        self.call(Method::POST, &path, json(keys)).await.map(drop)
    }

    /// What the guest is left with.
    pub async fn set_memory(
        &self,
        domain: &str,
        bytes: u64,
        affects: types::Affects,
    ) -> Result<()> {
        let path = path(&domain_path(domain, "/memory"), &affects);
        self.call(Method::PUT, &path, json(&types::Memory { bytes })).await.map(drop)
    }

    /// Seconds; 0: not at all.
    pub async fn set_stats_period(
        &self,
        domain: &str,
        period_s: u32,
        affects: types::Affects,
    ) -> Result<()> {
        let path = path(&domain_path(domain, "/memory/stats-period"), &affects);
        self.call(Method::PUT, &path, json(&types::StatsPeriod { period_s })).await.map(drop)
    }

    /// For so many seconds; counters tell it then.
    pub async fn measure_dirty_rate(&self, domain: &str, seconds: u32) -> Result<()> {
        let path = domain_path(domain, "/memory/dirty-rate");
        let body = json(&types::MeasureDirtyRate { seconds });
        self.call(Method::POST, &path, body).await.map(drop)
    }

    pub async fn xml(&self, domain: &str, inactive: bool, secure: bool) -> Result<String> {
        let path = domain_path(domain, &format!("/xml?inactive={inactive}&secure={secure}"));
        let reply = self.call(Method::GET, &path, Payload::Nothing).await?;
        String::from_utf8(reply.into()).map_err(|_| self.foreign("the XML is not UTF-8"))
    }

    pub async fn define(&self, definition: types::Definition) -> Result<types::Defined> {
        self.answer(self.call(Method::POST, "/v1/domains", document(definition)).await?)
    }

    /// Start a domain without storing it.
    pub async fn create(
        &self,
        definition: types::Definition,
        how: types::Start,
    ) -> Result<types::Defined> {
        let types::Start { paused, reset_nvram, .. } = how;
        let path = format!("/v1/domains?transient=true&paused={paused}&reset_nvram={reset_nvram}");
        self.answer(self.call(Method::POST, &path, document(definition)).await?)
    }

    /// `nvram` must be said where the domain has firmware variables.
    pub async fn undefine(
        &self,
        domain: &str,
        nvram: Option<types::Nvram>,
        managed_save: bool,
        snapshots: bool,
    ) -> Result<()> {
        let nvram = match nvram {
            None => "",
            Some(types::Nvram::Keep) => "&nvram=keep",
            Some(types::Nvram::Delete) => "&nvram=delete",
        };
        let snapshots = if snapshots { "&snapshots=forget" } else { "" };
        let query = format!("?managed_save={managed_save}{nvram}{snapshots}");
        self.call(Method::DELETE, &domain_path(domain, &query), Payload::Nothing).await.map(drop)
    }

    pub async fn rename(&self, domain: &str, name: &str) -> Result<()> {
        let body = json(&types::Rename { name: name.to_owned() });
        self.call(Method::POST, &domain_path(domain, "/rename"), body).await.map(drop)
    }

    pub async fn set_autostart(&self, domain: &str, wanted: types::DomainAutostart) -> Result<()> {
        let body = json(&wanted);
        self.call(Method::PUT, &domain_path(domain, "/autostart"), body).await.map(drop)
    }

    pub async fn start(&self, domain: &str, how: types::Start) -> Result<()> {
        let types::Start { paused, reset_nvram, force_boot, force } = how;
        let query = format!(
            "paused={paused}&reset_nvram={reset_nvram}&force_boot={force_boot}&force={force}"
        );
        self.verb(domain, &format!("start?{query}")).await
    }

    /// `mode`: `agent`, `acpi`, or both with a comma; the daemon chooses if there is none.
    pub async fn shutdown(&self, domain: &str, mode: Option<&str>) -> Result<()> {
        self.verb(domain, &format!("shutdown{}", mode_query(mode))).await
    }

    pub async fn destroy(&self, domain: &str, graceful: bool) -> Result<()> {
        self.verb(domain, &format!("destroy?graceful={graceful}")).await
    }

    pub async fn reboot(&self, domain: &str, mode: Option<&str>) -> Result<()> {
        self.verb(domain, &format!("reboot{}", mode_query(mode))).await
    }

    pub async fn reset(&self, domain: &str) -> Result<()> {
        self.verb(domain, "reset").await
    }

    /// A non-maskable interrupt to every vCPU.
    pub async fn inject_nmi(&self, domain: &str) -> Result<()> {
        self.verb(domain, "nmi").await
    }

    /// `event`: `poweroff`, `reboot` or `crash`.
    pub async fn set_lifecycle_action(
        &self,
        domain: &str,
        event: &str,
        action: &str,
        affects: types::Affects,
    ) -> Result<()> {
        let change = types::LifecycleAction { event: event.to_owned(), action: action.to_owned() };
        let path = path(&domain_path(domain, "/lifecycle-action"), &affects);
        self.call(Method::PUT, &path, json(&change)).await.map(drop)
    }

    pub async fn suspend(&self, domain: &str) -> Result<()> {
        self.verb(domain, "suspend").await
    }

    pub async fn resume(&self, domain: &str) -> Result<()> {
        self.verb(domain, "resume").await
    }

    pub async fn node(&self) -> Result<types::Node> {
        self.get("/v1/node").await
    }

    pub async fn capabilities(&self) -> Result<String> {
        self.text("/v1/node/capabilities").await
    }

    async fn verb(&self, domain: &str, verb: &str) -> Result<()> {
        let path = domain_path(domain, &format!("/{verb}"));
        self.call(Method::POST, &path, Payload::Nothing).await.map(drop)
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

/// XML as it is, where nothing comes with it.
fn document(definition: types::Definition) -> Payload {
    match definition.cloud_init {
        None => Payload::Xml(definition.xml),
        Some(_) => json(&definition),
    }
}

fn json<T: Serialize>(body: &T) -> Payload {
    Payload::Json(serde_json::to_vec(body).unwrap_or_default())
}

fn mode_query(mode: Option<&str>) -> String {
    mode.map(|mode| format!("?mode={}", percent(mode))).unwrap_or_default()
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
