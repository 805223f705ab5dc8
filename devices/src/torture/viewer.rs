//! A VNC viewer, from its first byte on.

use std::sync::Arc;

use super::Script;
use crate::display::vnc::{Notice, Viewer};
use crate::display::{Password, Surface, Terms, Tls};
use crate::input::{Accepts, InputEvent, InputSink};

/// More than a viewer that reads nothing may have waiting: an update that was begun, and what is
/// said beside it.
const MOST_WAITING: usize = 1 << 20;

struct Deaf(Accepts);

impl InputSink for Deaf {
    fn accepts(&self) -> Accepts {
        self.0
    }
    fn send(&self, _events: &[InputEvent]) {}
}

/// ```text
/// u8 terms   then pieces: u8 length (0: an update of the picture), and so many bytes
/// ```
/// Behind TLS the bytes are what was inside of it.
pub fn rfb(data: &[u8]) {
    let mut script = Script(data);
    let flags = script.byte();
    let password = (flags & 1 != 0).then(|| Password { text: "x".to_owned(), valid_to: None });
    let mut terms = Terms::new("guest", password);
    // The challenge of an input must be the one that the next run sees.
    terms.random = || [7; 16];
    terms.tls = (flags & 2 != 0).then(Tls::without_certificate);
    let accepts =
        Accepts { keys: flags & 4 != 0, position: flags & 8 != 0, motion: flags & 16 != 0 };
    let sink = Deaf(accepts);
    let mut surface = Surface::new();
    surface.begin(200, 100);
    let mut out = Vec::new();
    let mut viewer = Viewer::new(Arc::new(terms), &mut out);
    let mut frames = 0;
    while !script.is_over() {
        let length = usize::from(script.byte());
        if length > 0 {
            match viewer.receive(script.take(length), &surface, &sink, &mut out) {
                Ok(Some(Notice::Secure)) => viewer.secured(&mut out),
                Ok(_) => {}
                Err(_) => break,
            }
        } else if frames < 64 {
            frames += 1;
            surface.begin(200 - frames % 2 * 70, 100);
            let row: Vec<u32> = (0..200).map(|x| ((x * frames) << 7) & 0xff_ffff).collect();
            surface.put_row(frames, &row);
            viewer.begin_update(&surface, accepts, &mut out);
            while viewer.is_busy() {
                viewer.fill(&surface, &mut out, 0);
            }
            out.clear();
        }
        assert!(
            out.len() < MOST_WAITING,
            "{} bytes wait for a viewer that reads nothing",
            out.len()
        );
    }
    viewer.leave(&sink);
}
