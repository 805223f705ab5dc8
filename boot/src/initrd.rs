//! Where the initrd goes: as high as the kernel allows, out of the kernel's way.

use std::fs::File;
use std::io;
use std::ops::Range;

use arch::layout::{HIMEM_START, MIB, PAGE_SIZE};

#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    #[error("it is empty")]
    Empty,
    #[error("it is not a regular file")]
    NotAFile,
    #[error(
        "its {} MiB do not fit beside the kernel's {} MiB in {} MiB of guest memory, of which {} \
         MiB can hold an initrd",
        size.div_ceil(MIB), kernel.div_ceil(MIB), ram / MIB, reachable / MIB
    )]
    TooLarge { size: u64, kernel: u64, ram: u64, reachable: u64 },
    #[error("cannot find its size")]
    Size(#[source] io::Error),
}

#[derive(Debug)]
pub(crate) struct Initrd<'a> {
    pub(crate) file: &'a File,
    pub(crate) start: u64,
    pub(crate) len: u64,
}

impl<'a> Initrd<'a> {
    /// Find room for `file` below `limit` and outside `kernel`.
    pub(crate) fn fit(
        file: &'a File,
        kernel: &Range<u64>,
        limit: u64,
        ram: u64,
    ) -> Result<Self, InitrdError> {
        let metadata = file.metadata().map_err(InitrdError::Size)?;
        if !metadata.is_file() {
            return Err(InitrdError::NotAFile);
        }
        let len = metadata.len();
        if len == 0 {
            return Err(InitrdError::Empty);
        }
        // Above the kernel if it fits, as high as possible: the decompressor then has the room
        // next to it. Else between the first MiB and the kernel.
        let top_of = |room: Range<u64>| {
            let start = room.end.checked_sub(len)? / PAGE_SIZE * PAGE_SIZE;
            (start >= room.start).then_some(start)
        };
        top_of(kernel.end..limit)
            .or_else(|| top_of(HIMEM_START..kernel.start.min(limit)))
            .map(|start| Self { file, start, len })
            .ok_or(InitrdError::TooLarge {
                size: len,
                kernel: kernel.end - kernel.start,
                ram,
                reachable: limit,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::file;

    const KERNEL: Range<u64> = 16 * MIB..20 * MIB;

    #[test]
    fn it_lies_page_aligned_at_the_top() {
        let file = file(&[1; 5000]);
        let initrd = Initrd::fit(&file, &KERNEL, 64 * MIB, 64 * MIB).unwrap();
        assert_eq!((initrd.start, initrd.len), (64 * MIB - 2 * PAGE_SIZE, 5000));
    }

    #[test]
    fn it_goes_below_the_kernel_when_there_is_no_room_above() {
        let file = file(&[1; 8192]);
        let initrd = Initrd::fit(&file, &KERNEL, 20 * MIB + 4096, 20 * MIB + 4096).unwrap();
        assert_eq!(initrd.start, 16 * MIB - 8192);
    }

    #[test]
    fn one_larger_than_memory_is_refused_with_the_sizes() {
        let file = file(&[]);
        file.set_len(1 << 40).unwrap();
        let error = Initrd::fit(&file, &KERNEL, 64 * MIB, 64 * MIB).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("1048576 MiB") && text.contains("64 MiB"), "{text}");
    }

    #[test]
    fn empty_files_and_directories_are_refused() {
        let empty = file(&[]);
        assert!(matches!(
            Initrd::fit(&empty, &KERNEL, 64 * MIB, 64 * MIB),
            Err(InitrdError::Empty)
        ));
        let directory = File::open("/").unwrap();
        assert!(matches!(
            Initrd::fit(&directory, &KERNEL, 64 * MIB, 64 * MIB),
            Err(InitrdError::NotAFile)
        ));
    }
}
