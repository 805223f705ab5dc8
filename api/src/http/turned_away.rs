//! [`TurnedAway`]: users of whom one more connection would be too many, who are told so.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::error::{Failure, HttpCode};
use crate::types::PROBLEM_JSON;

/// Who wait for their answer at a time; to the others the socket is closed without a word.
const MOST: usize = 64;
/// To whoever asks nothing for so long, it is said unasked.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is read of a question.
const QUESTION: usize = 8 << 10;

#[derive(Debug)]
pub(super) struct TurnedAway {
    waiting: Arc<Semaphore>,
}

impl Default for TurnedAway {
    fn default() -> Self {
        Self { waiting: Arc::new(Semaphore::new(MOST)) }
    }
}

impl TurnedAway {
    /// An answer that comes before its question is a broken connection to most clients: it waits for that.
    pub(super) fn tell(&self, stream: UnixStream, user: u32) {
        tracing::debug!(uid = user, "too many connections of one user");
        let Ok(turn) = Arc::clone(&self.waiting).try_acquire_owned() else { return };
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PATIENCE, question(&stream)).await;
            // A new connection has room for it.
            let _ = stream.try_write(answer().as_bytes());
            drop(turn);
        });
    }
}

/// It is the same answer to all of them.
async fn question(stream: &UnixStream) -> std::io::Result<()> {
    loop {
        // It may say so of a new connection that has nothing to read.
        stream.readable().await?;
        match stream.try_read(&mut [0; QUESTION]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => return other.map(drop),
        }
    }
}

fn answer() -> String {
    let text = "this user has too many connections to this socket; close some";
    let failure = Failure::new(HttpCode::TooManyConnections, text);
    let body = serde_json::to_string(&failure.0).unwrap_or_default();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\
         Content-Type: {PROBLEM_JSON}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn whoever_asks_is_answered_then_and_whoever_does_not_is_told_at_last() {
        let turned_away = TurnedAway::default();
        for question in ["GET / HTTP/1.1\r\n\r\n", ""] {
            let (mut client, server) = UnixStream::pair().unwrap();
            turned_away.tell(server, 7);
            let early = tokio::time::timeout(PATIENCE / 4, client.read_u8()).await;
            assert!(early.is_err(), "before it was asked");
            client.write_all(question.as_bytes()).await.unwrap();
            let mut told = String::new();
            client.read_to_string(&mut told).await.unwrap();
            assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("too many"), "{told}");
        }
    }

    #[tokio::test]
    async fn only_so_many_wait() {
        let turned_away = TurnedAway::default();
        let mut waiting = Vec::new();
        for _ in 0..MOST {
            let (client, server) = UnixStream::pair().unwrap();
            turned_away.tell(server, 7);
            waiting.push(client);
        }
        let (mut client, server) = UnixStream::pair().unwrap();
        turned_away.tell(server, 7);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "it was closed");
    }
}
