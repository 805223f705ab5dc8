//! Requests that are wrong in any way, on a real socket: those of every route, and whatever chance makes
//! of their bytes. Nothing comes of it but answers; memory stays where it was, and others are served
//! meanwhile. `MANOR_TRIES=count:seed` sends more of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use manor_tests::chance::Chance;
use manor_tests::tries::{Tries, resident_bytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::access::raw_requests;
use crate::http::server::{Listener, serve};
use management::Access;
use management::torture::powerless_manager;

/// Requests that one daemon gets: what its admins define is kept, so another one goes on after them.
const EPOCH: usize = 20_000;
/// Clients at a time.
const CLIENTS: usize = 8;
/// What a daemon may hold on to beyond what the first one did.
const GROWTH: u64 = 96 << 20;
/// For an answer, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

const EVENTS: &[u8] = b"text/event-stream";
/// What a daemon says of mistakes of its own. That the host is not to be had is none.
const FAULT: &[u8] = b"urn:manor:error:internal";

#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    refused: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_wrong_in_any_way_disturb_nobody() {
    let torture = Tries::asked_or(2_000);
    let mut chance = torture.chance();
    let seeds = Arc::new(raw_requests());
    let counts = Arc::new(Counts::default());
    let (mut left, mut first, mut slowest) = (torture.count, None, Duration::ZERO);
    while left > 0 {
        let epoch = left.min(EPOCH);
        left -= epoch;
        let directory = tempfile::tempdir().unwrap();
        let router = crate::http::router(powerless_manager(directory.path()).await);
        let paths = [("all", Access::Admin), ("some", Access::Read)]
            .map(|(name, access)| (directory.path().join(name), access));
        let listeners = paths.iter().map(|(path, access)| Listener::unix(path, *access).unwrap());
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(serve(listeners.collect(), router, stopped));
        let paths = paths.map(|(path, _)| path);
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (mut own, paths) = (Chance::new(chance.below(1 << 30) as u64), paths.clone());
            let (seeds, counts) = (seeds.clone(), counts.clone());
            let share = epoch / CLIENTS + usize::from(client < epoch % CLIENTS);
            clients.spawn(async move {
                for _ in 0..share {
                    attack(&mut own, &paths, &seeds, &counts).await;
                }
            });
        }
        while !clients.is_empty() {
            slowest = slowest.max(is_served(&paths[1]).await);
            let one = tokio::time::timeout(Duration::from_millis(200), clients.join_next()).await;
            if let Ok(Some(ended)) = one {
                ended.unwrap();
            }
        }
        stop.send_replace(true);
        server.await.unwrap();
        let now = resident_bytes();
        let before = *first.get_or_insert(now);
        assert!(now <= before + GROWTH, "{before} bytes became {now}");
    }
    let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let (answered, refused) = (of(&counts.answered), of(&counts.refused));
    assert!(answered > torture.count / 2, "{answered} answers are too few to have tried anything");
    let found = format!("{answered} answered ({refused} of them 4xx), others waited {slowest:?}");
    torture.report("http requests", found);
}

/// One request of one connection, which ends with it.
async fn attack(chance: &mut Chance, paths: &[PathBuf; 2], seeds: &[Vec<u8>], counts: &Counts) {
    let mut request = chance.one_of(seeds).clone();
    for _ in 0..chance.below(5) {
        chance.vary(&mut request, seeds);
    }
    let mut stream = UnixStream::connect(chance.one_of(paths)).await.unwrap();
    // It may be refused before all of it is sent.
    if chance.once_in(8) {
        let (first, second) = request.split_at(chance.below(request.len() + 1));
        let _ = stream.write_all(first).await;
        tokio::task::yield_now().await;
        let _ = stream.write_all(second).await;
    } else {
        let _ = stream.write_all(&request).await;
    }
    // Gone at once, or half closed: nothing more is coming, whatever was announced.
    if chance.once_in(8) {
        return;
    }
    let _ = stream.shutdown().await;
    let (mut reply, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        // Events have no end; all else has.
        let is_endless = reply.windows(EVENTS.len()).any(|part| part == EVENTS);
        let patience = if is_endless { Duration::from_millis(20) } else { PATIENCE };
        match tokio::time::timeout(patience, stream.read(&mut buffer)).await {
            Ok(Ok(count @ 1..)) => reply.extend_from_slice(&buffer[..count]),
            Ok(_) => break,
            Err(_) if is_endless => break,
            Err(_) => panic!("{} has no end: {}", request.escape_ascii(), reply.escape_ascii()),
        }
    }
    let Some(status) = status(&reply) else { return };
    counts.answered.fetch_add(1, Ordering::Relaxed);
    counts.refused.fetch_add(usize::from(status / 100 == 4), Ordering::Relaxed);
    let is_our_fault = reply.windows(FAULT.len()).any(|part| part == FAULT);
    assert!(!is_our_fault, "{} → {}", request.escape_ascii(), reply.escape_ascii());
}

fn status(reply: &[u8]) -> Option<u16> {
    let line = reply.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

/// How long somebody else waits for what is always there.
async fn is_served(path: &Path) -> Duration {
    let begun = Instant::now();
    let served = tokio::time::timeout(PATIENCE, async {
        let mut stream = UnixStream::connect(path).await.unwrap();
        let request = b"GET /v1/domains HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        reply
    });
    let reply = served.await.expect("another client is answered");
    assert_eq!(status(&reply), Some(200), "{}", reply.escape_ascii());
    begun.elapsed()
}
