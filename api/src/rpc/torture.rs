//! For fuzzing: calls that reach their procedures, and one connection to make them over.

use std::time::Duration;

use management::{Caller, Manager};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;

use super::admission::Admission;
use super::connection;
use super::protocol::packet::{self, Header, Kind, REMOTE, Status, VERSION};
use super::table::PROCEDURES;
use super::wire::Bytes;

const OPEN: i32 = 1;
/// Of one connection.
const MOST_CALLS: usize = 64;
const LONGEST: usize = 32 << 20;
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    manager: Manager,
    caller: Caller,
    stop: watch::Receiver<bool>,
) {
    connection::serve(Bytes(stream), manager, Admission::known(caller), stop).await;
}

/// What goes over a connection: it is opened, then come the calls of the input. And how many answers
/// are to be expected.
pub(crate) fn calls(mut input: &[u8]) -> (Vec<u8>, usize) {
    let opening = packet::encode(header(OPEN, Kind::Call, 1), &(Some("qemu:///system"), 0));
    let (mut all, mut asked) = (opening, 1);
    for serial in (2..).take(MOST_CALLS) {
        let Some(([high, low, kind, length], rest)) = input.split_first_chunk() else { break };
        let number = usize::from(u16::from_be_bytes([*high, *low])) % PROCEDURES.len();
        let kind = match kind % 8 {
            5 => Kind::Stream,
            6 => Kind::StreamHole,
            7 => Kind::CallWithFiles,
            _ => Kind::Call,
        };
        let (arguments, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        // Pieces of streams belong to the call before.
        let serial =
            if matches!(kind, Kind::Stream | Kind::StreamHole) { serial - 1 } else { serial };
        let header = header(PROCEDURES[number].number, kind, serial);
        asked += usize::from(!matches!(kind, Kind::Stream | Kind::StreamHole));
        all.extend(packet::encode_raw(header, arguments));
        input = rest;
    }
    (all, asked)
}

/// Say it, and stay for the answers: a client that goes takes with it what still runs for it. Some
/// calls wait for what does not come.
pub(crate) async fn hear_out(stream: DuplexStream, said: &[u8], mut asked: usize) {
    let (mut from, mut to) = tokio::io::split(stream);
    let hear = async {
        while asked > 0 {
            let next = tokio::time::timeout(PATIENCE, packet::read(&mut from, LONGEST));
            let Ok(Ok(Some(packet))) = next.await else { return };
            let is_answer = matches!(packet.header.kind, Kind::Reply | Kind::ReplyWithFiles);
            asked -= usize::from(is_answer);
        }
    };
    let _ = tokio::join!(to.write_all(said), hear);
}

fn header(procedure: i32, kind: Kind, serial: u32) -> Header {
    let status = if kind == Kind::Call { Status::Ok } else { Status::Continue };
    Header { program: REMOTE, version: VERSION, procedure, kind, serial, status }
}
