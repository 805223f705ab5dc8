//! [`Message`]: what a viewer says once it is let in (RFC 6143 §7.5, and QEMU's extensions).

use super::Hangup;
use super::pixels::{self, Format};
use super::spec::*;
use crate::display::{Rect, keymap};

/// More encodings than there are.
const MOST_ENCODINGS: usize = 1024;

pub(super) enum Message {
    PixelFormat(Format),
    Encodings(Vec<i32>),
    Update {
        incremental: bool,
        area: Rect,
    },
    /// A key of Linux's numbers; none that we know, maybe.
    Key {
        code: Option<u16>,
        down: bool,
    },
    Pointer {
        buttons: u8,
        at: (u16, u16),
    },
    /// So many bytes of text follow.
    CutText {
        length: usize,
    },
    /// It wishes for a screen of another size.
    DesktopSize,
}

/// What of the incoming bytes is there.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Bytes<'_> {
    pub(super) fn take<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at + N)?.first_chunk().copied()
    }
}

impl Message {
    /// The first message of `bytes` and its length; none if it is not complete yet.
    pub(super) fn parse(bytes: Bytes<'_>) -> Result<Option<(Self, usize)>, Hangup> {
        let Some([kind]) = bytes.take(0) else { return Ok(None) };
        match kind {
            SET_PIXEL_FORMAT => pixel_format(bytes),
            SET_ENCODINGS => encodings(bytes),
            UPDATE_REQUEST => Ok(update(bytes)),
            KEY_EVENT => Ok(key(bytes)),
            POINTER_EVENT => Ok(pointer(bytes)),
            CUT_TEXT => {
                let Some(length) = bytes.take(4).map(i32::from_be_bytes) else { return Ok(None) };
                // Negative is the extended clipboard's, which was not offered.
                let length = length.unsigned_abs() as usize;
                Ok(Some((Self::CutText { length }, 8)))
            }
            SET_DESKTOP_SIZE => {
                let Some([screens]) = bytes.take(6) else { return Ok(None) };
                let length = 8 + 16 * usize::from(screens);
                Ok((bytes.0.len() >= length).then_some((Self::DesktopSize, length)))
            }
            QEMU_MESSAGE => match bytes.take(1) {
                None => Ok(None),
                Some([QEMU_KEY_EVENT]) => Ok(scan_code(bytes)),
                Some(_) => Err(Hangup::Protocol("a message that was not offered")),
            },
            _ => Err(Hangup::Protocol("a message of unknown type")),
        }
    }
}

fn pixel_format(bytes: Bytes<'_>) -> Result<Option<(Message, usize)>, Hangup> {
    let Some(wire) = bytes.take(4) else { return Ok(None) };
    let format = Format::parse(&wire).ok_or(Hangup::Protocol("a pixel format that cannot be"))?;
    Ok(Some((Message::PixelFormat(format), 4 + pixels::LEN)))
}

fn encodings(bytes: Bytes<'_>) -> Result<Option<(Message, usize)>, Hangup> {
    let Some(count) = bytes.take(2).map(u16::from_be_bytes) else { return Ok(None) };
    let count = usize::from(count);
    if count > MOST_ENCODINGS {
        return Err(Hangup::Protocol("too many encodings"));
    }
    let Some(list) = bytes.0.get(4..4 + 4 * count) else { return Ok(None) };
    let number = |wire: &[u8]| i32::from_be_bytes(std::array::from_fn(|at| wire[at]));
    let list = list.chunks_exact(4).map(number).collect();
    Ok(Some((Message::Encodings(list), 4 + 4 * count)))
}

fn update(bytes: Bytes<'_>) -> Option<(Message, usize)> {
    let [incremental] = bytes.take(1)?;
    let area = bytes.take::<8>(2)?;
    let [x, y, width, height] =
        [0, 2, 4, 6].map(|at| u32::from(u16::from_be_bytes([area[at], area[at + 1]])));
    let area = Rect { x, y, width, height };
    Some((Message::Update { incremental: incremental != 0, area }, 10))
}

fn key(bytes: Bytes<'_>) -> Option<(Message, usize)> {
    let down = bytes.take(1)? != [0];
    let keysym = bytes.take(4).map(u32::from_be_bytes)?;
    Some((Message::Key { code: keymap::from_keysym(keysym), down }, 8))
}

fn pointer(bytes: Bytes<'_>) -> Option<(Message, usize)> {
    let [buttons] = bytes.take(1)?;
    let at = bytes.take::<4>(2)?;
    let at = (u16::from_be_bytes([at[0], at[1]]), u16::from_be_bytes([at[2], at[3]]));
    Some((Message::Pointer { buttons, at }, 6))
}

/// A key as QEMU's extension tells it: what it means, and where it is on the keyboard.
fn scan_code(bytes: Bytes<'_>) -> Option<(Message, usize)> {
    let down = bytes.take::<2>(2)? != [0; 2];
    let keysym = bytes.take(4).map(u32::from_be_bytes)?;
    let code = bytes.take(8).map(u32::from_be_bytes)?;
    let code = u16::try_from(code).ok().and_then(keymap::from_scan_code);
    let code = code.or_else(|| keymap::from_keysym(keysym));
    Some((Message::Key { code, down }, 12))
}
