//! The files: lines of JSON, the newest in `audit.jsonl`, the older in `audit.jsonl.1` and so on.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Record;
use crate::config;

const NAME: &str = "audit.jsonl";
/// After a power cut the last lines may be missing: ids leap over those they may have had.
const LEAP: u64 = 1 << 16;
/// Holds many lines.
const TAIL: u64 = 64 << 10;

/// Where the lines are. Reading takes the lock only to open files, and writing only to rename them.
pub(super) struct Files {
    path: PathBuf,
    /// Bytes from which on a file gets no more lines.
    limit: u64,
    /// Older files that are kept.
    keep: u32,
    renaming: Mutex<()>,
}

impl Files {
    pub(super) fn new(dir: &Path, config: &config::Audit) -> Self {
        let limit = u64::from(config.file_size_mib.max(1)) << 20;
        Self { path: dir.join(NAME), limit, keep: config.keep, renaming: Mutex::new(()) }
    }

    fn numbered(&self, number: u32) -> PathBuf {
        match number {
            0 => self.path.clone(),
            _ => self.path.with_file_name(format!("{NAME}.{number}")),
        }
    }

    /// Those that exist, the newest first.
    fn open_all(&self) -> io::Result<Vec<File>> {
        let _renaming = self.renaming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = Vec::new();
        for number in 0..=self.keep {
            match File::open(self.numbered(number)) {
                Ok(file) => files.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    pub(super) fn read(&self, after: Option<u64>, limit: usize) -> io::Result<Vec<Record>> {
        // Newest first, until the rest can hold nothing that is wanted.
        let mut parts: Vec<VecDeque<Record>> = Vec::new();
        let mut have = 0;
        for file in self.open_all()? {
            let mut part = VecDeque::new();
            let mut is_last = false;
            for line in lines(file) {
                let Some(record) = parse(&line?) else { continue };
                if after.is_some_and(|after| record.id <= after) {
                    is_last = true;
                    continue;
                }
                part.push_back(record);
                if part.len() > limit {
                    // The first ones are wanted, or the last ones.
                    let _ = if after.is_some() { part.pop_back() } else { part.pop_front() };
                }
            }
            have += part.len();
            parts.push(part);
            if is_last || (after.is_none() && have >= limit) {
                break;
            }
        }
        let mut found: Vec<_> = parts.into_iter().rev().flatten().collect();
        if after.is_none() {
            found.drain(..found.len().saturating_sub(limit));
        }
        found.truncate(limit);
        Ok(found)
    }

    /// The highest id that was written; 0 if none was.
    fn last_id(&self) -> u64 {
        let files = self.open_all().unwrap_or_default();
        files.iter().find_map(|file| last_of(file).ok().flatten()).map_or(0, |record| record.id)
    }

    /// Make room for a new file; what is too old goes.
    fn rotate(&self) -> io::Result<()> {
        let _renaming = self.renaming.lock().unwrap_or_else(PoisonError::into_inner);
        if self.keep == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (0..self.keep).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn lines(file: File) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    let mut reader = BufReader::new(file);
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error)),
        }
    })
}

/// None of a line that a crash or a full disk cut off.
fn parse(line: &[u8]) -> Option<Record> {
    serde_json::from_slice(line).ok()
}

/// The last line, without a look at all the others.
fn last_of(file: &File) -> io::Result<Option<Record>> {
    let size = file.metadata()?.len();
    let mut length = TAIL;
    loop {
        let begin = size.saturating_sub(length);
        let mut tail = vec![0; usize::try_from(size - begin).unwrap_or(0)];
        file.read_exact_at(&mut tail, begin)?;
        let last = tail.rsplit(|byte| *byte == b'\n').find_map(parse);
        if last.is_some() || begin == 0 {
            return Ok(last);
        }
        length *= 2;
    }
}

/// The end of the newest file, for its one writer.
pub(super) struct Log {
    files: Arc<Files>,
    open: Option<Open>,
}

struct Open {
    file: File,
    size: u64,
    /// The last line has no end: the next one begins with one.
    is_torn: bool,
}

impl Log {
    /// With the highest id that can have been given.
    pub(super) fn open(files: Arc<Files>, host_was_booted: bool) -> (Self, u64) {
        let last = files.last_id();
        let leap = if host_was_booted && last > 0 { LEAP } else { 0 };
        (Self { files, open: None }, last.saturating_add(leap))
    }

    pub(super) fn path(&self) -> &Path {
        &self.files.path
    }

    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        if self.open.as_ref().is_some_and(|open| open.size >= self.files.limit) {
            self.rotate()?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            closed => closed.insert(Open::new(&self.files.path)?),
        };
        let result = open.append(&line);
        if result.is_err() {
            // Looked at anew: somebody may have made room, or another place.
            self.open = None;
        }
        result
    }

    fn rotate(&mut self) -> io::Result<()> {
        if let Some(open) = self.open.take() {
            // It is not written again: now or never.
            open.file.sync_data()?;
            self.files.rotate()?;
        }
        Ok(())
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        let mut last = [b'\n'];
        if let Some(at) = size.checked_sub(1) {
            file.read_exact_at(&mut last, at)?;
        }
        Ok(Self { file, size, is_torn: last != [b'\n'] })
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.is_torn = false;
            self.size += 1;
        }
        self.file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(())
    }
}
