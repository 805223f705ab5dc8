//! The control socket: handshake, events, consoles, and clients that misbehave.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use baremetal::pvh;
use vmm_protocol::Version;
use vmm_protocol::config::{Action, Lifecycle};
use vmm_protocol::control::{ControlErrorCode, EventKind, Message, Reply, Request, RunState};
use vmm_protocol::exit::ExitReason;
use vmm_protocol::wire;

use crate::machine::ticking;
use crate::needs_kvm;
use crate::rig::Rig;

#[test]
fn the_handshake_says_who_and_how_the_guest_is() {
    needs_kvm!();
    let rig = Rig::new(&ticking());
    let identity = rig.config.identity.clone();
    let guest = rig.start();
    let (mut client, hello) = guest.greet();
    assert_eq!((hello.identity, hello.pid), (identity, guest.id()));
    assert_eq!(hello.live_record, "<domain/>");
    let layers: Vec<_> = hello.sandbox.iter().map(|(layer, _)| layer.as_str()).collect();
    let all = ["limits", "namespaces", "root", "threads", "user", "landlock", "seccomp"];
    assert_eq!(layers, all);
    let refused = hello.sandbox.iter().find(|(_, text)| text.starts_with("no"));
    assert!(refused.is_none_or(|(layer, _)| layer == "landlock"), "{:?}", hello.sandbox);
    let record = "x".repeat(1 << 20);
    client.ask(Request::SetLiveRecord { record: record.clone() }).unwrap();
    assert_eq!(guest.greet().1.live_record, record);
}

#[test]
fn a_client_of_another_version_or_without_manners_is_sent_away() {
    needs_kvm!();
    let guest = Rig::new(&ticking()).start();
    let mut client = guest.connect();
    let error = client.ask(Request::Hello { version: Version { major: 9, minor: 0 } }).unwrap_err();
    assert_eq!(error.code, ControlErrorCode::Version);
    assert_eq!(client.receive(), None, "the connection is closed");

    let mut client = guest.connect();
    assert_eq!(client.ask(Request::Destroy).unwrap_err().code, ControlErrorCode::Malformed);
    assert_eq!(client.receive(), None);
    assert_eq!(guest.state(), RunState::Running);
}

#[test]
fn garbage_ends_its_own_connection_and_nothing_else() {
    needs_kvm!();
    let mut guest = Rig::new(&ticking()).start();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..200 {
        let mut client = guest.connect();
        let mut bytes = vec![0; round % 90];
        for byte in &mut bytes {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            *byte = random as u8;
        }
        let _ = client.stream.write_all(&bytes);
        if round % 3 == 0 {
            let _ = client.stream.shutdown(std::net::Shutdown::Write);
        }
    }
    // A length beyond the limit, and a body that is no JSON.
    for bytes in [&u32::MAX.to_le_bytes()[..], &[2, 0, 0, 0, b'{', b'{']] {
        let mut client = guest.connect();
        client.stream.write_all(bytes).unwrap();
        let Some(Message::Reply { id: 0, result: Err(error) }) = client.receive() else { panic!() };
        assert_eq!(error.code, ControlErrorCode::Malformed);
        assert_eq!(client.receive(), None);
    }
    let before = guest.serial().len();
    guest.wait_serial("more ticks", |serial| serial.len() > before);
    assert_eq!(guest.state(), RunState::Running);
}

#[test]
fn clients_that_die_at_any_byte_do_not_matter() {
    needs_kvm!();
    let guest = Rig::new(&ticking()).start();
    let hello = Request::Hello { version: Version::CURRENT };
    let frame = wire::encode(&vmm_protocol::control::Call { id: 1, request: hello }).unwrap();
    for cut in 0..=frame.len() {
        guest.connect().stream.write_all(&frame[..cut]).unwrap();
    }
    // Asks much, reads nothing, goes away.
    for _ in 0..5 {
        let (mut client, _) = guest.greet();
        for _ in 0..100 {
            client.send(Request::Statistics);
        }
    }
    assert_eq!(guest.state(), RunState::Running);
}

#[test]
fn a_half_sent_message_is_not_waited_for_for_ever() {
    needs_kvm!();
    let guest = Rig::new(&ticking()).start();
    let (mut client, _) = guest.greet();
    client.stream.write_all(&[100, 0, 0, 0, b'{']).unwrap();
    let start = Instant::now();
    assert_eq!(client.receive(), None);
    assert!(start.elapsed() > Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn requests_sent_in_one_piece_are_answered_in_order() {
    needs_kvm!();
    let guest = Rig::new(&ticking()).start();
    let (mut client, _) = guest.greet();
    let ids: Vec<u64> = (0..50).map(|_| client.send(Request::Status)).collect();
    for expected in ids {
        let Some(Message::Reply { id, result: Ok(_) }) = client.receive() else { panic!() };
        assert_eq!(id, expected);
    }
}

#[test]
fn events_come_in_order_without_gaps_also_to_those_who_were_away() {
    needs_kvm!();
    let guest = Rig::new(&ticking()).start();
    let (mut client, _) = guest.greet();
    for _ in 0..10 {
        client.ask(Request::Pause).unwrap();
        client.ask(Request::Resume).unwrap();
    }
    let (mut late, hello) = guest.greet();
    assert_eq!(hello.last_event, 21);
    late.ask(Request::Events { after: 0 }).unwrap();
    for seq in 1..=21 {
        assert_eq!(late.event().seq, seq);
    }
    client.ask(Request::Destroy).unwrap();
    let last = late.event();
    assert_eq!((last.seq, last.kind), (22, EventKind::Exiting(ExitReason::Destroyed)));
    assert_eq!(late.receive(), None);
    assert_eq!(guest.wait().1.last_event, 22);
}

#[test]
fn more_events_than_are_kept_are_reported_as_lost() {
    needs_kvm!();
    let guest = Rig::new(&ticking()).start();
    let (mut client, _) = guest.greet();
    for _ in 0..600 {
        client.ask(Request::Pause).unwrap();
        client.ask(Request::Resume).unwrap();
    }
    client.ask(Request::Events { after: 1 }).unwrap();
    let first = client.event();
    assert_eq!(first.kind, EventKind::Lost { up_to: 1201 - 1024 });
    assert_eq!(client.event().seq, 1201 - 1024 + 1);
}

#[test]
fn a_console_replays_its_history_then_follows_the_guest() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.print("before ");
        let again = asm.here();
        // Line status: a byte has come.
        asm.read_port(baremetal::Width::Byte, 0x3fd).and_eax(1).jump_if_eax_is(0, again);
        asm.read_port(baremetal::Width::Byte, 0x3f8).print_eax().print(" ").jump(again);
    });
    let mut guest = Rig::new(&kernel).start();
    guest.wait_serial("the first words", |serial| serial == "before ");
    let console = |force| Request::Console { id: "serial0".to_owned(), replay: true, force };
    let (mut first, _) = guest.greet();
    assert_eq!(first.ask(console(false)), Ok(Reply::Done));
    let mut text = [0; 7];
    first.stream.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"before ");
    first.stream.write_all(b"A").unwrap();
    let mut answer = [0; 9];
    first.stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"00000041 ");

    let (mut second, _) = guest.greet();
    assert_eq!(second.ask(console(false)).unwrap_err().code, ControlErrorCode::Busy);
    assert_eq!(second.ask(console(true)), Ok(Reply::Done));
    let mut rest = Vec::new();
    assert_eq!(first.stream.read_to_end(&mut rest).unwrap(), 0, "the first client is let go");
    drop(second);
    let (mut third, _) = guest.greet();
    assert_eq!(third.ask(console(false)), Ok(Reply::Done), "free the moment the second has gone");
    let (mut other, _) = guest.greet();
    let nowhere = Request::Console { id: "tty9".to_owned(), replay: true, force: false };
    assert_eq!(other.ask(nowhere).unwrap_err().code, ControlErrorCode::NotFound);
}

#[test]
fn lifecycle_actions_can_be_replaced_while_the_guest_runs() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.print("up\n");
        let again = asm.here();
        asm.read_port(baremetal::Width::Byte, 0x3fd).and_eax(1).jump_if_eax_is(0, again);
        asm.reset();
    });
    let mut guest = Rig::new(&kernel).start();
    guest.wait_serial("the guest", |serial| serial == "up\n");
    let (mut client, _) = guest.greet();
    let lifecycle = Lifecycle {
        on_poweroff: Action::Destroy,
        on_reboot: Action::Destroy,
        on_crash: Action::Destroy,
    };
    client.ask(Request::SetLifecycle { lifecycle }).unwrap();
    client.ask(Request::Console { id: "serial0".to_owned(), replay: false, force: false }).unwrap();
    client.stream.write_all(b"!").unwrap();
    assert_eq!(guest.wait().1.reason, ExitReason::Shutdown);
}
