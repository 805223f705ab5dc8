//! Bytes beside calls: consoles, volumes on their way, screenshots.
//!
//! ```text
//! call ─▶ answer ─▶ data … data ─▶ (from the daemon: an empty piece at the end)
//!                                 client: finish ─▶ finished, or an error
//!                                 client: abort  ─▶ finished
//! ```
//! With the empty piece the stream is over, and only its number is kept for the client's last word, which some
//! (go-libvirt) never say.

use std::sync::Arc;

use bytes::Bytes;
use management::storage::{Download, Piece, Upload};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::failure::{Area, Failure};
use super::protocol::packet::{self, Header, Kind, MAX_CHUNK, Status};
use super::protocol::xdr::Encode;
use super::session::{Gone, Session};

/// Pieces from the client that wait to be taken.
const QUEUE: usize = 4;
/// Typed at a console whose guest does not read.
const MAX_TYPED: usize = 64 << 10;

/// What a stream is made of.
pub(crate) enum Stream {
    Console(UnixStream),
    /// Holes are told as such, or sent as the zeros that they are.
    Download {
        download: Download,
        sparse: bool,
    },
    Upload {
        upload: Upload,
        sparse: bool,
    },
    Picture(Bytes),
}

/// What a client sends on a stream.
#[derive(Debug)]
pub(super) enum Incoming {
    Data(Bytes),
    /// So many zeros.
    Hole(i64),
    Finish,
    Abort,
}

/// How a stream ended, seen from here.
enum End {
    /// The client said so.
    Confirm,
    Fail(Failure),
    /// Everything was sent; the client has yet to say its last word.
    Told,
    Gone,
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Make the stream known; to be done before the client learns that it may send.
pub(super) fn open(session: &Session, call: Header) -> Result<mpsc::Receiver<Incoming>, Failure> {
    let (sender, incoming) = mpsc::channel(QUEUE);
    session.add_stream(call, sender)?;
    Ok(incoming)
}

/// Move bytes until one side has enough.
pub(super) async fn run(
    session: Arc<Session>,
    call: Header,
    stream: Stream,
    mut incoming: mpsc::Receiver<Incoming>,
) {
    let sender = Sender { session: &session, call };
    let end = match stream {
        Stream::Console(console) => sender.console(console, &mut incoming).await,
        Stream::Download { download, sparse } => {
            sender.download(download, sparse, &mut incoming).await
        }
        Stream::Upload { upload, sparse } => sender.upload(upload, sparse, &mut incoming).await,
        Stream::Picture(picture) => sender.picture(picture).await,
    };
    let key = (call.procedure, call.serial);
    session.end_stream(key, matches!(end, End::Told));
    let end = match end {
        // It may have said its last word while the end was on its way.
        End::Told if said_meanwhile(&mut incoming).await && session.last_word(key) => End::Confirm,
        end => end,
    };
    let sent = match end {
        End::Confirm => sender.send(Status::Ok, &()).await,
        End::Fail(failure) => sender.send(Status::Error, &failure).await,
        End::Told | End::Gone => return,
    };
    if sent.is_err() {
        tracing::debug!(procedure = call.procedure, "the client left its stream");
    }
}

async fn said_meanwhile(incoming: &mut mpsc::Receiver<Incoming>) -> bool {
    incoming.close();
    while let Some(came) = incoming.recv().await {
        if matches!(came, Incoming::Finish | Incoming::Abort) {
            return true;
        }
    }
    false
}

struct Sender<'a> {
    session: &'a Session,
    call: Header,
}

impl Sender<'_> {
    async fn send(&self, status: Status, payload: &impl Encode) -> Result<(), Gone> {
        let header = self.call.answered(Kind::Stream, status);
        self.session.send(packet::encode(header, payload)).await
    }

    async fn data(&self, bytes: &[u8]) -> Result<(), Gone> {
        let header = self.call.answered(Kind::Stream, Status::Continue);
        for piece in bytes.chunks(MAX_CHUNK) {
            self.session.send(packet::encode_raw(header, piece)).await?;
        }
        Ok(())
    }

    /// Nothing more comes from here.
    async fn end_of_data(&self) -> End {
        let header = self.call.answered(Kind::Stream, Status::Continue);
        match self.session.send(packet::encode_raw(header, &[])).await {
            Ok(()) => End::Told,
            Err(Gone) => End::Gone,
        }
    }

    async fn console(&self, console: UnixStream, incoming: &mut mpsc::Receiver<Incoming>) -> End {
        let (mut reader, mut writer) = console.into_split();
        let mut buffer = vec![0; 16 << 10];
        // What was typed and the guest has not taken yet.
        let mut typed = Vec::new();
        let mut is_open = true;
        while is_open {
            tokio::select! {
                read = reader.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => is_open = false,
                    Ok(count) => {
                        if self.data(&buffer[..count]).await.is_err() {
                            return End::Gone;
                        }
                    }
                },
                written = writer.write(&typed), if !typed.is_empty() => match written {
                    Ok(0) | Err(_) => is_open = false,
                    Ok(count) => drop(typed.drain(..count)),
                },
                came = incoming.recv() => match came {
                    // As on a line that nobody listens to, what is too much is lost.
                    Some(Incoming::Data(bytes)) => {
                        let room = MAX_TYPED.saturating_sub(typed.len());
                        typed.extend_from_slice(&bytes[..bytes.len().min(room)]);
                    }
                    other => return early(other),
                },
            }
        }
        // What is still typed goes nowhere; the client will notice the end.
        self.end_of_data().await
    }

    async fn hole(&self, length: u64) -> Result<(), Gone> {
        let header = self.call.answered(Kind::StreamHole, Status::Continue);
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        self.session.send(packet::encode(header, &(length, 0_u32))).await
    }

    async fn download(
        &self,
        mut download: Download,
        sparse: bool,
        incoming: &mut mpsc::Receiver<Incoming>,
    ) -> End {
        loop {
            let next = async {
                match sparse {
                    true => download.next_or_hole().await,
                    false => download.next().await.map(|piece| piece.map(Piece::Data)),
                }
            };
            let piece = tokio::select! {
                biased;
                came = incoming.recv() => return early(came),
                piece = next => piece,
            };
            let sent = match piece {
                None => break,
                Some(Ok(Piece::Data(data))) => self.data(&data).await,
                Some(Ok(Piece::Hole(length))) => self.hole(length).await,
                Some(Err(error)) => {
                    return End::Fail(self.session.failure(Area::Volume, &error));
                }
            };
            if sent.is_err() {
                return End::Gone;
            }
        }
        // The volume is free before the client knows that this was all.
        drop(download);
        self.end_of_data().await
    }

    async fn picture(&self, picture: Bytes) -> End {
        match self.data(&picture).await {
            Ok(()) => self.end_of_data().await,
            Err(Gone) => End::Gone,
        }
    }

    async fn upload(
        &self,
        mut upload: Upload,
        sparse: bool,
        incoming: &mut mpsc::Receiver<Incoming>,
    ) -> End {
        let failed = |error| End::Fail(self.session.failure(Area::Volume, &error));
        loop {
            let taken = match incoming.recv().await {
                None => return End::Gone,
                Some(Incoming::Abort) => return End::Confirm,
                Some(Incoming::Finish) => {
                    return match upload.finish().await {
                        Ok(()) => End::Confirm,
                        Err(error) => failed(error),
                    };
                }
                Some(Incoming::Data(bytes)) => upload.write(bytes).await,
                Some(Incoming::Hole(length)) => match u64::try_from(length) {
                    Ok(length) if sparse => upload.skip(length).await,
                    _ => {
                        let text = "a hole in a stream that was not opened for holes";
                        return End::Fail(Failure::broken_stream(text));
                    }
                },
            };
            if let Err(error) = taken {
                return failed(error);
            }
        }
    }
}

/// What a client may send on a stream from here to there.
fn early(came: Option<Incoming>) -> End {
    match came {
        None => End::Gone,
        Some(Incoming::Finish | Incoming::Abort) => End::Confirm,
        Some(Incoming::Data(_) | Incoming::Hole(_)) => {
            End::Fail(Failure::broken_stream("nothing is taken on this stream"))
        }
    }
}
