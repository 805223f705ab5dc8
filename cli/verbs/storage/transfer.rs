//! vol-upload, vol-download.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::args::VolTransfer;
use crate::disk_image::Progress;
use crate::failure::{Failure, reason};
use crate::terminal::printable;
use crate::verbs::Session;
use crate::verbs::memory::scaled;

/// Bytes in a piece.
const PIECE: usize = 256 << 10;
const EACH: Duration = Duration::from_millis(250);
/// Zeros of this length become holes.
const BLOCK: usize = 4096;

fn size(text: Option<&String>, option: &str) -> Result<Option<u64>, Failure> {
    text.map(|text| scaled(text, "", option)).transpose()
}

fn cannot(act: &str, file: &Path, error: &std::io::Error) -> Failure {
    Failure::other(format!("cannot {act} {}: {}", file.display(), reason(error)))
}

pub(in crate::verbs) async fn upload(session: &Session, args: VolTransfer) -> Result<(), Failure> {
    let offset = size(args.offset.as_ref(), "offset")?.unwrap_or(0);
    let wanted = size(args.length.as_ref(), "length")?;
    let failed = |error: std::io::Error| cannot("read", &args.file, &error);
    let file = File::open(&args.file).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    // Of a pipe nobody knows how much will come.
    let length = found.is_file().then(|| wanted.unwrap_or(u64::MAX).min(found.len())).or(wanted);
    let volume = session.volume(&args.vol, args.pool.as_deref()).await?;
    let attempt = || format!("cannot upload to volume {}", volume.name);
    let (pieces, bytes) = mpsc::channel(2);
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let reader = tokio::task::spawn_blocking(move || read(file, length, &pieces, &counted));
    let mut bar = Progress::new(&session.terminal, length.unwrap_or(0), false);
    let call = session.client.upload_volume(&volume.pool, &volume.name, offset, length, bytes);
    let mut call = std::pin::pin!(call);
    let mut each = tokio::time::interval(EACH);
    let job = loop {
        tokio::select! {
            job = &mut call => break job,
            _ = each.tick() => {
                let done = sent.load(Ordering::Relaxed);
                bar.at_of(done, length.unwrap_or(done));
            }
        }
    };
    drop(bar);
    let job = job.map_err(|error| Failure::from(error).while_doing(attempt()))?;
    // Everything was sent, so it has ended.
    let _ = reader.await;
    match job.error {
        Some(error) => Err(Failure::other(printable(&error)).while_doing(attempt())),
        None => Ok(()),
    }
}

/// Send a file, or the first `length` bytes of it.
fn read(
    mut file: File,
    length: Option<u64>,
    pieces: &mpsc::Sender<std::io::Result<Bytes>>,
    sent: &AtomicU64,
) {
    let mut left = length.unwrap_or(u64::MAX);
    while left > 0 {
        let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
        let piece = match file.read(&mut piece) {
            Ok(0) if length.is_none() => return,
            Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                piece.truncate(read);
                left -= read as u64;
                sent.fetch_add(read as u64, Ordering::Relaxed);
                Ok(piece.into())
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = piece.is_err();
        if pieces.blocking_send(piece).is_err() || failed {
            return;
        }
    }
}

pub(in crate::verbs) async fn download(
    session: &Session,
    args: VolTransfer,
) -> Result<(), Failure> {
    let offset = size(args.offset.as_ref(), "offset")?.unwrap_or(0);
    let length = size(args.length.as_ref(), "length")?;
    let volume = session.volume(&args.vol, args.pool.as_deref()).await?;
    let attempt = || format!("cannot download from volume {}", volume.name);
    let call = session.client.download_volume(&volume.pool, &volume.name, offset, length);
    let mut bytes = call.await.map_err(|error| Failure::from(error).while_doing(attempt()))?;
    let failed = |error: std::io::Error| cannot("write", &args.file, &error);
    let mut file = File::create(&args.file).map_err(failed)?;
    let sparse = file.metadata().map_err(failed)?.is_file();
    let mut bar = Progress::new(&session.terminal, bytes.total, false);
    let mut done = 0;
    while let Some(piece) = bytes.next().await {
        let piece = piece.map_err(|error| Failure::from(error).while_doing(attempt()))?;
        let written = if sparse { write_sparse(&mut file, &piece) } else { file.write_all(&piece) };
        written.map_err(failed)?;
        done += piece.len() as u64;
        bar.at_of(done, bytes.total);
    }
    if !sparse {
        return Ok(());
    }
    // The last bytes may be a hole.
    let end = file.stream_position().map_err(failed)?;
    file.set_len(end).and_then(|()| file.sync_all()).map_err(failed)
}

fn write_sparse(file: &mut File, piece: &[u8]) -> std::io::Result<()> {
    for block in piece.chunks(BLOCK) {
        if block.len() == BLOCK && block.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(BLOCK as i64))?;
        } else {
            file.write_all(block)?;
        }
    }
    Ok(())
}
