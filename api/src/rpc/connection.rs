//! One client: packets in, packets out. Calls run side by side, so answers come in any order.
//!
//! ```text
//! read ─┬─ call ──────▶ a task: procedure ─▶ answer ─▶ (stream: a task)
//!       ├─ stream data ▶ the stream's task
//!       └─ ping ──────▶ pong                      all of them ─▶ queue ─▶ write
//! ```

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use management::Manager;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::admission::Admission;
use super::failure::Failure;
use super::keepalive::{self, PING, PONG};
use super::protocol::packet::{
    self, Header, KEEPALIVE, Kind, Packet, PacketError, QEMU, REMOTE, Status, VERSION,
};
use super::protocol::xdr::{Decode as _, Decoder, XdrError};
use super::session::{Gone, QUEUE, Session};
use super::stream::{self, Incoming};
use super::table::{self, Call, Files};
use super::wire::{Outgoing, Reader, Wire, Writer};

/// Calls of one client that run at a time; the next one waits in the socket.
const MAX_CALLS: usize = 16;
/// What no packet exceeds that Manor has a use for: a document, or a piece of a stream.
const MAX_PACKET: usize = 2 << 20;
/// Of those who may only look, which anybody may, and of who did not say yet who it is: they have
/// nothing long to say.
const MAX_READERS_PACKET: usize = 64 << 10;
/// From a packet's first byte to its last.
const PACKET_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that takes nothing for so long is not there.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// For a client to say who it is.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// For the last word to a client.
const PARTING: Duration = Duration::from_millis(200);

/// Serve a client until it goes.
pub(super) async fn serve<W: Wire>(
    wire: W,
    manager: Manager,
    admission: Admission,
    mut stop: watch::Receiver<bool>,
) {
    let name = admission.caller.name.clone();
    let (reader, writer) = wire.split();
    let (outgoing, queue) = mpsc::channel(QUEUE);
    let session = Session::new(manager, admission, outgoing, W::PASSES_FILES);
    let connection = Connection {
        session: session.clone(),
        calls: Arc::new(Semaphore::new(MAX_CALLS)),
        tasks: JoinSet::new(),
    };
    // Whoever ends first ends the other one, and with it all that still runs for this client.
    tokio::select! {
        read = connection.read(reader) => match read {
            Ok(()) => tracing::debug!(caller = name, "the client closed its connection"),
            Err(error) => tracing::debug!(caller = name, %error, "a connection is closed"),
        },
        written = write(writer, queue) => match written {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                tracing::info!(caller = name, "a client does not read what it is sent, and is let go");
            }
            Err(error) => tracing::debug!(caller = name, %error, "a connection is closed"),
            Ok(()) => {}
        },
        () = let_go(&session) => {
            tracing::info!(caller = name, "a client is too slow for its events, and is let go");
        }
        () = keepalive::watch(&session) => {
            tracing::info!(caller = name, "a client does not answer any more");
        }
        () = session.login_ended(LOGIN_TIMEOUT) => {
            tracing::info!(caller = name, "a client may not stay");
        }
        () = part(&session, &mut stop) => {}
    }
    session.destroy_bound().await;
}

/// The daemon goes: returns when a client that wants to know it has had time to hear it.
async fn part(session: &Session, stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
    if session.part().await {
        tokio::time::sleep(PARTING).await;
    }
}

/// It missed events: returns when it has had time to hear that this is the end.
pub(super) async fn let_go(session: &Session) {
    session.is_behind().await;
    // It is behind because it does not read; it is not waited for.
    let told = tokio::time::timeout(PARTING, session.part()).await;
    if told == Ok(true) {
        tokio::time::sleep(PARTING).await;
    }
}

async fn write(
    mut socket: impl Writer,
    mut queue: mpsc::Receiver<Outgoing>,
) -> std::io::Result<()> {
    while let Some(Outgoing { packet, files }) = queue.recv().await {
        let mut left = packet.as_slice();
        while !left.is_empty() {
            let written = tokio::time::timeout(STALL_TIMEOUT, socket.write(left));
            let count = written.await.map_err(|_| std::io::ErrorKind::TimedOut)??;
            if count == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            left = &left[count..];
        }
        for file in files {
            let passed = tokio::time::timeout(STALL_TIMEOUT, socket.pass(file.as_fd()));
            passed.await.map_err(|_| std::io::ErrorKind::TimedOut)??;
        }
    }
    Ok(())
}

struct Connection {
    session: Arc<Session>,
    calls: Arc<Semaphore>,
    /// Calls, streams, events: aborted with the connection.
    tasks: JoinSet<()>,
}

impl Connection {
    async fn read(mut self, mut socket: impl Reader) -> Result<(), PacketError> {
        loop {
            // It may say nothing for as long as it likes, but not the half of something.
            let mut first = [0];
            if socket.read(&mut first).await? == 0 {
                return Ok(());
            }
            let limit = if self.session.is_trusted() { MAX_PACKET } else { MAX_READERS_PACKET };
            let mut whole = first.as_slice().chain(&mut socket);
            let read = tokio::time::timeout(PACKET_TIMEOUT, packet::read(&mut whole, limit));
            let timeout = || PacketError::Io(std::io::ErrorKind::TimedOut.into());
            let Some(mut packet) = read.await.map_err(|_| timeout())?? else { return Ok(()) };
            let count = packet.take_file_count()?;
            let received = tokio::time::timeout(PACKET_TIMEOUT, self.files(&mut socket, count));
            let files = received.await.map_err(|_| timeout())??;
            self.session.note_heard();
            while self.tasks.try_join_next().is_some() {}
            if self.take(packet, files).await.is_err() {
                return Ok(());
            }
        }
    }

    /// What comes after a call. Nobody has a use for more than one; of those who may only look, which anybody may,
    /// none is kept.
    async fn files(&self, socket: &mut impl Reader, count: u32) -> std::io::Result<Files> {
        let mut first = None;
        for _ in 0..count {
            let file = socket.passed().await?;
            first = first.or_else(|| self.session.is_trusted().then_some(file));
        }
        Ok(Files { first, count })
    }

    async fn take(&mut self, packet: Packet, files: Files) -> Result<(), Gone> {
        let header = packet.header;
        match (header.program, header.kind) {
            (KEEPALIVE, Kind::Message) if header.procedure == PING => {
                let pong = Header::message(KEEPALIVE, PONG);
                self.session.send(packet::encode(pong, &())).await
            }
            // That it was heard is all that a pong has to say.
            (KEEPALIVE, _) => Ok(()),
            (REMOTE | QEMU, Kind::Call | Kind::CallWithFiles) if header.version == VERSION => {
                let permit = Arc::clone(&self.calls).acquire_owned().await.map_err(|_| Gone)?;
                self.call(packet, files, permit);
                Ok(())
            }
            (REMOTE, Kind::Stream | Kind::StreamHole) => self.stream(packet).await,
            (program, Kind::Call | Kind::CallWithFiles) => {
                self.refuse(header, &Failure::unknown_program(program, header.version)).await
            }
            // Clients have nothing to reply to, and no other program has streams.
            _ => Ok(()),
        }
    }

    async fn refuse(&self, call: Header, failure: &Failure) -> Result<(), Gone> {
        let header = call.answered(Kind::Reply, Status::Error);
        self.session.send(packet::encode(header, failure)).await
    }

    fn call(&mut self, packet: Packet, files: Files, permit: OwnedSemaphorePermit) {
        let session = self.session.clone();
        self.tasks.spawn(async move {
            let header = packet.header;
            let ended = answer(&session, packet, files).await;
            drop(permit);
            if let Some((stream, incoming)) = ended {
                stream::run(session, header, stream, incoming).await;
            }
        });
    }

    /// Bytes for a stream that has ended meanwhile are not worth a word, but for the client's last.
    async fn stream(&self, packet: Packet) -> Result<(), Gone> {
        let Packet { header, payload } = packet;
        let incoming = match (header.kind, header.status) {
            (Kind::StreamHole, Status::Continue) => match hole(&payload) {
                Ok(length) => Incoming::Hole(length),
                Err(_) => Incoming::Abort,
            },
            (Kind::Stream, Status::Continue) if !payload.is_empty() => Incoming::Data(payload),
            // An empty piece says nothing that the end of the stream will not say.
            (_, Status::Continue) => return Ok(()),
            (_, Status::Ok) => Incoming::Finish,
            (_, Status::Error) => Incoming::Abort,
        };
        let is_last = matches!(incoming, Incoming::Finish | Incoming::Abort);
        let stream = self.session.stream((header.procedure, header.serial));
        // One that has just ended takes nothing more.
        let taken = match stream {
            Some(stream) => stream.send(incoming).await.is_ok(),
            None => false,
        };
        if !taken && is_last && self.session.last_word((header.procedure, header.serial)) {
            let header = header.answered(Kind::Stream, Status::Ok);
            return self.session.send(packet::encode(header, &())).await;
        }
        Ok(())
    }
}

fn hole(payload: &[u8]) -> Result<i64, XdrError> {
    let (length, _flags) = <(i64, u32)>::decode(&mut Decoder::new(payload))?;
    Ok(length)
}

/// Run a call and answer it; what is to be done after that, for a stream.
async fn answer(
    session: &Arc<Session>,
    packet: Packet,
    files: Files,
) -> Option<(stream::Stream, mpsc::Receiver<Incoming>)> {
    let Packet { header, payload } = packet;
    let call = Call { payload, files };
    let answered = table::run(session, header.program, header.procedure, call).await;
    let answered = answered.and_then(|answer| {
        let incoming = answer.stream.map(|stream| Ok((stream, stream::open(session, header)?)));
        Ok((answer.payload, answer.files, incoming.transpose()?))
    });
    let (packet, stream) = match answered {
        Ok((payload, files, stream)) if files.is_empty() => {
            let header = header.answered(Kind::Reply, Status::Ok);
            (Outgoing::from(packet::encode_raw(header, &payload)), stream)
        }
        Ok((payload, files, stream)) => {
            let header = header.answered(Kind::ReplyWithFiles, Status::Ok);
            let packet = packet::encode_with_files(header, files.len(), &payload);
            (Outgoing { packet, files }, stream)
        }
        Err(failure) => {
            let header = header.answered(Kind::Reply, Status::Error);
            (packet::encode(header, &failure).into(), None)
        }
    };
    session.send(packet).await.ok()?;
    stream
}
