//! Tight (rfbproto, "Tight Encoding"): one colour, a palette, or pixels as they are, compressed
//! without loss.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::encode::{Block, Stream};
use super::pixels::Format;

/// In the upper half of the first byte.
const FILL: u8 = 0x80;
const EXPLICIT_FILTER: u8 = 0x40;
const FILTER_PALETTE: u8 = 1;
/// Less is sent as it is, without a length.
const LEAST_COMPRESSED: usize = 12;
const MOST_COLOURS: usize = 256;

/// A stream for each sort of data, as they have little in common.
#[derive(Default)]
pub(super) struct Streams([Option<Stream>; 3]);

const FULL_COLOUR: usize = 0;
const TWO_COLOURS: usize = 1;
const PALETTE: usize = 2;

pub(super) fn encode(
    block: &Block<'_>,
    format: &Format,
    streams: &mut Streams,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    plain.clear();
    let colours = colours(block.pixels);
    let colours = colours.filter(|(list, _)| list.len() <= 2 || format.bytes > 1);
    let stream = match &colours {
        Some((list, _)) if list.len() <= 1 => {
            out.push(FILL);
            return format.put_tight(list.first().copied().unwrap_or(0), out);
        }
        Some((list, numbers)) => {
            let stream = if list.len() == 2 { TWO_COLOURS } else { PALETTE };
            out.extend([EXPLICIT_FILTER | (stream as u8) << 4, FILTER_PALETTE]);
            out.push((list.len() - 1) as u8);
            for colour in list {
                format.put_tight(*colour, out);
            }
            let number = |colour: &u32| numbers.get(colour).copied().unwrap_or(0);
            if stream == PALETTE {
                plain.extend(block.pixels.iter().map(number));
            } else {
                for row in block.pixels.chunks(block.width.max(1)) {
                    plain.extend(row.chunks(8).map(|pixels| {
                        let bits = pixels.iter().enumerate();
                        bits.fold(0, |byte, (at, colour)| byte | number(colour) << (7 - at))
                    }));
                }
            }
            stream
        }
        None => {
            out.push((FULL_COLOUR as u8) << 4);
            for colour in block.pixels {
                format.put_tight(*colour, plain);
            }
            FULL_COLOUR
        }
    };
    if plain.len() < LEAST_COMPRESSED {
        return out.extend_from_slice(plain);
    }
    let mut packed = Vec::new();
    streams.0[stream].get_or_insert_with(Stream::new).deflate(plain, &mut packed);
    put_length(packed.len(), out);
    out.extend_from_slice(&packed);
}

type Colours = (Vec<u32>, HashMap<u32, u8>);

/// The colours and their numbers, if there are at most 256.
fn colours(pixels: &[u32]) -> Option<Colours> {
    let (mut list, mut numbers) = (Vec::new(), HashMap::new());
    for run in pixels.chunk_by(|a, b| a == b) {
        if let Entry::Vacant(entry) = numbers.entry(run[0]) {
            if list.len() == MOST_COLOURS {
                return None;
            }
            entry.insert(list.len() as u8);
            list.push(run[0]);
        }
    }
    Some((list, numbers))
}

/// Seven bits a byte, the least first, and eight in the third.
fn put_length(length: usize, out: &mut Vec<u8>) {
    let byte = |shift: usize| (length >> shift) as u8;
    if length < 1 << 7 {
        out.push(byte(0));
    } else if length < 1 << 14 {
        out.extend([byte(0) | 0x80, byte(7)]);
    } else {
        out.extend([byte(0) | 0x80, byte(7) | 0x80, byte(14)]);
    }
}
