//! [`LiveCopy`]: RAM that is copied into a file while its guest runs, and [`Rest`], what is left when it
//! waits.
//!
//! ```text
//! logs on ─▶ pass: the pages that are left are copied, a part at a time ◀──────────┐
//!              └─▶ logs taken: few pages, or hardly fewer than before? no: they are left
//!                     └ yes ─▶ guest waits, logs taken ─▶ sections, what is left, sums
//! ```
//! Logs are turned on, and taken, while vCPUs are out of the guest and devices have nothing in flight;
//! so whatever is written to a page after it was copied has it copied again.

use std::fs::File;
use std::ops::Range;

use memory::{GuestRam, PAGE, Pages};
use vmm_protocol::saved::{Body, CHUNK, sum};

use super::ram::{UNSYNCED, read, runs_of, runs_of_data, write_runs};
use super::{ImageError, STEP, Saved, Steps};

/// So few pages are copied while the guest waits: 4 MiB.
const FEW: u64 = (4 << 20) / PAGE;
/// A guest that writes faster than its memory is copied waits for the difference in the end.
const MOST_PASSES: u32 = 16;

/// RAM on its way into a file.
pub struct LiveCopy {
    file: File,
    body: Body,
    ram: GuestRam,
    left: Pages,
    /// The chunk to look at next.
    next: u64,
    /// Passes that have come to their end.
    passes: u32,
    /// Pages that this pass began with.
    of_pass: u64,
    unsynced: u64,
    chunk: Vec<u8>,
    /// Of each chunk as it lies in the file.
    sums: Vec<u32>,
}

impl LiveCopy {
    /// Begin with all pages. Logs are turned on before the guest runs again.
    pub fn begin(file: File, ram: GuestRam) -> Result<Self, ImageError> {
        let body = Body::of_ram(ram.size());
        body.make_room(&file).map_err(ImageError::Write)?;
        let chunk = vec![0; CHUNK as usize];
        // What has not been looked at is a hole.
        let sums = vec![sum(&chunk); ram.size().div_ceil(CHUNK) as usize];
        let left = Pages::all(ram.size());
        let of_pass = left.len();
        Ok(Self { file, body, ram, left, next: 0, passes: 0, of_pass, unsynced: 0, chunk, sums })
    }

    /// Bytes that are copied, and all.
    pub fn progress(&self) -> (u64, u64) {
        let all = self.ram.size();
        (all.saturating_sub(self.left.len() * PAGE), all)
    }

    /// Copy a little. True when none is left of this pass, and the disk has it.
    pub fn step(&mut self) -> Result<bool, ImageError> {
        let mut copied = 0;
        while copied < STEP {
            if self.next >= self.sums.len() as u64 {
                self.sync()?;
                return Ok(true);
            }
            copied += self.copy_chunk()?;
        }
        Ok(false)
    }

    /// What was written to since the pass began is left now. False when the guest had better wait.
    pub fn begin_pass(&mut self, written: &Pages) -> bool {
        self.left.extend(written);
        self.passes += 1;
        self.next = 0;
        let before = std::mem::replace(&mut self.of_pass, self.left.len());
        let shrinks = self.of_pass.saturating_mul(4) < before.saturating_mul(3);
        self.of_pass > FEW && shrinks && self.passes < MOST_PASSES
    }

    /// The guest waits, and logs are taken for the last time.
    pub fn rest(self, saved: &Saved, written: &Pages) -> Result<Rest, ImageError> {
        self.rest_beside(&saved.sections()?, written)
    }

    fn rest_beside(mut self, sections: &[u8], written: &Pages) -> Result<Rest, ImageError> {
        self.left.extend(written);
        self.next = 0;
        self.body = self.body.put_sections(&self.file, sections).map_err(ImageError::Write)?;
        Ok(Rest(self))
    }

    /// The pages of the next chunk that are left; bytes that were looked at come back.
    fn copy_chunk(&mut self) -> Result<u64, ImageError> {
        let number = self.next;
        self.next += 1;
        let start = number * CHUNK;
        let len = CHUNK.min(self.ram.size().saturating_sub(start));
        let pages = start / PAGE..(start + len).div_ceil(PAGE);
        if !self.left.has(pages.clone()) {
            return Ok(0);
        }
        let chunk = &mut self.chunk[..len as usize];
        read(&self.ram, start, chunk)?;
        let runs: Vec<Range<usize>> = if self.passes == 0 {
            runs_of_data(chunk)
        } else {
            // Zeros, too: something else lies there.
            runs_of(chunk, |page, _| self.left.contains(pages.start + page as u64))
        };
        let written = write_runs(&self.file, self.body.ram() + start, chunk, &runs);
        self.unsynced += written.map_err(ImageError::Write)?;
        self.sums[number as usize] = sum(chunk);
        self.left.remove(pages);
        if self.unsynced >= UNSYNCED {
            self.sync()?;
        }
        Ok(len)
    }

    fn sync(&mut self) -> Result<(), ImageError> {
        if std::mem::take(&mut self.unsynced) > 0 {
            self.file.sync_data().map_err(ImageError::Write)?;
        }
        Ok(())
    }
}

/// What is left of RAM, of a guest that waits.
pub struct Rest(LiveCopy);

impl Steps for Rest {
    fn progress(&self) -> (u64, u64) {
        self.0.progress()
    }

    fn step(&mut self) -> Result<bool, ImageError> {
        let copy = &mut self.0;
        let mut copied = 0;
        while copied < STEP {
            if copy.next >= copy.sums.len() as u64 {
                // It syncs by itself.
                copy.body.finish(&copy.file, &copy.sums).map_err(ImageError::Write)?;
                return Ok(true);
            }
            copied += copy.copy_chunk()?;
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use memory::Backing;

    use super::*;

    const MIB: u64 = 1 << 20;
    const LAYOUT: [(u64, u64); 2] = [(0, 8 * MIB), (16 * MIB, 2 * MIB)];

    /// As the machine does, when nothing is in flight.
    fn taken(ram: &GuestRam) -> Pages {
        let mut pages = Pages::none(ram.size());
        ram.take_written(&mut pages);
        pages
    }

    fn to_the_end(mut step: impl FnMut() -> Result<bool, ImageError>) {
        while !step().unwrap() {}
    }

    fn rest(copy: LiveCopy, ram: &GuestRam) -> File {
        let file = copy.file.try_clone().unwrap();
        let mut rest = copy.rest_beside(b"sections", &taken(ram)).unwrap();
        to_the_end(|| rest.step());
        file
    }

    #[test]
    fn what_is_written_meanwhile_is_in_the_file_and_its_sums_are_right() {
        let ram = GuestRam::new(&LAYOUT, &Backing::Anonymous).unwrap();
        ram.write_slice(5 * MIB, b"first").unwrap();
        ram.write_slice(17 * MIB, b"there").unwrap();
        ram.write_slice(6 * MIB, b"goes").unwrap();
        let mut copy = LiveCopy::begin(tempfile::tempfile().unwrap(), ram.clone()).unwrap();
        ram.log_writes(true);
        to_the_end(|| copy.step());
        ram.write_slice(5 * MIB, b"later").unwrap();
        assert!(!copy.begin_pass(&taken(&ram)), "one page is no pass");
        ram.write_slice(6 * MIB, &[0; 4]).unwrap();
        ram.write_slice(MIB - 2, b"both").unwrap();
        let file = rest(copy, &ram);

        let body = Body::read(&file).unwrap();
        assert_eq!(body.sections(&file).unwrap(), b"sections");
        vmm_protocol::saved::check_ram(&file, |_, _| Ok(())).unwrap();
        let mut all = vec![0; 10 << 20];
        file.read_exact_at(&mut all, body.ram()).unwrap();
        let mut expected = vec![0; 10 << 20];
        read(&ram, 0, &mut expected).unwrap();
        assert!(all == expected);
        assert_eq!(&all[5 << 20..][..5], b"later");
    }

    #[test]
    fn passes_end_when_they_hardly_shrink() {
        let ram = GuestRam::new(&[(0, 64 * MIB)], &Backing::Anonymous).unwrap();
        let mut copy = LiveCopy::begin(tempfile::tempfile().unwrap(), ram.clone()).unwrap();
        ram.log_writes(true);
        let mut passes = Vec::new();
        for written in [32, 16, 15] {
            to_the_end(|| copy.step());
            for page in (0..written * MIB).step_by(PAGE as usize) {
                ram.write_obj(page, page).unwrap();
            }
            passes.push(copy.begin_pass(&taken(&ram)));
        }
        assert_eq!(passes, [true, true, false]);
        assert_eq!(copy.progress(), (49 * MIB, 64 * MIB));
    }
}
