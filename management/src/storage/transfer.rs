//! Bytes of a volume's file, to a caller and from one, a piece at a time.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use image::{FileStorage, Storage as _};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::create::io_error;
use super::scan;
use crate::domain::actor::blocking;
use crate::error::{Code, Error};
use crate::jobs::Progress;

/// Bytes in a piece.
const PIECE: u64 = 256 << 10;
/// Zeros of this length and place become holes.
const BLOCK: usize = 4096;

/// What comes next of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Data(Vec<u8>),
    /// So many zeros that its file does not keep.
    Hole(u64),
}

/// A volume's bytes as they are in its file.
pub struct Download {
    volume: String,
    file: Arc<FileStorage>,
    at: u64,
    end: u64,
}

impl Download {
    /// From `offset`, `length` bytes or what there is.
    pub(crate) fn new(
        volume: String,
        file: &OwnedFd,
        offset: u64,
        length: Option<u64>,
    ) -> Result<Self, Error> {
        let file = Arc::new(scan::storage(file)?);
        let size = file.size().map_err(|error| io_error(&volume, error))?;
        if offset > size {
            let text =
                format!("volume {volume:?} has {size} bytes, and {offset} lie behind its end");
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let end = length.map_or(size, |length| offset.saturating_add(length).min(size));
        Ok(Self { volume, file, at: offset, end })
    }

    /// Bytes still to come.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.end - self.at
    }

    /// The next piece; none at the end.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, Error>> {
        let len = self.left().min(PIECE) as usize;
        if len == 0 {
            return None;
        }
        let (file, at, volume) = (self.file.clone(), self.at, self.volume.clone());
        self.at += len as u64;
        Some(blocking(move || read(&file, at, len, &volume)).await)
    }

    /// The next piece, with holes as such; none at the end.
    pub async fn next_or_hole(&mut self) -> Option<Result<Piece, Error>> {
        let left = self.left();
        if left == 0 {
            return None;
        }
        let (file, at, volume) = (self.file.clone(), self.at, self.volume.clone());
        let piece = blocking(move || {
            let run = file.data_run(at, left).map_err(|source| unreadable(&volume, source))?;
            match run {
                (false, len) if len > 0 => Ok(Piece::Hole(len.min(left))),
                (_, len) => {
                    let len = len.clamp(1, PIECE).min(left) as usize;
                    read(&file, at, len, &volume).map(Piece::Data)
                }
            }
        });
        let piece = piece.await;
        self.at += match &piece {
            Ok(Piece::Data(data)) => data.len() as u64,
            Ok(Piece::Hole(len)) => *len,
            Err(_) => left,
        };
        Some(piece)
    }
}

fn unreadable(volume: &str, source: std::io::Error) -> Error {
    let text = format!("volume {volume:?} cannot be read");
    Error::new(Code::HostFailure, text).with_source(source)
}

fn read(file: &FileStorage, at: u64, len: usize, volume: &str) -> Result<Vec<u8>, Error> {
    let mut piece = vec![0; len];
    file.read(&mut piece, at).map_err(|source| unreadable(volume, source))?;
    Ok(piece)
}

/// Bytes on their way into a volume, as a job. Dropped before it is finished, the job fails.
pub struct Upload {
    pub job: Uuid,
    volume: String,
    file: Arc<FileStorage>,
    at: u64,
    done: u64,
    progress: Arc<Progress>,
    end: Option<oneshot::Sender<Result<(), Error>>>,
}

/// What the job waits for.
pub(crate) type UploadEnd = oneshot::Receiver<Result<(), Error>>;

impl Upload {
    /// The two ends of an upload: who brings the bytes, and the job.
    pub(crate) fn new(
        volume: String,
        file: &OwnedFd,
        offset: u64,
        progress: Arc<Progress>,
    ) -> Result<(Self, UploadEnd), Error> {
        let file = Arc::new(scan::storage(file)?);
        let (end, ended) = oneshot::channel();
        let (job, done) = (Uuid::nil(), 0);
        Ok((Self { job, volume, file, at: offset, done, progress, end: Some(end) }, ended))
    }

    /// The next bytes.
    ///
    /// # Errors
    /// When they cannot be written, or the job was aborted.
    pub async fn write(&mut self, piece: impl AsRef<[u8]> + Send + 'static) -> Result<(), Error> {
        let (file, at) = (self.file.clone(), self.at);
        let len = piece.as_ref().len() as u64;
        self.progress.at(self.done).map_err(|error| {
            Error::new(Code::InvalidState, format!("volume {:?}: {error}", self.volume))
        })?;
        let volume = self.volume.clone();
        blocking(move || {
            write_sparse(&file, piece.as_ref(), at).map_err(|error| io_error(&volume, error))
        })
        .await?;
        self.at = self.at.saturating_add(len);
        self.done = self.done.saturating_add(len);
        Ok(())
    }

    /// The next bytes are zeros, so many.
    ///
    /// # Errors
    /// When the file cannot have them, or the job was aborted.
    pub async fn skip(&mut self, len: u64) -> Result<(), Error> {
        let (file, at, volume) = (self.file.clone(), self.at, self.volume.clone());
        let end = at.checked_add(len).ok_or_else(|| {
            let text = format!("volume {volume:?}: a hole of {len} bytes ends nowhere");
            Error::new(Code::InvalidArgument, text)
        })?;
        self.progress.at(self.done).map_err(|error| {
            Error::new(Code::InvalidState, format!("volume {volume:?}: {error}"))
        })?;
        let named = volume.clone();
        blocking(move || zeroes(&file, at, end).map_err(|error| io_error(&named, error))).await?;
        self.at = end;
        self.done = self.done.saturating_add(len);
        Ok(())
    }

    /// All bytes were brought. What the volume is now, is looked at by the job.
    ///
    /// # Errors
    /// When they cannot be made durable.
    pub async fn finish(mut self) -> Result<(), Error> {
        let (file, volume) = (self.file.clone(), self.volume.clone());
        let synced = blocking(move || file.sync().map_err(|error| io_error(&volume, error))).await;
        // The same words for both.
        let (own, told) = match synced {
            Ok(()) => (Ok(()), Ok(())),
            Err(error) => {
                let (code, text) = (error.code, error.chain());
                (Err(error), Err(Error::new(code, text)))
            }
        };
        if let Some(end) = self.end.take() {
            let _ = end.send(told);
        }
        own
    }
}

fn write_sparse(file: &FileStorage, piece: &[u8], offset: u64) -> std::io::Result<()> {
    let mut at = 0;
    while at < piece.len() {
        // Pieces come as the network cuts them; blocks lie where the file has them.
        let to_border = BLOCK - ((offset + at as u64) % BLOCK as u64) as usize;
        let end = piece.len().min(at + to_border);
        let (block, place) = (&piece[at..end], offset + at as u64);
        if block.len() == BLOCK && block.iter().all(|byte| *byte == 0) {
            zeroes(file, place, place + BLOCK as u64)?;
        } else {
            file.write(block, place)?;
        }
        at = end;
    }
    Ok(())
}

fn zeroes(file: &FileStorage, from: u64, to: u64) -> std::io::Result<()> {
    if to > file.size()? {
        file.set_len(to)?;
    }
    file.write_zeroes(from, to - from, true)
}
