//! Clients that are broken, slow or malicious, on real sockets.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use management::Access;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::rig::Rig;
use crate::http::server::{ListenError, Listener, connection, serve};

/// A served socket; told to stop when dropped.
struct Served {
    path: PathBuf,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Served {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let listener = Listener::unix(&path, Access::Admin).unwrap();
        let (stop, stopped) = watch::channel(false);
        let rig = Rig::new().await;
        let task = tokio::spawn(async move {
            let rig = rig;
            serve(vec![listener], rig.router.clone(), stopped).await;
        });
        Self { path, stop, task, _directory: directory }
    }

    /// Send bytes, and return all that comes back until the server closes or is silent for a second.
    async fn exchange(&self, request: impl Into<Vec<u8>>) -> String {
        let (path, request) = (self.path.clone(), request.into());
        tokio::task::spawn_blocking(move || {
            let mut stream = connect(&path);
            // The server may close before it has read everything.
            let _ = stream.write_all(&request);
            read_all(&mut stream)
        })
        .await
        .unwrap()
    }

    async fn is_well(&self) {
        let reply = self.exchange("GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

fn read_all(stream: &mut UnixStream) -> String {
    let mut reply = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        reply.extend_from_slice(&buffer[..len]);
    }
    String::from_utf8_lossy(&reply).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_lie_about_their_length_are_refused() {
    let served = Served::new().await;
    let post = "POST /v1/domains HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/xml\r\n";
    for lie in [
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: 99999999999999999999999\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let reply = served.exchange(format!("{post}{lie}")).await;
        assert!(reply.starts_with("HTTP/1.1 400"), "{lie:?} → {reply:?}");
        assert_eq!(reply.matches("HTTP/1.1").count(), 1, "{lie:?} was taken for two requests");
    }
    let huge = format!("{post}Content-Length: 9223372036854775807\r\n\r\nx");
    let reply = served.exchange(huge).await;
    assert!(reply.starts_with("HTTP/1.1 413"), "{reply:?}");
    served.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_hides_no_second_request() {
    let served = Served::new().await;
    // Were Content-Length believed, the text after the last chunk would be a request of its own.
    let request = "POST /v1/domains/a/rename HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/json\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
        2\r\n{}\r\n0\r\n\r\nGET /v1/node HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let reply = served.exchange(request).await;
    assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
    assert!(!reply.contains("hostname"), "{reply}");
    served.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_of_a_body_that_make_no_sense_are_refused() {
    let served = Served::new().await;
    let post = "POST /v1/domains HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/xml\r\n\
        Transfer-Encoding: chunked\r\n\r\n";
    let (extension, trailers) = ("a".repeat(1 << 20), "a: b\r\n".repeat(100_000));
    for pieces in [
        "-1\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "2\n{}\n0\n\n",
        "2\r\n{}XX0\r\n\r\n",
        "10000000000000000\r\n{}\r\n0\r\n\r\n",
        &format!("2;{extension}\r\n{{}}\r\n0\r\n\r\n"),
        &format!("2\r\n{{}}\r\n0\r\n{trailers}\r\n"),
    ] {
        let reply = served.exchange(format!("{post}{pieces}")).await;
        let begin = &pieces[..pieces.len().min(40)];
        assert!(reply.starts_with("HTTP/1.1 400"), "{begin:?} → {reply:?}");
        assert_eq!(reply.matches("HTTP/1.1").count(), 1, "{begin:?} was taken for two requests");
    }
    served.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_two_hosts_is_for_none() {
    let served = Served::new().await;
    let get = "GET /v1/node HTTP/1.1\r\n";
    for hosts in ["Host: localhost\r\nHost: evil", "Host: localhost\r\nHost: localhost"] {
        let reply = served.exchange(format!("{get}{hosts}\r\n\r\n")).await;
        assert!(reply.starts_with("HTTP/1.1 400"), "{hosts:?} → {reply}");
        assert!(reply.contains("one Host"), "{reply}");
    }
    served.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_heads_are_cut_off() {
    let served = Served::new().await;
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a: b\r\n".repeat(100_000));
    let reply = served.exchange(many).await;
    assert!(reply.starts_with("HTTP/1.1 431") || reply.is_empty(), "{reply}");
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(1 << 20));
    let reply = served.exchange(long).await;
    assert!(reply.starts_with("HTTP/1.1 4") || reply.is_empty(), "{reply}");
    served.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_http_are_answered_400() {
    let served = Served::new().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/1.1\r\nHo\0st: x\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\xff\xff\xff\xff\r\n\r\n",
    ] {
        let reply = served.exchange(bytes).await;
        assert!(reply.starts_with("HTTP/1.1 400") || reply.is_empty(), "{bytes:?} → {reply}");
    }
    served.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let served = Served::new().await;
    let one = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let reply =
        served.exchange(format!("{one}GET / HTTP/1.1\r\nHost: localhost\r\n\r\n{one}")).await;
    let statuses: Vec<_> =
        reply.match_indices("HTTP/1.1 ").map(|(at, _)| &reply[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["404", "200", "404"]);
}

/// A connection that sends nothing takes a place and nothing else; others are still served.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_keep_others_out() {
    let served = Served::new().await;
    let path = served.path.clone();
    let idle: Vec<_> = (0..200).map(|_| connect(&path)).collect();
    let begun = Instant::now();
    served.is_well().await;
    assert!(begun.elapsed() < Duration::from_secs(3));
    drop(idle);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_in_is_given_up() {
    let rig = Rig::new().await;
    let trickle = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, std::io::Error>("x"), ()))
    });
    let body = axum::body::Body::from_stream(trickle);
    let begun = tokio::time::Instant::now();
    let reply = rig.call("POST /v1/domains", "application/xml", body).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (408, "slow-request"));
    assert!(begun.elapsed() <= crate::http::BODY_TIMEOUT + Duration::from_secs(1));
    assert_eq!(reply.headers["connection"], "close");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    use tokio::io::AsyncWriteExt as _;
    let (near, far) = tokio::io::duplex(1024);
    let mut stalled = crate::http::stalled::Stalled::new(near, Duration::from_millis(50));
    let error = stalled.write_all(&[0; 4096]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    drop(far);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_open_connections_soon() {
    let served = Served::new().await;
    let idle = connect(&served.path);
    served.is_well().await;
    let begun = Instant::now();
    served.stop.send(true).unwrap();
    served.task.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4));
    drop(idle);
}

#[tokio::test]
async fn a_dead_daemons_socket_is_replaced_and_a_live_ones_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = Listener::unix(&path, Access::Admin).unwrap();
    let second = Listener::unix(&path, Access::Admin).unwrap_err();
    assert!(matches!(second, ListenError::InUse { .. }), "{second}");
    drop(listener);

    let long = directory.path().join("x".repeat(120));
    let refused = Listener::unix(&long, Access::Admin).unwrap_err().to_string();
    assert!(refused.ends_with("and the kernel takes 107 at most"), "{refused}");

    // Something that is no socket is nobody's to remove.
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Listener::unix(&file, Access::Admin).is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn tcp_is_for_loopback_alone() {
    for address in ["0.0.0.0:0", "192.0.2.1:80", "[::]:0"] {
        let refused = Listener::tcp(address, Access::Admin).await.unwrap_err();
        assert!(matches!(refused, ListenError::NotLoopback { .. }), "{refused}");
    }
    assert!(Listener::tcp("localhost", Access::Admin).await.is_err());
    assert!(Listener::tcp("127.0.0.1:0", Access::Read).await.unwrap().port().is_some());
}

/// What was asked for became a WebSocket: its request has long ended, and its place is still taken.
#[tokio::test]
async fn a_connection_keeps_its_place_until_it_is_closed() {
    use axum::extract::Request;
    use axum::http::{StatusCode, header};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let upgrade = |request: Request| async {
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(request).await.unwrap();
            let mut stream = hyper_util::rt::TokioIo::new(upgraded);
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket")];
        (StatusCode::SWITCHING_PROTOCOLS, headers)
    };
    let router = axum::Router::new().route("/", axum::routing::get(upgrade));
    let place = std::sync::Arc::new(());
    let (mut client, served) = tokio::io::duplex(4096);
    let (_stop, stopped) = watch::channel(false);
    let (held, name) = (place.clone(), "test".to_owned());
    let serving = tokio::spawn(connection(served, held, name, (), router, stopped));
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut reply = [0; 12];
    client.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"HTTP/1.1 101");
    serving.await.unwrap();
    assert_eq!(std::sync::Arc::strong_count(&place), 2, "it is open");
    drop(client);
    while std::sync::Arc::strong_count(&place) > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
