//! What the fuzz target does with the file of a saved guest: its checksums are right, and all else is anything.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::body::{self, Body};
use super::{BODY, check_ram, description, is_complete, sum};

/// RAM that is read to its end; more would only take longer.
const MOST_RAM: u64 = 64 << 20;
/// Of the header, and of the table of sums: what they say is taken from the input as it is.
const HEADER: usize = 48;

/// Make `file` one that says what `data` does, and read all of it.
///
/// ```text
/// 48 bytes of the body's header from its architecture on   u8 length of the sections, sections
/// u8 length of the table, table   RAM
/// ```
/// # Panics
/// If it cannot be made.
pub fn saved_state(file: &File, data: &[u8]) {
    let _ = write(file, data);
    if is_complete(file) {
        let _ = description(file);
    }
    let Ok(body) = Body::read(file) else { return };
    assert!(body.end() <= file.metadata().map_or(0, |data| data.len()), "it ends behind its file");
    let _ = body.sections(file);
    let _ = body.check_table(file);
    if body.ram_size() <= MOST_RAM {
        let _ = check_ram(file, |_, _| Ok(()));
    }
}

fn write(file: &File, data: &[u8]) -> io::Result<()> {
    file.set_len(0)?;
    let Some((said, rest)) = data.split_first_chunk::<HEADER>() else {
        // Anything at all, where its front is.
        return file.write_all_at(data, 0);
    };
    let (sections, rest) = part(rest);
    let (table, ram) = part(rest);
    let mut header = body::header(said);
    let at = |offset: usize| super::u64_at(&header, offset);
    let (sections_len, ram_at) = (at(16), at(24));
    // Where they lie within reason, they are there and have the sums that are said.
    let table_at = body::SECTIONS.saturating_add(sections_len);
    let room = BODY..BODY + (16 << 20);
    file.write_all_at(sections, body::SECTIONS)?;
    if room.contains(&table_at) {
        file.write_all_at(table, table_at)?;
    }
    if room.contains(&ram_at) {
        file.write_all_at(ram, ram_at)?;
        file.set_len(file.metadata()?.len().max(ram_at + (2 << 20)))?;
    }
    let mut all = vec![0; sections_len.min(1 << 20) as usize];
    let have = file.read_at(&mut all, body::SECTIONS).unwrap_or(0);
    all.truncate(have);
    header[40..44].copy_from_slice(&sum(&all).to_le_bytes());
    header[44..48].copy_from_slice(&sum(table).to_le_bytes());
    body::seal(&mut header);
    file.write_all_at(&header, BODY)
}

/// A byte that says how long it is, and so much.
fn part(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((len, rest)) = data.split_first() else { return (&[], &[]) };
    rest.split_at(usize::from(*len).min(rest.len()))
}
