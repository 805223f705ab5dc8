//! The control socket: one request and one reply a line, in JSON.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore};

use crate::config::Settings;
use crate::state::Shared;
use crate::{dhcp, dhcp6, dns, router};

/// Longest line, bytes.
pub const MAX_LINE: u64 = 1 << 20;
/// Connections at once; more wait to be accepted. The daemon needs one.
const MAX_CLIENTS: usize = 8;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Serve by other settings. All of them are replaced.
    Configure(Box<Settings>),
    Status {},
    /// End the process.
    Stop {},
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Ok(Answer),
    Error(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    Status(Box<Status>),
    Done {},
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub network: String,
    /// Of the program that serves: a server may be older than its daemon.
    pub version: String,
    /// Number of the process.
    pub pid: u32,
    /// Leases that have not ended.
    pub leases: usize,
    pub dhcp: dhcp::Counters,
    #[serde(default)]
    pub dhcp6: dhcp6::Counters,
    pub dns: dns::Counters,
    pub router: router::Counters,
}

/// Ask the server at the other end of `stream`.
pub async fn call(stream: &mut UnixStream, request: &Request) -> io::Result<Reply> {
    stream.write_all(&line_of(request)?).await?;
    let mut reader = BufReader::new(stream);
    let line = read_line(&mut reader).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    serde_json::from_slice(&line).map_err(io::Error::from)
}

/// Accept clients for ever; `stop` is told when one of them asks for the end.
pub(crate) async fn serve(listener: UnixListener, shared: Shared, stop: Arc<Notify>) {
    let room = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (shared, stop) = (shared.clone(), stop.clone());
                tokio::spawn(async move {
                    if let Err(error) = serve_client(stream, &shared, &stop).await {
                        tracing::debug!(%error, "a control connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: some come back as connections end.
                tracing::warn!(%error, "cannot accept a control connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve_client(stream: UnixStream, shared: &Shared, stop: &Notify) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(line) = read_line(&mut stream).await? {
        let request = serde_json::from_slice::<Request>(&line);
        let ends = matches!(request, Ok(Request::Stop {}));
        let reply = match request {
            Ok(request) => carry_out(request, shared),
            Err(error) => Reply::Error(format!("the request is not valid: {error}")),
        };
        stream.write_all(&line_of(&reply)?).await?;
        if ends {
            stop.notify_one();
        }
    }
    Ok(())
}

fn carry_out(request: Request, shared: &Shared) -> Reply {
    match request {
        Request::Configure(settings) => match shared.lock().configure(*settings) {
            Ok(()) => {
                tracing::info!("serving by new settings");
                Reply::Ok(Answer::Done {})
            }
            Err(error) => Reply::Error(crate::chain(&error)),
        },
        Request::Status {} => Reply::Ok(Answer::Status(Box::new(shared.lock().status()))),
        Request::Stop {} => Reply::Ok(Answer::Done {}),
    }
}

fn line_of(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// `None` at the end of the stream. A line that is too long ends the connection: what follows it
/// cannot be told from its rest.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream.take(MAX_LINE + 1).read_until(b'\n', &mut line).await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() as u64 >= MAX_LINE => Err(io::ErrorKind::InvalidData.into()),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::dhcp::{Link, Server};
    use crate::state::State;

    struct Rig {
        directory: tempfile::TempDir,
        stop: Arc<Notify>,
        server: JoinHandle<()>,
    }

    fn rig() -> Rig {
        let config = serde_json::from_value(json!({
            "version": 1, "name": "lab", "bridge": "br0",
            "files": { "control": 4, "dhcp": 5 }, "ipv4": "192.168.7.1/24",
        }));
        let config: crate::config::NetworkConfig = config.unwrap();
        let link = Link::of(&config).unwrap();
        let dhcp = Some(Server::new(link, &config.settings, None, Vec::new()));
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("control")).unwrap();
        let stop = Arc::new(Notify::new());
        let shared = Shared::new(State::new(config, dhcp));
        let server = tokio::spawn(serve(listener, shared, stop.clone()));
        Rig { directory, stop, server }
    }

    impl Rig {
        async fn connect(&self) -> UnixStream {
            UnixStream::connect(self.directory.path().join("control")).await.unwrap()
        }
    }

    #[tokio::test]
    async fn settings_are_changed_or_refused_in_whole() {
        let rig = rig();
        let mut stream = rig.connect().await;
        let range = json!({ "start": "192.168.7.2", "end": "192.168.7.9" });
        let good = json!({ "dhcp": { "ranges": [range] } });
        let good = Request::Configure(serde_json::from_value(good).unwrap());
        assert_eq!(call(&mut stream, &good).await.unwrap(), Reply::Ok(Answer::Done {}));
        let range = json!({ "start": "10.0.0.2", "end": "10.0.0.9" });
        let bad = json!({ "dhcp": { "ranges": [range] } });
        let bad = Request::Configure(serde_json::from_value(bad).unwrap());
        let Reply::Error(text) = call(&mut stream, &bad).await.unwrap() else { panic!("accepted") };
        assert_eq!(text, "DHCP range 10.0.0.2 - 10.0.0.9 lies outside 192.168.7.1/24");
        let reply = call(&mut stream, &Request::Status {}).await.unwrap();
        let Reply::Ok(Answer::Status(status)) = reply else { panic!("{reply:?}") };
        assert_eq!((status.network.as_str(), status.leases), ("lab", 0));
    }

    #[tokio::test]
    async fn a_request_is_a_line_of_json_and_a_bad_one_harms_nobody() {
        let rig = rig();
        let mut bad = rig.connect().await;
        bad.write_all(b"{\"dance\":{}}\n{\"status\":{}}\n").await.unwrap();
        let mut lines = BufReader::new(bad).lines();
        assert!(lines.next_line().await.unwrap().unwrap().starts_with("{\"error\":"));
        assert!(lines.next_line().await.unwrap().unwrap().starts_with("{\"ok\":{\"network\":"));
        let mut endless = rig.connect().await;
        let line = vec![b'x'; MAX_LINE as usize + 10];
        // The server hangs up, perhaps before all of it is sent.
        let _ = endless.write_all(&line).await;
        assert!(matches!(endless.read(&mut [0; 8]).await, Ok(0) | Err(_)));
        let mut next = rig.connect().await;
        assert!(matches!(call(&mut next, &Request::Status {}).await, Ok(Reply::Ok(_))));
    }

    #[tokio::test]
    async fn stop_is_answered_and_told() {
        let rig = rig();
        let mut stream = rig.connect().await;
        assert_eq!(call(&mut stream, &Request::Stop {}).await.unwrap(), Reply::Ok(Answer::Done {}));
        rig.stop.notified().await;
        rig.server.abort();
    }
}
