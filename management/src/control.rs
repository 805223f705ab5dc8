//! A client of a VMM's control socket. What comes from there is bounded and checked: a VMM is not
//! trusted once it has run a guest.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use vmm_protocol::Version;
use vmm_protocol::control::{
    Call, ControlError, Event, EventKind, Hello, MAX_FILES, Message, Reply, Request,
};
use vmm_protocol::wire::{self, WireError};

/// Requests and events on their way; beyond, requests fail and events are counted as lost.
const QUEUE: usize = 64;
const EVENT_QUEUE: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum VmmError {
    #[error("cannot connect to the VMM")]
    Connect(#[source] io::Error),
    #[error("the VMM does not answer (within {0:?})")]
    Timeout(Duration),
    #[error("the VMM closed its control connection")]
    Closed,
    #[error("the VMM's message is not valid")]
    Wire(#[from] WireError),
    #[error("the VMM speaks version {0} of the control protocol, and this daemon {ours}", ours = Version::CURRENT)]
    Version(Version),
    #[error("the VMM refused: {0}")]
    Refused(ControlError),
    #[error("the VMM gave another answer than was asked for")]
    Unexpected,
}

type Answer = oneshot::Sender<Result<Reply, ControlError>>;
type Waiting = Arc<Mutex<HashMap<u64, Answer>>>;

/// A connection to one VMM. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Vmm {
    outgoing: mpsc::Sender<Frame>,
    waiting: Waiting,
    next: Arc<AtomicU64>,
}

/// Events of a VMM, after [`Request::Events`]. Ends with the connection.
pub(crate) type Events = mpsc::Receiver<Event>;

impl Vmm {
    /// Connect and shake hands. Whose VMM it is, the caller checks.
    pub(crate) async fn connect(
        path: &Path,
        within: Duration,
    ) -> Result<(Self, Hello, Events), VmmError> {
        let connected = tokio::time::timeout(within, UnixStream::connect(path)).await;
        let stream =
            connected.map_err(|_| VmmError::Timeout(within))?.map_err(VmmError::Connect)?;
        let (reader, writer) = stream.into_split();
        let waiting = Waiting::default();
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let (events, received) = mpsc::channel(EVENT_QUEUE);
        tokio::spawn(write(writer, queue));
        tokio::spawn(read(reader, waiting.clone(), events));
        let vmm = Self { outgoing, waiting, next: Arc::new(AtomicU64::new(1)) };
        let hello = Request::Hello { version: Version::CURRENT };
        match vmm.ask(hello, within).await? {
            Reply::Hello(hello) if Version::CURRENT.understands(hello.version) => {
                Ok((vmm, hello, received))
            }
            Reply::Hello(hello) => Err(VmmError::Version(hello.version)),
            _ => Err(VmmError::Unexpected),
        }
    }

    pub(crate) async fn ask(&self, request: Request, within: Duration) -> Result<Reply, VmmError> {
        self.ask_with(request, Vec::new(), within).await
    }

    /// With files beside the request, which the VMM gets copies of.
    async fn ask_with(
        &self,
        request: Request,
        files: Vec<OwnedFd>,
        within: Duration,
    ) -> Result<Reply, VmmError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let frame = Frame { bytes: wire::encode(&Call { id, request })?, files };
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).insert(id, answer);
        // Whatever happens, also when the caller goes away.
        let _forget = Forget { waiting: &self.waiting, id };
        let talk = async {
            self.outgoing.send(frame).await.map_err(|_| VmmError::Closed)?;
            answered.await.map_err(|_| VmmError::Closed)
        };
        let answer = tokio::time::timeout(within, talk).await;
        answer.map_err(|_| VmmError::Timeout(within))??.map_err(VmmError::Refused)
    }

    /// Ask for something that has no answer but its being done.
    pub(crate) async fn tell(&self, request: Request, within: Duration) -> Result<(), VmmError> {
        self.tell_with(request, Vec::new(), within).await
    }

    /// With files beside the request, at most [`MAX_FILES`].
    pub(crate) async fn tell_with(
        &self,
        request: Request,
        files: Vec<OwnedFd>,
        within: Duration,
    ) -> Result<(), VmmError> {
        match self.ask_with(request, files, within).await? {
            Reply::Done => Ok(()),
            _ => Err(VmmError::Unexpected),
        }
    }
}

struct Forget<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(&self.id);
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<u64, Answer>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message on its way, and what goes beside it.
struct Frame {
    bytes: Vec<u8>,
    files: Vec<OwnedFd>,
}

async fn write(mut stream: OwnedWriteHalf, mut queue: mpsc::Receiver<Frame>) {
    while let Some(Frame { bytes, files }) = queue.recv().await {
        let begun = match files.as_slice() {
            [] => Ok(0),
            files => send_beside(&stream, &bytes, files).await,
        };
        let Ok(begun) = begun else { break };
        if stream.write_all(bytes.get(begun..).unwrap_or_default()).await.is_err() {
            break;
        }
    }
}

/// Send the first of `bytes` with `files` beside them (SCM_RIGHTS); how many.
async fn send_beside(
    stream: &OwnedWriteHalf,
    bytes: &[u8],
    files: &[OwnedFd],
) -> io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let files: Vec<_> = files.iter().map(OwnedFd::as_fd).collect();
    let send = || {
        let mut space =
            [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::Error::other("more files than go with one message"));
        }
        let parts = [io::IoSlice::new(bytes)];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(sendmsg(stream.as_ref(), &parts, &mut control, flags)?)
    };
    stream.as_ref().async_io(Interest::WRITABLE, send).await
}

async fn read(mut stream: OwnedReadHalf, waiting: Waiting, events: mpsc::Sender<Event>) {
    // The last event that did not fit.
    let mut lost: Option<Event> = None;
    loop {
        match receive(&mut stream).await {
            Ok(Some(Message::Reply { id, result })) => {
                if let Some(answer) = lock(&waiting).remove(&id) {
                    let _ = answer.send(result);
                }
            }
            Ok(Some(Message::Event(event))) => {
                if let Some(last) = lost.take() {
                    let kind = EventKind::Lost { up_to: last.seq };
                    if events.try_send(Event { kind, ..last.clone() }).is_err() {
                        lost = Some(event);
                        continue;
                    }
                }
                if let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(event) {
                    lost = Some(event);
                }
            }
            Ok(None) => break,
            // Most often it ended. What is wrong with its messages is worth a word.
            Err(WireError::Io(error)) => {
                tracing::debug!(%error, "a VMM's control connection ended");
                break;
            }
            Err(error) => {
                tracing::warn!(%error, "a VMM sent a message that is not valid");
                break;
            }
        }
    }
    // Nobody will be answered any more.
    lock(&waiting).clear();
}

/// One message; none when the peer closed between messages.
async fn receive<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, WireError> {
    let mut header = [0; 4];
    match stream.read(&mut header).await? {
        0 => return Ok(None),
        count => stream.read_exact(&mut header[count..]).await?,
    };
    let mut body = vec![0; wire::body_len(header)?];
    stream.read_exact(&mut body).await?;
    wire::decode(&body).map(Some)
}

/// A connection that is a console's from now on.
pub(crate) async fn open_console(
    path: &Path,
    id: &str,
    replay: bool,
    force: bool,
    within: Duration,
) -> Result<UnixStream, VmmError> {
    open_stream(path, Request::Console { id: id.to_owned(), replay, force }, within).await
}

/// A connection of its own that `request` turns into raw bytes: a console's, a viewer's.
pub(crate) async fn open_stream(
    path: &Path,
    request: Request,
    within: Duration,
) -> Result<UnixStream, VmmError> {
    let talk = async {
        let mut stream = UnixStream::connect(path).await.map_err(VmmError::Connect)?;
        let hello = call(&mut stream, 1, Request::Hello { version: Version::CURRENT }).await?;
        if !matches!(hello, Reply::Hello(_)) {
            return Err(VmmError::Unexpected);
        }
        match call(&mut stream, 2, request).await? {
            Reply::Done => Ok(stream),
            _ => Err(VmmError::Unexpected),
        }
    };
    tokio::time::timeout(within, talk).await.map_err(|_| VmmError::Timeout(within))?
}

async fn call(stream: &mut UnixStream, id: u64, request: Request) -> Result<Reply, VmmError> {
    send(stream, &Call { id, request }).await?;
    match receive(stream).await? {
        Some(Message::Reply { id: answered, result }) if answered == id => {
            result.map_err(VmmError::Refused)
        }
        Some(_) => Err(VmmError::Unexpected),
        None => Err(VmmError::Closed),
    }
}

async fn send<T: Serialize>(stream: &mut UnixStream, message: &T) -> Result<(), VmmError> {
    let frame = wire::encode(message)?;
    stream.write_all(&frame).await.map_err(|error| VmmError::Wire(error.into()))
}
