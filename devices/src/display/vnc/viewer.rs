//! [`Viewer`]: the server's side of one RFB connection, without its socket.
//!
//! Bytes come in, and bytes go out when there is room for them: what a viewer says only changes
//! what it is sent next, so one that does not read costs no memory, however much it asks for.

use std::sync::Arc;

use super::encode::{Block, Encoder, Encoding};
use super::handshake::{Handshake, Step, put_text};
use super::held::Held;
use super::message::{Bytes, Message};
use super::pixels::{self, Format};
use super::spec::*;
use super::{Hangup, Terms, Tls};
use crate::display::{Rect, Surface};
use crate::input::{Accepts, InputSink};

/// Rectangles are at most this wide: tight allows 2048.
const MOST_WIDTH: u32 = 1024;
/// And as high as a row of tiles.
const MOST_HEIGHT: u32 = crate::display::TILE;
/// Nothing more is encoded while this much waits to go out.
const HIGH_WATER: usize = 64 << 10;

pub(crate) struct Viewer {
    terms: Arc<Terms>,
    /// None: it is let in.
    handshake: Option<Handshake>,
    incoming: Vec<u8>,
    /// Bytes of a cut text that are still to come, and to be ignored.
    skip: usize,
    abilities: Abilities,
    format: Format,
    /// Asked for while an update was under way; holds from the next on.
    next_format: Option<Format>,
    encoder: Encoder,
    /// The size that the viewer knows.
    size: (u32, u32),
    wish: Wish,
    /// The frame up to which it has been shown everything.
    seen: u64,
    /// What is left to encode of the update under way, last first.
    pending: Vec<Rect>,
    input: Held,
}

/// What the viewer has said that it can do, and what is still to be told about it.
#[derive(Default)]
struct Abilities {
    encoding: Option<Encoding>,
    resize: bool,
    extended_resize: bool,
    motion: bool,
    /// Told that key events may carry scan codes.
    owed_keys: bool,
    /// Owed its size, and why: an answer to its own wish, or because it asked to be told.
    owed_size: Option<(u16, u16)>,
    /// What it was told last about its pointer: absolute or not.
    told_absolute: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Nothing,
    /// What changed.
    Changes,
    /// This, changed or not.
    All(Rect),
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// What is in `out` goes as it is; from then on all is TLS, which has to be told by
    /// [`Viewer::secured`].
    Secure,
    /// Authenticated, and whether it lets others in.
    Joined { shared: bool },
}

impl Viewer {
    /// A viewer whose greeting is in `out`.
    pub(crate) fn new(terms: Arc<Terms>, out: &mut Vec<u8>) -> Self {
        Self {
            handshake: Some(Handshake::new(terms.clone(), out)),
            terms,
            incoming: Vec::new(),
            skip: 0,
            abilities: Abilities::default(),
            format: Format::parse(&pixels::NATIVE).expect("our own format is valid"),
            next_format: None,
            encoder: Encoder::default(),
            size: (0, 0),
            wish: Wish::Nothing,
            seen: 0,
            pending: Vec::new(),
            input: Held::default(),
        }
    }

    /// Whether it is let in, and about to be told the size of the screen.
    pub(crate) fn awaits_size(&self) -> bool {
        self.handshake.as_ref().is_some_and(Handshake::awaits_size)
    }

    /// What secures it, if it is to be.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.terms.tls.as_ref()
    }

    /// TLS has begun, of which `out` is the inside.
    pub(crate) fn secured(&mut self, out: &mut Vec<u8>) {
        if let Some(handshake) = &mut self.handshake {
            handshake.secured(out);
        }
    }

    /// Whether a new frame is of use to it.
    pub(crate) fn wants_frame(&self) -> bool {
        self.wish != Wish::Nothing && self.pending.is_empty()
    }

    /// Take bytes from the socket; answers go to `out`.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        surface: &Surface,
        sink: &dyn InputSink,
        out: &mut Vec<u8>,
    ) -> Result<Option<Notice>, Hangup> {
        self.incoming.extend_from_slice(bytes);
        let incoming = std::mem::take(&mut self.incoming);
        let mut rest = &incoming[..];
        let mut notice = None;
        loop {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            rest = &rest[skipped..];
            let used = match &mut self.handshake {
                None => self.serve(Bytes(rest), sink)?,
                Some(handshake) => match handshake.step(Bytes(rest), out)? {
                    Step::Wait => None,
                    Step::Used(used) => Some(used),
                    Step::Secure(used) => {
                        // Whoever is in between could have put it there.
                        if rest.len() > used {
                            return Err(Hangup::Protocol("something before TLS began"));
                        }
                        return Ok(Some(Notice::Secure));
                    }
                    Step::Done { used, shared } => {
                        notice = Some(Notice::Joined { shared });
                        self.greet(surface, out);
                        Some(used)
                    }
                },
            };
            let Some(used) = used else { break };
            rest = rest.get(used..).unwrap_or_default();
        }
        self.incoming = rest.to_vec();
        Ok(notice)
    }

    /// It is let in: tell it what it will see.
    fn greet(&mut self, surface: &Surface, out: &mut Vec<u8>) {
        self.handshake = None;
        self.size = (surface.width(), surface.height());
        put_u16(out, &[self.size.0, self.size.1]);
        out.extend_from_slice(&pixels::NATIVE);
        put_text(out, &self.terms.name);
    }

    /// One message; how many bytes it has, none if it is not complete yet.
    fn serve(&mut self, bytes: Bytes<'_>, sink: &dyn InputSink) -> Result<Option<usize>, Hangup> {
        let Some((message, used)) = Message::parse(bytes)? else { return Ok(None) };
        match message {
            Message::PixelFormat(format) if self.pending.is_empty() => self.format = format,
            Message::PixelFormat(format) => self.next_format = Some(format),
            Message::Encodings(list) => self.set_encodings(&list),
            Message::Update { incremental, area } => self.ask_update(incremental, area),
            Message::Key { code, down } => {
                if let Some(code) = code {
                    self.input.key(code, down, sink);
                }
            }
            Message::Pointer { buttons, at } => {
                let counts_motion = self.abilities.told_absolute == Some(false);
                self.input.pointer(buttons, at, self.size, counts_motion, sink);
            }
            Message::CutText { length } => {
                // There is nobody in the guest to give it to: it is skipped as it comes, and never
                // stored.
                self.skip = length;
                if self.skip > self.terms.most_cut_text {
                    return Err(Hangup::Protocol("a cut text of absurd length"));
                }
            }
            Message::DesktopSize => {
                self.abilities.owed_size = Some((RESIZE_BY_CLIENT, RESIZE_PROHIBITED));
            }
        }
        Ok(Some(used))
    }

    fn set_encodings(&mut self, list: &[i32]) {
        let told_absolute = self.abilities.told_absolute;
        let mut abilities = Abilities { told_absolute, ..Abilities::default() };
        for &number in list {
            match number {
                DESKTOP_SIZE => abilities.resize = true,
                EXTENDED_DESKTOP_SIZE => {
                    abilities.extended_resize = true;
                    abilities.owed_size = Some((RESIZE_BY_SERVER, 0));
                }
                POINTER_MOTION => abilities.motion = true,
                QEMU_KEYS => abilities.owed_keys = true,
                // The first that we know is the one that it likes best.
                _ => abilities.encoding = abilities.encoding.or(Encoding::of(number)),
            }
        }
        self.abilities = abilities;
    }

    fn ask_update(&mut self, incremental: bool, area: Rect) {
        self.wish = match (self.wish, incremental) {
            (Wish::Nothing, true) => Wish::Changes,
            (wish, true) => wish,
            (Wish::All(asked), false) if asked != area => {
                // Two areas at once are rare, and everything covers both.
                Wish::All(Rect { x: 0, y: 0, width: u32::MAX, height: u32::MAX })
            }
            (_, false) => Wish::All(area),
        };
    }

    /// Begin an update with what the last frame has for this viewer, if there is anything.
    pub(crate) fn begin_update(&mut self, surface: &Surface, accepts: Accepts, out: &mut Vec<u8>) {
        if !self.wants_frame() {
            return;
        }
        self.tell(surface, accepts, out);
        let screen = Rect { x: 0, y: 0, width: self.size.0, height: self.size.1 };
        let mut rects = surface.changes_since(self.seen);
        if let Wish::All(area) = self.wish {
            let asked = area.intersection(screen);
            if asked == Some(screen) {
                rects.clear();
            }
            // Rectangles may overlap: all are of the same frame.
            rects.extend(asked);
        }
        // Some thousand pieces at most, by the size that a surface may have.
        let mut pending: Vec<Rect> = rects
            .into_iter()
            .filter_map(|rect| rect.intersection(screen))
            .flat_map(pieces)
            .collect();
        if pending.is_empty() {
            return;
        }
        self.seen = surface.frame();
        self.wish = Wish::Nothing;
        out.extend_from_slice(&[UPDATE, 0]);
        put_u16(out, &[pending.len() as u32]);
        pending.reverse();
        self.pending = pending;
    }

    /// What is said beside the picture, each in an update of its own.
    fn tell(&mut self, surface: &Surface, accepts: Accepts, out: &mut Vec<u8>) {
        let size = (surface.width(), surface.height());
        let resized =
            self.size != size && (self.abilities.resize || self.abilities.extended_resize);
        if resized {
            self.size = size;
            self.wish = Wish::All(surface.bounds());
            self.abilities.owed_size.get_or_insert((RESIZE_BY_SERVER, 0));
        }
        if let Some((reason, status)) = self.abilities.owed_size.take() {
            if self.abilities.extended_resize {
                header(
                    out,
                    (u32::from(reason), u32::from(status)),
                    self.size,
                    EXTENDED_DESKTOP_SIZE,
                );
                // One screen, number 0, with no flags, all of it.
                out.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
                put_u16(out, &[0, 0, self.size.0, self.size.1, 0, 0]);
            } else if self.abilities.resize {
                header(out, (0, 0), self.size, DESKTOP_SIZE);
            }
        }
        if std::mem::take(&mut self.abilities.owed_keys) {
            header(out, (0, 0), self.size, QEMU_KEYS);
        }
        // Without a tablet the guest only hears of motion; a viewer that grabs its pointer can say it.
        let absolute = accepts.position || !accepts.motion;
        if self.abilities.motion && self.abilities.told_absolute != Some(absolute) {
            self.abilities.told_absolute = Some(absolute);
            header(out, (absolute.into(), 0), self.size, POINTER_MOTION);
        }
    }

    /// Encode what is pending while there is room for it.
    pub(crate) fn fill(&mut self, surface: &Surface, out: &mut Vec<u8>, waiting: usize) {
        let start = out.len();
        let mut pixels = Vec::new();
        while waiting + (out.len() - start) < HIGH_WATER
            && let Some(rect) = self.pending.pop()
        {
            let encoding = self.abilities.encoding.unwrap_or(Encoding::Raw);
            put_u16(out, &[rect.x, rect.y, rect.width, rect.height]);
            out.extend_from_slice(&encoding.number().to_be_bytes());
            pixels.clear();
            for y in rect.y..rect.y + rect.height {
                // The picture may have another size by now: what it has not is black.
                let row = surface.row(y);
                let (from, to) = (rect.x as usize, (rect.x + rect.width) as usize);
                let part = row.get(from..to.min(row.len())).unwrap_or_default();
                pixels.extend_from_slice(part);
                pixels.resize(pixels.len() + rect.width as usize - part.len(), 0);
            }
            let block = Block { width: rect.width as usize, pixels: &pixels };
            self.encoder.encode(encoding, &block, &self.format, out);
        }
        if self.pending.is_empty()
            && let Some(format) = self.next_format.take()
        {
            self.format = format;
        }
    }

    /// Whether an update is under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The connection has ended: nothing stays pressed.
    pub(crate) fn leave(&mut self, sink: &dyn InputSink) {
        self.input.release(sink);
    }
}
fn put_u16(out: &mut Vec<u8>, values: &[u32]) {
    for value in values {
        out.extend_from_slice(&(*value as u16).to_be_bytes());
    }
}

/// An update of one rectangle that is none.
fn header(out: &mut Vec<u8>, at: (u32, u32), size: (u32, u32), encoding: i32) {
    out.extend_from_slice(&[UPDATE, 0]);
    put_u16(out, &[1, at.0, at.1, size.0, size.1]);
    out.extend_from_slice(&encoding.to_be_bytes());
}

/// A rectangle cut into ones that are small enough.
fn pieces(rect: Rect) -> Vec<Rect> {
    let mut found = Vec::new();
    for y in (rect.y..rect.y + rect.height).step_by(MOST_HEIGHT as usize) {
        for x in (rect.x..rect.x + rect.width).step_by(MOST_WIDTH as usize) {
            let width = MOST_WIDTH.min(rect.x + rect.width - x);
            let height = MOST_HEIGHT.min(rect.y + rect.height - y);
            found.push(Rect { x, y, width, height });
        }
    }
    found
}
