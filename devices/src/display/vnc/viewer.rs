//! [`Viewer`]: the server's side of one RFB connection, without its socket.
//!
//! ```text
//! Version ─▶ Security ─▶ Response ─▶ Init ─▶ Running
//!            └── no password: straight to Init ──┘
//! ```
//! Bytes come in, and bytes go out when there is room for them: what a viewer says only changes
//! what it is sent next, so one that does not read costs no memory, however much it asks for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::auth::CHALLENGE;
use super::encode::{Block, Encoder, Encoding};
use super::pixels::{self, Format};
use super::spec::*;
use super::{Hangup, Terms};
use crate::display::keymap;
use crate::display::{Rect, Surface};
use crate::input::{Accepts, InputEvent, InputSink, button};

/// Rectangles are at most this wide: tight allows 2048.
const MOST_WIDTH: u32 = 1024;
/// And as high as a row of tiles.
const MOST_HEIGHT: u32 = crate::display::TILE;
/// More encodings than there are.
const MOST_ENCODINGS: usize = 1024;
/// Keys that may be down at once; a user has ten fingers.
const MOST_KEYS: usize = 64;
/// Nothing more is encoded while this much waits to go out.
const HIGH_WATER: usize = 64 << 10;

pub(crate) struct Viewer {
    terms: Arc<Terms>,
    stage: Stage,
    /// Of the protocol's version: 3, 7 or 8.
    minor: u32,
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

enum Stage {
    Version,
    Security,
    Response([u8; CHALLENGE]),
    Init,
    Running,
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

/// Keys and buttons that are down, to be let go when the viewer leaves.
#[derive(Default)]
struct Held {
    keys: BTreeSet<u16>,
    buttons: u8,
    /// Where the pointer was last.
    pointer: Option<(u16, u16)>,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Authenticated, and whether it lets others in.
    Joined { shared: bool },
}

const BUTTONS: [u16; 3] = [button::LEFT, button::MIDDLE, button::RIGHT];

impl Viewer {
    /// A viewer whose greeting is in `out`.
    pub(crate) fn new(terms: Arc<Terms>, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(VERSION);
        Self {
            terms,
            stage: Stage::Version,
            minor: 0,
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
        matches!(self.stage, Stage::Init)
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
            let message = Message { bytes: rest };
            let used = match self.stage {
                Stage::Running => self.serve(message, sink)?,
                _ => self.shake_hands(message, surface, out, &mut notice)?,
            };
            let Some(used) = used else { break };
            rest = rest.get(used..).unwrap_or_default();
        }
        self.incoming = rest.to_vec();
        Ok(notice)
    }

    /// One step of the handshake; how many bytes it took, none if there are too few yet.
    fn shake_hands(
        &mut self,
        message: Message<'_>,
        surface: &Surface,
        out: &mut Vec<u8>,
        notice: &mut Option<Notice>,
    ) -> Result<Option<usize>, Hangup> {
        match self.stage {
            Stage::Version => {
                let Some(version) = message.take::<12>(0) else { return Ok(None) };
                let minor = minor_version(&version).ok_or(Hangup::Protocol("no RFB version"))?;
                self.offer_security(minor, out);
                Ok(Some(12))
            }
            Stage::Security => {
                let Some([chosen]) = message.take(0) else { return Ok(None) };
                if chosen != self.security() {
                    return Err(Hangup::Protocol("a security type that was not offered"));
                }
                self.begin_security(out);
                Ok(Some(1))
            }
            Stage::Response(challenge) => {
                let Some(response) = message.take(0) else { return Ok(None) };
                let password = self.terms.password.as_ref();
                let now = SystemTime::now();
                if password.is_none_or(|known| !known.admits(&challenge, &response, now)) {
                    let reason = b"the password is wrong, or not valid any more";
                    out.extend_from_slice(&1u32.to_be_bytes());
                    out.extend_from_slice(&(reason.len() as u32).to_be_bytes());
                    out.extend_from_slice(reason);
                    return Err(Hangup::Denied);
                }
                self.admit(out);
                Ok(Some(CHALLENGE))
            }
            Stage::Init => {
                let Some([shared]) = message.take(0) else { return Ok(None) };
                *notice = Some(Notice::Joined { shared: shared != 0 });
                self.size = (surface.width(), surface.height());
                put_u16(out, &[self.size.0, self.size.1]);
                out.extend_from_slice(&pixels::NATIVE);
                let name = self.terms.name.as_bytes();
                out.extend_from_slice(&(name.len() as u32).to_be_bytes());
                out.extend_from_slice(name);
                self.stage = Stage::Running;
                Ok(Some(1))
            }
            Stage::Running => Ok(None),
        }
    }

    fn security(&self) -> u8 {
        if self.terms.password.is_some() { SECURITY_VNC } else { SECURITY_NONE }
    }

    fn offer_security(&mut self, minor: u32, out: &mut Vec<u8>) {
        self.minor = minor;
        let security = self.security();
        if minor >= 7 {
            out.extend([1, security]);
            self.stage = Stage::Security;
        } else {
            // Before 3.7 the server decides, and says nothing of success without a password.
            out.extend_from_slice(&u32::from(security).to_be_bytes());
            self.begin_security(out);
        }
    }

    fn begin_security(&mut self, out: &mut Vec<u8>) {
        if self.security() == SECURITY_VNC {
            let challenge = (self.terms.random)();
            out.extend_from_slice(&challenge);
            self.stage = Stage::Response(challenge);
        } else {
            // RFC 6143 §7.1.3: version 3.8 hears of its success also without authentication.
            if self.minor >= 8 {
                self.admit(out);
            }
            self.stage = Stage::Init;
        }
    }

    fn admit(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&0u32.to_be_bytes());
        self.stage = Stage::Init;
    }

    /// One message; how many bytes it has, none if it is not complete yet.
    fn serve(
        &mut self,
        message: Message<'_>,
        sink: &dyn InputSink,
    ) -> Result<Option<usize>, Hangup> {
        let Some([kind]) = message.take(0) else { return Ok(None) };
        match kind {
            SET_PIXEL_FORMAT => {
                let Some(wire) = message.take(4) else { return Ok(None) };
                let format = Format::parse(&wire);
                let format = format.ok_or(Hangup::Protocol("a pixel format that cannot be"))?;
                if self.pending.is_empty() {
                    self.format = format;
                } else {
                    self.next_format = Some(format);
                }
                Ok(Some(4 + pixels::LEN))
            }
            SET_ENCODINGS => {
                let Some(count) = message.take(2).map(u16::from_be_bytes) else { return Ok(None) };
                let count = usize::from(count);
                if count > MOST_ENCODINGS {
                    return Err(Hangup::Protocol("too many encodings"));
                }
                let Some(list) = message.bytes.get(4..4 + 4 * count) else { return Ok(None) };
                self.set_encodings(
                    list.chunks_exact(4)
                        .map(|number| i32::from_be_bytes(std::array::from_fn(|at| number[at]))),
                );
                Ok(Some(4 + 4 * count))
            }
            UPDATE_REQUEST => {
                let Some([incremental]) = message.take(1) else { return Ok(None) };
                let Some(area) = message.take::<8>(2) else { return Ok(None) };
                let [x, y, width, height] =
                    [0, 2, 4, 6].map(|at| u32::from(u16::from_be_bytes([area[at], area[at + 1]])));
                self.ask_update(incremental != 0, Rect { x, y, width, height });
                Ok(Some(10))
            }
            KEY_EVENT => {
                let Some(down) = message.take(1) else { return Ok(None) };
                let Some(keysym) = message.take(4).map(u32::from_be_bytes) else { return Ok(None) };
                if let Some(key) = keymap::from_keysym(keysym) {
                    self.input.key(key, down != [0], sink);
                }
                Ok(Some(8))
            }
            POINTER_EVENT => {
                let Some([buttons]) = message.take(1) else { return Ok(None) };
                let Some(at) = message.take::<4>(2) else { return Ok(None) };
                let [x, y] = [[at[0], at[1]], [at[2], at[3]]].map(u16::from_be_bytes);
                let counts_motion = self.abilities.told_absolute == Some(false);
                self.input.pointer(buttons, (x, y), self.size, counts_motion, sink);
                Ok(Some(6))
            }
            CUT_TEXT => {
                let Some(length) = message.take(4).map(i32::from_be_bytes) else { return Ok(None) };
                // Negative is the extended clipboard's, which was not offered. There is nobody in
                // the guest to give it to: it is skipped as it comes, and never stored.
                self.skip = length.unsigned_abs() as usize;
                if self.skip > self.terms.most_cut_text {
                    return Err(Hangup::Protocol("a cut text of absurd length"));
                }
                Ok(Some(8))
            }
            SET_DESKTOP_SIZE => {
                let Some([screens]) = message.take(6) else { return Ok(None) };
                let length = 8 + 16 * usize::from(screens);
                if message.bytes.len() < length {
                    return Ok(None);
                }
                self.abilities.owed_size = Some((RESIZE_BY_CLIENT, RESIZE_PROHIBITED));
                Ok(Some(length))
            }
            QEMU_MESSAGE => {
                let Some([QEMU_KEY_EVENT]) = message.take(1) else {
                    let complete = message.bytes.len() > 1;
                    let unknown = Err(Hangup::Protocol("a message that was not offered"));
                    return if complete { unknown } else { Ok(None) };
                };
                let Some(down) = message.take::<2>(2) else { return Ok(None) };
                let Some(keysym) = message.take(4).map(u32::from_be_bytes) else { return Ok(None) };
                let Some(code) = message.take(8).map(u32::from_be_bytes) else { return Ok(None) };
                let key = u16::try_from(code).ok().and_then(keymap::from_scan_code);
                if let Some(key) = key.or_else(|| keymap::from_keysym(keysym)) {
                    self.input.key(key, down != [0; 2], sink);
                }
                Ok(Some(12))
            }
            _ => Err(Hangup::Protocol("a message of unknown type")),
        }
    }

    fn set_encodings(&mut self, list: impl Iterator<Item = i32>) {
        let told_absolute = self.abilities.told_absolute;
        let mut abilities = Abilities { told_absolute, ..Abilities::default() };
        for number in list {
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

/// What of a message is there.
#[derive(Clone, Copy)]
struct Message<'a> {
    bytes: &'a [u8],
}

impl Message<'_> {
    fn take<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..at + N)?.first_chunk().copied()
    }
}

/// `RFB 003.00N`: anything else that begins so is taken for 3.3, as the RFC asks.
fn minor_version(version: &[u8; 12]) -> Option<u32> {
    if !version.starts_with(b"RFB 003.") || version[11] != b'\n' {
        return None;
    }
    let digits = std::str::from_utf8(&version[8..11]).ok()?;
    let minor = digits.parse::<u32>().ok()?;
    Some(match minor {
        7 => 7,
        8.. => 8,
        _ => 3,
    })
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

impl Held {
    fn key(&mut self, code: u16, down: bool, sink: &dyn InputSink) {
        if down {
            if self.keys.len() >= MOST_KEYS && !self.keys.contains(&code) {
                return;
            }
            self.keys.insert(code);
        } else {
            self.keys.remove(&code);
        }
        sink.send(&[InputEvent::Key { code, down }]);
    }

    fn pointer(
        &mut self,
        buttons: u8,
        at: (u16, u16),
        size: (u32, u32),
        counts_motion: bool,
        sink: &dyn InputSink,
    ) {
        let mut events = Vec::with_capacity(6);
        if counts_motion {
            let [dx, dy] = [at.0, at.1].map(|to| i32::from(to) - MOTION_CENTRE);
            events.push(InputEvent::Motion { dx, dy });
        } else if sink.accepts().position {
            let scale = |value: u16, size: u32| {
                let last = size.saturating_sub(1).max(1);
                let far = u32::from(InputEvent::FAR);
                (u32::from(value).min(last) * far / last) as u16
            };
            events.push(InputEvent::Position { x: scale(at.0, size.0), y: scale(at.1, size.1) });
        } else if let Some(before) = self.pointer {
            let by = |to: u16, from: u16| i32::from(to) - i32::from(from);
            events.push(InputEvent::Motion { dx: by(at.0, before.0), dy: by(at.1, before.1) });
        }
        self.pointer = Some(at);
        let changed = self.buttons ^ buttons;
        for (bit, code) in
            BUTTONS.into_iter().enumerate().filter(|(bit, _)| changed >> bit & 1 != 0)
        {
            events.push(InputEvent::Button { code, down: buttons >> bit & 1 != 0 });
        }
        // Wheels are buttons that are pressed for each notch.
        let notch = |bit: u8| i32::from((changed & buttons) >> bit & 1);
        let (vertical, horizontal) = (notch(3) - notch(4), notch(6) - notch(5));
        if (vertical, horizontal) != (0, 0) {
            events.push(InputEvent::Wheel { vertical, horizontal });
        }
        self.buttons = buttons;
        if !events.is_empty() {
            sink.send(&events);
        }
    }

    fn release(&mut self, sink: &dyn InputSink) {
        let keys = std::mem::take(&mut self.keys).into_iter();
        let mut events: Vec<InputEvent> =
            keys.map(|code| InputEvent::Key { code, down: false }).collect();
        let held = std::mem::take(&mut self.buttons);
        let buttons = BUTTONS.into_iter().enumerate().filter(|(bit, _)| held >> bit & 1 != 0);
        events.extend(buttons.map(|(_, code)| InputEvent::Button { code, down: false }));
        if !events.is_empty() {
            sink.send(&events);
        }
    }
}
