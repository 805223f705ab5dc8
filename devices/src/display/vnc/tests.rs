use std::sync::{Arc, Mutex};

use super::auth::answer;
use super::pixels;
use super::spec::*;
use super::viewer::{Notice, Viewer};
use super::{Hangup, Password, Terms};
use crate::display::{Rect, Surface};
use crate::input::{Accepts, InputEvent, InputSink, button};
use crate::sync::Lock;

struct Sink {
    accepts: Accepts,
    events: Mutex<Vec<InputEvent>>,
}

impl InputSink for Sink {
    fn accepts(&self) -> Accepts {
        self.accepts
    }
    fn send(&self, events: &[InputEvent]) {
        self.events.hold().extend_from_slice(events);
    }
}

const MOUSE: Accepts = Accepts { keys: true, position: false, motion: true };
const TABLET: Accepts = Accepts { keys: true, position: true, motion: true };

struct Rig {
    viewer: Viewer,
    surface: Surface,
    sink: Sink,
    out: Vec<u8>,
}

fn rig(password: Option<&str>) -> Rig {
    let password = password.map(|text| Password { text: text.to_owned(), valid_to: None });
    let mut terms = Terms::new("guest", password);
    terms.random = || [7; 16];
    terms.most_cut_text = 1000;
    let mut out = Vec::new();
    let viewer = Viewer::new(Arc::new(terms), &mut out);
    let sink = Sink { accepts: TABLET, events: Mutex::default() };
    Rig { viewer, surface: Surface::new(), sink, out }
}

impl Rig {
    fn send(&mut self, bytes: &[u8]) -> Result<Option<Notice>, Hangup> {
        self.viewer.receive(bytes, &self.surface, &self.sink, &mut self.out)
    }

    fn said(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn events(&self) -> Vec<InputEvent> {
        std::mem::take(&mut self.sink.events.hold())
    }

    fn update(&mut self) -> Vec<u8> {
        let accepts = self.sink.accepts;
        self.viewer.begin_update(&self.surface, accepts, &mut self.out);
        while self.viewer.is_busy() {
            self.viewer.fill(&self.surface, &mut self.out, 0);
        }
        self.said()
    }
}

/// One that is through the handshake.
fn running() -> Rig {
    let mut rig = rig(None);
    rig.send(b"RFB 003.008\n\x01").unwrap();
    assert_eq!(rig.send(&[1]), Ok(Some(Notice::Joined { shared: true })));
    rig.said();
    rig
}

#[test]
fn a_viewer_without_a_password_is_told_the_size_and_the_name() {
    let mut rig = rig(None);
    assert_eq!(rig.said(), VERSION);
    rig.send(VERSION).unwrap();
    assert_eq!(rig.said(), [1, SECURITY_NONE]);
    rig.send(&[SECURITY_NONE]).unwrap();
    assert_eq!(rig.said(), [0; 4]);
    assert_eq!(rig.send(&[0]), Ok(Some(Notice::Joined { shared: false })));
    let expected = [&[2, 208, 1, 144][..], &pixels::NATIVE, &[0, 0, 0, 5], b"guest"].concat();
    assert_eq!(rig.said(), expected);
}

#[test]
fn old_viewers_are_served_by_the_rules_of_their_versions() {
    let mut rig3 = rig(None);
    rig3.said();
    rig3.send(b"RFB 003.003\n\x01").unwrap();
    assert_eq!(rig3.said()[..8], [0, 0, 0, 1, 2, 208, 1, 144]);
    let mut rig7 = rig(None);
    rig7.said();
    rig7.send(b"RFB 003.007\n\x01\x01").unwrap();
    assert_eq!(rig7.said()[..6], [1, 1, 2, 208, 1, 144]);
    let mut rig5 = rig(Some("x"));
    rig5.said();
    rig5.send(b"RFB 003.005\n").unwrap();
    assert_eq!(rig5.said()[..5], [0, 0, 0, 2, 7]);
}

#[test]
fn the_password_decides_who_comes_in() {
    for (password, typed, let_in) in [
        ("secret", "secret", true),
        ("secret", "Secret", false),
        ("secret", "", false),
        ("", "", false),
        // Eight bytes count.
        ("12345678", "123456789", true),
    ] {
        let mut rig = rig(Some(password));
        rig.said();
        rig.send(b"RFB 003.008\n\x02").unwrap();
        assert_eq!(rig.said(), [&[1, 2][..], &[7; 16]].concat());
        let answered = rig.send(&answer(typed, &[7; 16]));
        assert_eq!(answered.is_ok(), let_in, "{password:?} {typed:?}");
        assert_eq!(rig.said()[..4], u32::to_be_bytes((!let_in).into()));
    }
}

#[test]
fn nobody_gets_past_the_password() {
    let mut rig = rig(Some("secret"));
    rig.send(VERSION).unwrap();
    assert!(matches!(rig.send(&[SECURITY_NONE]), Err(Hangup::Protocol(_))));
}

#[test]
fn garbage_ends_the_connection_at_once() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"RFB 004.001\n", b"RFB 003.abc\n"] {
        assert!(rig(None).send(bytes).is_err());
    }
    for message in [
        &[9u8, 0, 0, 0][..],
        &[QEMU_MESSAGE, 1, 0, 0],
        &[SET_ENCODINGS, 0, 0xff, 0xff],
        &[CUT_TEXT, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0],
        &[CUT_TEXT, 0, 0, 0, 0x80, 0, 0, 0],
        &[CUT_TEXT, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff],
        &[0; 20],
    ] {
        let result = running().send(message);
        let small = message[0] == CUT_TEXT && message[4] == 0xff;
        // The first cut text is of one byte, as an extended one.
        assert_eq!(result.is_err(), !small, "{message:x?}");
    }
}

#[test]
fn a_cut_text_is_skipped_and_what_follows_is_read() {
    let mut rig = running();
    rig.send(&[CUT_TEXT, 0, 0, 0, 0, 0, 3, 0xe8]).unwrap();
    for _ in 0..10 {
        rig.send(&[4; 100]).unwrap();
    }
    rig.send(&[KEY_EVENT, 1, 0, 0, 0, 0, 0, b'a']).unwrap();
    assert_eq!(rig.events(), [InputEvent::Key { code: 30, down: true }]);
}

#[test]
fn messages_may_come_byte_by_byte() {
    let mut rig = running();
    for byte in [KEY_EVENT, 1, 0, 0, 0, 0, 0xff, 0x0d, POINTER_EVENT, 1, 0, 0, 0, 0] {
        rig.send(&[byte]).unwrap();
    }
    let events = rig.events();
    assert_eq!(events[0], InputEvent::Key { code: 28, down: true });
    assert_eq!(events[1], InputEvent::Position { x: 0, y: 0 });
    assert_eq!(events[2], InputEvent::Button { code: button::LEFT, down: true });
}

#[test]
fn scan_codes_come_before_what_is_printed_on_the_key() {
    let mut rig = running();
    // A French keyboard: what is 'a' there is where 'q' is.
    rig.send(&[QEMU_MESSAGE, 0, 0, 1, 0, 0, 0, b'a', 0, 0, 0, 0x10]).unwrap();
    rig.send(&[QEMU_MESSAGE, 0, 0, 0, 0, 0, 0, b'a', 0, 0, 0, 0x10]).unwrap();
    assert_eq!(rig.events(), [true, false].map(|down| InputEvent::Key { code: 16, down }));
}

#[test]
fn a_pointer_is_scaled_to_a_tablet_and_counted_for_a_mouse() {
    let mut rig = running();
    rig.send(&[POINTER_EVENT, 0, 0x02, 0xcf, 0x01, 0x8f]).unwrap();
    let far = InputEvent::FAR;
    assert_eq!(rig.events(), [InputEvent::Position { x: far, y: far }]);
    rig.send(&[POINTER_EVENT, 0, 0xff, 0xff, 0, 0]).unwrap();
    assert_eq!(rig.events(), [InputEvent::Position { x: far, y: 0 }]);
    rig.sink.accepts = MOUSE;
    rig.send(&[POINTER_EVENT, 0b1000, 0, 10, 0, 7]).unwrap();
    let wheel = InputEvent::Wheel { vertical: 1, horizontal: 0 };
    assert_eq!(rig.events(), [InputEvent::Motion { dx: 10 - 0xffff, dy: 7 }, wheel]);
}

#[test]
fn a_viewer_that_can_is_told_to_count_motion_while_there_is_no_tablet() {
    let mut rig = running();
    rig.sink.accepts = MOUSE;
    rig.send(&[SET_ENCODINGS, 0, 0, 1, 0xff, 0xff, 0xfe, 0xff]).unwrap();
    rig.send(&[UPDATE_REQUEST, 1, 0, 0, 0, 0, 0, 1, 0, 1]).unwrap();
    let told = rig.update();
    assert_eq!(told[..16], [0, 0, 0, 1, 0, 0, 0, 0, 2, 208, 1, 144, 0xff, 0xff, 0xfe, 0xff]);
    rig.send(&[POINTER_EVENT, 0, 0x7f, 0xfe, 0x80, 0x04]).unwrap();
    assert_eq!(rig.events(), [InputEvent::Motion { dx: -1, dy: 5 }]);
}

#[test]
fn what_is_held_is_let_go_when_the_viewer_leaves() {
    let mut rig = running();
    rig.send(&[KEY_EVENT, 1, 0, 0, 0, 0, 0xff, 0xe3]).unwrap();
    rig.send(&[POINTER_EVENT, 0b100, 0, 0, 0, 0]).unwrap();
    rig.events();
    rig.viewer.leave(&rig.sink);
    assert_eq!(
        rig.events(),
        [
            InputEvent::Key { code: 29, down: false },
            InputEvent::Button { code: button::RIGHT, down: false }
        ]
    );
}

#[test]
fn keys_that_are_never_let_go_are_few() {
    let mut rig = running();
    for keysym in 0..0x1_0000u32 {
        let [a, b, c, d] = keysym.to_be_bytes();
        rig.send(&[KEY_EVENT, 1, 0, 0, a, b, c, d]).unwrap();
    }
    rig.events();
    rig.viewer.leave(&rig.sink);
    assert!(rig.events().len() <= 64);
}

#[test]
fn only_what_changed_is_sent_and_only_when_asked_for() {
    let mut rig = running();
    assert_eq!(rig.update(), [0u8; 0]);
    rig.send(&[UPDATE_REQUEST, 0, 0, 0, 0, 0, 0, 2, 0, 1]).unwrap();
    let first = rig.update();
    // A screen that the viewer has never seen is all new, whatever it asks for.
    assert!(first.len() > 720 * 400 * 4);
    rig.send(&[UPDATE_REQUEST, 1, 0, 0, 0, 0, 2, 208, 1, 144]).unwrap();
    assert_eq!(rig.update(), [0u8; 0]);
    rig.surface.begin(720, 400);
    rig.surface.put_row(399, &[0xff]);
    let change = rig.update();
    let head = [0, 0, 0, 1, 0, 0, 1, 128, 0, 64, 0, 16, 0, 0, 0, 0];
    assert_eq!(change[..16], head);
    assert_eq!(change.len(), 16 + 64 * 16 * 4);
    assert_eq!(change[16 + 64 * 15 * 4..][..8], [0xff, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_new_size_is_told_to_who_can_and_cut_for_who_cannot() {
    let mut rig = running();
    rig.send(&[UPDATE_REQUEST, 1, 0, 0, 0, 0, 2, 208, 1, 144]).unwrap();
    rig.surface.begin(100, 50);
    let cut = rig.update();
    assert_eq!(cut[..12], [0, 0, 0, 1, 0, 0, 0, 0, 0, 100, 0, 50]);
    let mut rig = running();
    rig.send(&[SET_ENCODINGS, 0, 0, 1, 0xff, 0xff, 0xff, 0x21]).unwrap();
    rig.send(&[UPDATE_REQUEST, 1, 0, 0, 0, 0, 2, 208, 1, 144]).unwrap();
    rig.surface.begin(100, 50);
    let told = rig.update();
    assert_eq!(told[..16], [0, 0, 0, 1, 0, 0, 0, 0, 0, 100, 0, 50, 0xff, 0xff, 0xff, 0x21]);
    assert_eq!(told[16..28], [0, 0, 0, 1, 0, 0, 0, 0, 0, 100, 0, 50]);
}

#[test]
fn who_reads_nothing_is_encoded_nothing() {
    let mut rig = running();
    rig.surface.begin(4096, 2048);
    rig.viewer = running().viewer;
    let full = Rect { x: 0, y: 0, width: 4096, height: 2048 };
    assert_eq!(rig.surface.bounds(), full);
    rig.send(&[SET_ENCODINGS, 0, 0, 1, 0xff, 0xff, 0xff, 0x21]).unwrap();
    rig.send(&[UPDATE_REQUEST, 0, 0, 0, 0, 0, 16, 0, 8, 0]).unwrap();
    rig.viewer.begin_update(&rig.surface, TABLET, &mut rig.out);
    rig.viewer.fill(&rig.surface, &mut rig.out, 0);
    let waiting = rig.out.len();
    assert!(waiting < (64 << 10) + 1024 * 64 * 4 + 1000, "{waiting}");
    for _ in 0..1000 {
        rig.send(&[UPDATE_REQUEST, 0, 0, 0, 0, 0, 16, 0, 8, 0]).unwrap();
        rig.viewer.begin_update(&rig.surface, TABLET, &mut rig.out);
        rig.viewer.fill(&rig.surface, &mut rig.out, waiting);
    }
    assert_eq!(rig.out.len(), waiting);
}

#[test]
fn a_size_that_a_viewer_wishes_for_is_refused_politely() {
    let mut rig = running();
    rig.send(&[SET_ENCODINGS, 0, 0, 1, 0xff, 0xff, 0xfe, 0xcc]).unwrap();
    rig.send(&[UPDATE_REQUEST, 1, 0, 0, 0, 0, 0, 1, 0, 1]).unwrap();
    rig.update();
    let mut wish = vec![SET_DESKTOP_SIZE, 0, 4, 0, 3, 0, 1, 0];
    wish.extend([0; 16]);
    rig.send(&wish).unwrap();
    rig.send(&[UPDATE_REQUEST, 1, 0, 0, 0, 0, 0, 1, 0, 1]).unwrap();
    assert_eq!(rig.update()[..8], [0, 0, 0, 1, 0, 1, 0, 1]);
}
