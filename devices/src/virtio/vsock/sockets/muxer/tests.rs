use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use super::*;
use crate::virtio::vsock::sockets::packet::SHUTDOWN_RECEIVE;

const CID: u64 = 3;

/// A program of the host that said `line`, and its token.
fn program(muxer: &mut Muxer, line: &str) -> (UnixStream, Token) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    muxer.came(ours.into());
    let token = muxer.added.pop().unwrap();
    theirs.write_all(line.as_bytes()).unwrap();
    muxer.ready(token, EventSet::IN);
    (theirs, token)
}

fn from_guest(ports: Ports, op: u16) -> Header {
    Header {
        source_cid: CID,
        destination_cid: HOST_CID,
        source_port: ports.guest,
        destination_port: ports.host,
        kind: TYPE_STREAM,
        op,
        buffer: 1 << 16,
        ..Header::default()
    }
}

#[test]
fn connections_that_a_guest_makes_and_ends_without_taking_answers_leave_nothing() {
    let mut muxer = Muxer::new(CID);
    let (_listener, _) = program(&mut muxer, "LISTEN 1\n");
    for guest in 0..20 {
        let ports = Ports { host: 1, guest };
        muxer.packet(&from_guest(ports, op::REQUEST), 0);
        assert_eq!(muxer.connections.len(), 1, "{guest}");
        muxer.packet(&from_guest(ports, op::RESET), 0);
    }
    assert!(!muxer.has_packets());
    // The event loop never knew them, and is not asked to forget them.
    assert!(muxer.added.is_empty() && muxer.removed.is_empty());
}

#[test]
fn programs_that_come_and_go_leave_nothing_with_a_guest_that_takes_no_packets() {
    let mut muxer = Muxer::new(CID);
    for _ in 0..20 {
        let (gone, token) = program(&mut muxer, "CONNECT 5000\n");
        drop(gone);
        muxer.ready(token, EventSet::IN | EventSet::HANG_UP);
    }
    assert!(muxer.connections.is_empty() && !muxer.has_packets());
    assert_eq!(muxer.removed.len(), 20);
}

#[test]
fn a_guest_that_wants_nothing_and_has_no_room_for_it_holds_nobody_up() {
    let mut muxer = Muxer::new(CID);
    let (mut program, token) = program(&mut muxer, "CONNECT 5000\n");
    let request = muxer.next(&mut []).unwrap().header;
    let ports = Ports { host: request.source_port, guest: 5000 };
    muxer.packet(&from_guest(ports, op::RESPONSE), 0);
    let mut hello = [0; 64];
    assert!(program.read(&mut hello).unwrap() > 0);
    program.write_all(b"unheard").unwrap();
    let enough = Header { flags: SHUTDOWN_RECEIVE, ..from_guest(ports, op::SHUTDOWN) };
    muxer.packet(&enough, 0);
    muxer.ready(token, EventSet::IN);
    assert!(muxer.next(&mut []).is_none(), "a header alone fits");
    muxer.ready(token, EventSet::IN);
    let said = muxer.next(&mut [0; 100]).unwrap();
    assert_eq!((said.header.op, said.len), (op::SHUTDOWN, 0), "and no data before");
    let refused = program.write(b"more").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn a_token_in_use_is_not_given_again() {
    let mut muxer = Muxer::new(CID);
    let (_listener, first) = program(&mut muxer, "LISTEN 1\n");
    muxer.next_token = first;
    assert_ne!(program(&mut muxer, "LISTEN 2\n").1, first);
}
