//! Copying what one image shows into another.

use std::io;

use serde::{Deserialize, Serialize};

use crate::bytes::is_zero;
use crate::view::Image;

/// Bytes that are read at a time.
const PIECE: u64 = 2 << 20;

/// How the target looks before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Nothing is in it: zeros need not be written.
    Blank,
    /// Something shows through: only what differs is written.
    Filled,
}

/// Copy all of `source`; the target is as large at least. Zeros stay holes, in steps of `step`
/// bytes. `progress` is told how far it has come, and stops the copy with an error.
///
/// # Errors
/// What either image or `progress` says.
pub fn copy(
    source: &dyn Image,
    target: &dyn Image,
    before: Target,
    step: u64,
    progress: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    let size = source.size();
    let mut piece = vec![0; PIECE as usize];
    let mut there = if before == Target::Filled { piece.clone() } else { Vec::new() };
    let mut at = 0;
    while at < size {
        progress(at)?;
        let extent = source.map(at, size - at)?;
        if extent.is_zero() {
            if before == Target::Filled {
                target.write_zeroes(at, extent.len, true)?;
            }
            at += extent.len;
            continue;
        }
        let end = at + extent.len;
        while at < end {
            progress(at)?;
            // Pieces end where steps do, so that a step is written once.
            let part = (PIECE - at % PIECE).min(end - at);
            let data = &mut piece[..part as usize];
            source.read(data, at)?;
            if before == Target::Filled {
                let there = &mut there[..part as usize];
                target.read(there, at)?;
                each_run(
                    data,
                    at,
                    step,
                    |range| data[range.clone()] != there[range],
                    |range| write(target, &data[range.clone()], at + range.start as u64),
                )?;
            } else {
                each_run(
                    data,
                    at,
                    step,
                    |range| !is_zero(&data[range]),
                    |range| target.write(&data[range.clone()], at + range.start as u64),
                )?;
            }
            at += part;
        }
    }
    progress(size)
}

fn write(target: &dyn Image, data: &[u8], offset: u64) -> io::Result<()> {
    if is_zero(data) {
        return target.write_zeroes(offset, data.len() as u64, true);
    }
    target.write(data, offset)
}

/// Call `act` for each longest run of steps that `wanted` holds for.
fn each_run(
    data: &[u8],
    offset: u64,
    step: u64,
    wanted: impl Fn(std::ops::Range<usize>) -> bool,
    mut act: impl FnMut(std::ops::Range<usize>) -> io::Result<()>,
) -> io::Result<()> {
    let (mut run, mut at) = (None, 0);
    while at < data.len() {
        let to_border = (step - (offset + at as u64) % step) as usize;
        let end = data.len().min(at.saturating_add(to_border));
        if wanted(at..end) {
            run.get_or_insert(at);
        } else if let Some(start) = run.take() {
            act(start..at)?;
        }
        at = end;
    }
    match run {
        Some(start) => act(start..data.len()),
        None => Ok(()),
    }
}
