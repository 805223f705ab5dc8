//! RAM in a saved state: pages of zeros stay holes, and what lies between them is written at once.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use memory::{Backing, GuestRam, MemoryError};
use vmm_protocol::saved::{Body, CHUNK, Packed, pack, sum};

use super::ImageError;

/// The least that is left out: a page of the guest's, and a block of most file systems.
const PAGE: usize = 4096;
/// More of them wait for memory.
const MOST_THREADS: usize = 8;
static ZEROS: [u8; PAGE] = [0; PAGE];
/// Written before it is made sure that the disk has it: the wait at the end stays short.
pub(super) const UNSYNCED: u64 = 64 << 20;

/// Writes RAM into a file, a part at a time.
pub(super) struct Writer {
    ram: GuestRam,
    /// In RAM as it lies in the file, region after region.
    at: u64,
    unsynced: u64,
    chunk: Vec<u8>,
    /// Of a whole chunk.
    sum_of_zeros: u32,
    written: Written,
}

/// What is known of the chunks that were written.
enum Written {
    AsTheyAre { start: u64, sums: Vec<u32> },
    Packed { table: Vec<Packed>, end: u64 },
}

impl Writer {
    /// As it is, from `start` on.
    pub(super) fn new(ram: GuestRam, start: u64) -> Self {
        Self::with(ram, Written::AsTheyAre { start, sums: Vec::new() })
    }

    pub(super) fn packing(ram: GuestRam, start: u64) -> Self {
        Self::with(ram, Written::Packed { table: Vec::new(), end: start })
    }

    fn with(ram: GuestRam, written: Written) -> Self {
        let chunk = vec![0; CHUNK as usize];
        let sum_of_zeros = sum(&chunk);
        Self { ram, at: 0, unsynced: 0, chunk, sum_of_zeros, written }
    }

    pub(super) fn done(&self) -> u64 {
        self.at
    }

    /// The rest, once there is no chunk left.
    pub(super) fn finish(&self, body: Body, file: &File) -> io::Result<()> {
        match &self.written {
            Written::AsTheyAre { sums, .. } => body.finish(file, sums),
            Written::Packed { table, .. } => body.finish_packed(file, table),
        }
    }

    /// Write the next chunk; false when there is none. `file` reads as zeros from RAM's start on.
    pub(super) fn step(&mut self, file: &File) -> Result<bool, ImageError> {
        let len = CHUNK.min(self.ram.size() - self.at) as usize;
        if len == 0 {
            return Ok(false);
        }
        read(&self.ram, self.at, &mut self.chunk[..len])?;
        let chunk = &self.chunk[..len];
        let written = match &mut self.written {
            Written::AsTheyAre { start, sums } => {
                let data = runs_of_data(chunk);
                // Most guests have not touched most of their memory.
                let is_zero = data.is_empty() && len == CHUNK as usize;
                sums.push(if is_zero { self.sum_of_zeros } else { sum(chunk) });
                write_runs(file, *start + self.at, chunk, &data)
            }
            Written::Packed { table, end } => {
                let (packed, bytes) = pack(chunk);
                let written = file.write_all_at(&bytes, *end).map(|()| bytes.len() as u64);
                table.push(packed);
                *end += bytes.len() as u64;
                written
            }
        };
        self.unsynced += written.map_err(ImageError::Write)?;
        self.at += len as u64;
        if self.unsynced >= UNSYNCED {
            file.sync_data().map_err(ImageError::Write)?;
            self.unsynced = 0;
        }
        Ok(true)
    }
}

/// What lies where `runs` says. How much that was comes back.
pub(super) fn write_runs(
    file: &File,
    start: u64,
    chunk: &[u8],
    runs: &[Range<usize>],
) -> io::Result<u64> {
    let mut written = 0;
    for run in runs {
        let bytes = &chunk[run.clone()];
        file.write_all_at(bytes, start + run.start as u64)?;
        written += bytes.len() as u64;
    }
    Ok(written)
}

/// Where pages lie, one behind the other, that are not zero.
pub(super) fn runs_of_data(chunk: &[u8]) -> Vec<Range<usize>> {
    runs_of(chunk, |_, page| page != &ZEROS[..page.len()])
}

/// Where pages lie, one behind the other, that are wanted: by their number, and what they hold.
pub(super) fn runs_of(chunk: &[u8], is_wanted: impl Fn(usize, &[u8]) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (number, page) in chunk.chunks(PAGE).enumerate() {
        if !is_wanted(number, page) {
            continue;
        }
        let start = number * PAGE;
        match runs.last_mut() {
            Some(run) if run.end == start => run.end += page.len(),
            _ => runs.push(start..start + page.len()),
        }
    }
    runs
}

/// Read RAM as it lies in a file. It may span regions.
pub(super) fn read(ram: &GuestRam, mut at: u64, mut data: &mut [u8]) -> Result<(), MemoryError> {
    for region in ram.regions() {
        let Some(into) = at.checked_sub(region.file_offset).filter(|into| *into < region.len)
        else {
            continue;
        };
        let len = (region.len - into).min(data.len() as u64);
        let (now, rest) = data.split_at_mut(len as usize);
        ram.read_slice(region.gpa + into, now)?;
        (data, at) = (rest, at + len);
    }
    Ok(())
}

/// Map the RAM of a saved state: it is there at once, and its pages come as they are wanted.
pub(super) fn map(
    layout: &[(u64, u64)],
    file: &File,
    body: &Body,
) -> Result<GuestRam, MemoryError> {
    GuestRam::new(layout, &Backing::CopyOnWrite(file, body.ram()))
}

/// Read the RAM of a saved state into `ram`, which is zeros: for one that cannot be a private
/// mapping of the file, since others have it too, its pages are of another kind, or it is packed.
pub(super) fn fill(ram: &GuestRam, file: &File, body: &Body) -> Result<(), ImageError> {
    if body.is_packed() {
        return fill_packed(ram, file, body);
    }
    let mut piece = vec![0; CHUNK as usize];
    for region in ram.regions() {
        let mut done = 0;
        while done < region.len {
            let len = (region.len - done).min(CHUNK);
            let piece = &mut piece[..len as usize];
            let offset = body.ram() + region.file_offset + done;
            file.read_exact_at(piece, offset).map_err(ImageError::Read)?;
            for data in runs_of_data(piece) {
                ram.write_slice(region.gpa + done + data.start as u64, &piece[data])?;
            }
            done += len;
        }
    }
    Ok(())
}

/// By several threads: unpacking is what takes time. They end before the process is confined.
fn fill_packed(ram: &GuestRam, file: &File, body: &Body) -> Result<(), ImageError> {
    let chunks = body.chunks(file)?;
    let next = AtomicUsize::new(0);
    let work = || {
        let mut chunk = vec![0; CHUNK as usize];
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= chunks.count() {
                return Ok(());
            }
            let (start, len) = chunks.place(number);
            let chunk = &mut chunk[..len];
            if chunks.read(file, number, chunk)? {
                write(ram, start, chunk)?;
            }
        }
    };
    let threads = available_parallelism().map_or(1, |count| count.get().min(MOST_THREADS));
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let own = work();
        let ended = |other: std::thread::ScopedJoinHandle<'_, _>| {
            other
                .join()
                .unwrap_or(Err(ImageError::Damaged { what: "its memory cannot be unpacked" }))
        };
        others.into_iter().map(ended).fold(own, Result::and)
    })
}

/// Write RAM as it lies in a file. It may span regions.
fn write(ram: &GuestRam, mut at: u64, mut data: &[u8]) -> Result<(), MemoryError> {
    for region in ram.regions() {
        let Some(into) = at.checked_sub(region.file_offset).filter(|into| *into < region.len)
        else {
            continue;
        };
        let len = (region.len - into).min(data.len() as u64);
        let (now, rest) = data.split_at(len as usize);
        ram.write_slice(region.gpa + into, now)?;
        (data, at) = (rest, at + len);
    }
    Ok(())
}
