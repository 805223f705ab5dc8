//! [`Leash`]: a connection ends when the token that it was let in by does. Requests are looked at
//! one by one, but a stream or a console is one request that lasts.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use management::Manager;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// For the answer to the request by which a token revokes itself.
const GRACE: Duration = Duration::from_millis(500);

/// The hand that can end a connection.
#[derive(Debug)]
pub(in crate::http) struct Leash {
    cut: watch::Sender<bool>,
    /// The token that it is held by, and who watches that.
    held: Mutex<Option<(Uuid, JoinHandle<()>)>>,
}

impl Leash {
    pub(in crate::http) fn new() -> Arc<Self> {
        Arc::new(Self { cut: watch::Sender::new(false), held: Mutex::default() })
    }

    /// From now on the connection ends with this token.
    pub(super) fn hold(&self, token: Uuid, manager: &Manager) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|(by, _)| *by == token) {
            return;
        }
        let (cut, manager) = (self.cut.clone(), manager.clone());
        let watcher = tokio::spawn(async move {
            manager.bearer_ended(token).await;
            tokio::time::sleep(GRACE).await;
            cut.send_replace(true);
        });
        if let Some((_, former)) = held.replace((token, watcher)) {
            former.abort();
        }
    }
}

/// With the connection, and not before: streams outlive their requests.
impl Drop for Leash {
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, watcher)) = held.take() {
            watcher.abort();
        }
    }
}

/// A stream that fails when its leash is cut.
pub(in crate::http) struct Leashed<S> {
    stream: S,
    is_cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    _leash: Arc<Leash>,
}

impl<S> Leashed<S> {
    pub(in crate::http) fn new(stream: S, leash: Arc<Leash>) -> Self {
        let mut cut = leash.cut.subscribe();
        let is_cut = Box::pin(async move {
            // The sender is in the leash, which this stream holds.
            let _ = cut.wait_for(|cut| *cut).await;
        });
        Self { stream, is_cut, _leash: leash }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.is_cut.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => {
                // It is polled again, and has ended.
                self.is_cut = Box::pin(std::future::ready(()));
                let text = "its token lets nobody in any more";
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, text))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Leashed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Leashed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
