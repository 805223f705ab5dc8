//! ZRLE (RFC 6143 §7.7.6): tiles of 64 × 64 as a palette, as runs, or as they are.

use super::encode::Block;
use super::pixels::Format;

const TILE: usize = 64;
/// Palettes of up to this many colours are packed into 1, 2 or 4 bits a pixel.
const MOST_PACKED: usize = 16;
const RAW: u8 = 0;
const SOLID: u8 = 1;
const PLAIN_RUNS: u8 = 128;

pub(super) fn encode(block: &Block<'_>, format: &Format, out: &mut Vec<u8>) {
    let rows: Vec<&[u32]> = block.pixels.chunks(block.width.max(1)).collect();
    let mut tile = Vec::with_capacity(TILE * TILE);
    for band in rows.chunks(TILE) {
        for x in (0..block.width).step_by(TILE) {
            let width = TILE.min(block.width - x);
            tile.clear();
            for row in band {
                tile.extend_from_slice(row.get(x..x + width).unwrap_or_default());
            }
            encode_tile(&tile, width, format, out);
        }
    }
}

fn encode_tile(tile: &[u32], width: usize, format: &Format, out: &mut Vec<u8>) {
    let (palette, runs) = survey(tile);
    match palette.as_deref() {
        Some([colour]) => {
            out.push(SOLID);
            format.put_compact(*colour, out);
        }
        Some(palette) => packed(tile, width, palette, format, out),
        // A run takes a pixel and a byte.
        None if runs * 2 < tile.len() => {
            out.push(PLAIN_RUNS);
            for run in tile.chunk_by(|a, b| a == b) {
                format.put_compact(run[0], out);
                let mut rest = run.len() - 1;
                while rest >= 255 {
                    out.push(255);
                    rest -= 255;
                }
                out.push(rest as u8);
            }
        }
        None => {
            out.push(RAW);
            for colour in tile {
                format.put_compact(*colour, out);
            }
        }
    }
}

/// The colours, if they are few, and the number of runs.
fn survey(tile: &[u32]) -> (Option<Vec<u32>>, usize) {
    let mut palette = Vec::with_capacity(MOST_PACKED);
    let mut runs = 0;
    let mut few = true;
    for run in tile.chunk_by(|a, b| a == b) {
        runs += 1;
        if few && !palette.contains(&run[0]) {
            few = palette.len() < MOST_PACKED;
            palette.push(run[0]);
        }
    }
    (few.then_some(palette), runs)
}

fn packed(tile: &[u32], width: usize, palette: &[u32], format: &Format, out: &mut Vec<u8>) {
    out.push(palette.len() as u8);
    for colour in palette {
        format.put_compact(*colour, out);
    }
    let bits = match palette.len() {
        0..=2 => 1,
        3 | 4 => 2,
        _ => 4,
    };
    for row in tile.chunks(width.max(1)) {
        for pixels in row.chunks(8 / bits) {
            let index = |colour: &u32| palette.iter().position(|known| known == colour);
            let byte = pixels.iter().enumerate().fold(0u8, |byte, (at, colour)| {
                byte | (index(colour).unwrap_or(0) as u8) << (8 - bits * (at + 1))
            });
            out.push(byte);
        }
    }
}
