//! [`Log`]: a file that takes all that a guest writes and never gets large: as virtlogd keeps them,
//! 2 MiB and three older ones of the same size.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// More than this goes to the older ones.
pub(super) const LARGEST: u64 = 2 << 20;
const CHUNK: usize = 64 << 10;

pub(super) struct Log {
    file: File,
    /// None of a device, which does not grow.
    len: Option<u64>,
    /// Newest first, written at their ends. Open already: a VMM opens no path.
    older: Vec<File>,
}

impl Log {
    pub(super) fn new(file: OwnedFd, older: Vec<OwnedFd>) -> io::Result<Self> {
        let file = File::from(file);
        let metadata = file.metadata()?;
        let len = metadata.is_file().then_some(metadata.len());
        Ok(Self { file, len, older: older.into_iter().map(File::from).collect() })
    }

    pub(super) fn write(&mut self, data: &[u8]) -> rustix::io::Result<usize> {
        if let Some(len) = self.len
            && !self.older.is_empty()
            && len + data.len() as u64 > LARGEST
        {
            self.turn();
        }
        let written = rustix::io::write(&self.file, data)?;
        self.len = self.len.map(|len| len + written as u64);
        Ok(written)
    }

    /// Empty the file into the first of the older ones, that into the next, and so on. What cannot
    /// be kept is dropped: a full file system must not make the log grow.
    fn turn(&mut self) {
        for at in (0..self.older.len()).rev() {
            let from = at.checked_sub(1).map_or(&self.file, |newer| &self.older[newer]);
            if let Err(error) = copy(from, &self.older[at]) {
                tracing::warn!(%error, "an older part of a console's log is lost");
            }
        }
        match self.file.set_len(0).and_then(|()| rewind(&self.file)) {
            Ok(()) => self.len = Some(0),
            Err(error) => tracing::warn!(%error, "a console's log cannot be emptied"),
        }
    }
}

impl AsFd for Log {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// In place: both keep their names and their readers.
fn copy(from: &File, to: &File) -> io::Result<()> {
    to.set_len(0)?;
    rewind(from)?;
    // Somebody else may write there too, without an end.
    let (mut from, mut to) = (from.take(2 * LARGEST), to);
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&chunk[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn rewind(file: &File) -> io::Result<()> {
    let mut file = file;
    file.seek(SeekFrom::Start(0)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    fn contents(file: &File) -> Vec<u8> {
        let mut data = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut data, 0).unwrap();
        data
    }

    #[test]
    fn a_log_is_bounded_and_its_newest_part_is_kept_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let open = |number: u32| {
            let path = dir.path().join(number.to_string());
            // As the daemon opens them.
            let mut how = OpenOptions::new();
            how.read(true).write(true).create(true).append(number > 0).open(path).unwrap()
        };
        let files: Vec<File> = (0..4).map(open).collect();
        let fd = |file: &File| OwnedFd::from(file.try_clone().unwrap());
        let mut log = Log::new(fd(&files[0]), files[1..].iter().map(fd).collect()).unwrap();
        let mut all = Vec::new();
        for number in 0..110u32 {
            let line = [number as u8; 100_000];
            assert_eq!(log.write(&line).unwrap(), line.len());
            all.extend_from_slice(&line);
        }
        let mut kept = Vec::new();
        for file in files.iter().rev() {
            let part = contents(file);
            assert!(part.len() as u64 <= LARGEST);
            kept.extend(part);
        }
        assert!(kept.len() as u64 > 3 * LARGEST - 300_000);
        assert!(all.ends_with(&kept), "no part is missing, doubled or out of order");
    }

    #[test]
    fn without_older_files_a_log_grows() {
        let file = tempfile::tempfile().unwrap();
        let mut log = Log::new(file.try_clone().unwrap().into(), Vec::new()).unwrap();
        for _ in 0..30 {
            log.write(&[b'x'; 100_000]).unwrap();
        }
        assert_eq!(file.metadata().unwrap().len(), 3_000_000);
    }
}
