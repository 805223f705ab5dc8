//! The audit log: who did what, when, and how it ended. One line for each call that may change
//! something or look behind a curtain, and for each that was refused.
//!
//! ```text
//! Manager::call ─ Entry ─ queue ─ writer thread ─ audit.jsonl, audit.jsonl.1 …
//! ```
//! A call waits shortly until its line is written, so that whoever hears of its end finds it in
//! the log; a disk that hangs or is full costs lines and never calls. Ids are given in the order of
//! the lines and never twice, also over restarts; a gap is what could not be written.

mod flood;
mod log;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use crate::auth::{Caller, Target, Via};
use crate::config;
use crate::error::{Code, Error};
use flood::Flood;
use log::{Files, Log};

/// Lines that wait for the disk.
const QUEUE: usize = 1024;
/// So long a call waits for its line.
const PATIENCE: Duration = Duration::from_millis(100);
/// What ended well.
const OK: &str = "ok";
/// The caller went before there was an answer; what it asked for may have been done.
const ABANDONED: &str = "abandoned";

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub id: u64,
    /// When it ended.
    pub time: jiff::Timestamp,
    pub caller: String,
    /// How the caller was told from others.
    pub via: Via,
    /// Name of the operation (`domain.start`).
    pub operation: String,
    /// Which of the things that the operation can do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// `ok`, the code of an error, or `abandoned`.
    pub result: String,
    pub duration_us: u64,
    /// Refusals before this line that have none of their own, because there were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suppressed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A line on its way, and whom to tell that it is written.
struct Message {
    record: Record,
    written: oneshot::Sender<()>,
}

pub(crate) struct Audit {
    queue: SyncSender<Message>,
    files: Arc<Files>,
    /// Id of the latest line.
    latest: watch::Receiver<u64>,
    refusals: Mutex<Flood>,
    pace: Arc<Pace>,
}

/// What callers and the writer tell each other of a disk that does not keep up.
#[derive(Default)]
struct Pace {
    /// Somebody waited in vain: nobody does until the writer has written.
    is_late: AtomicBool,
    /// Lines that found no place in the queue since the last that was written.
    lost: AtomicU64,
    has_warned: AtomicBool,
}

impl Audit {
    /// Take up the log in `dir`. After a boot of the host its last lines may be missing.
    pub(crate) fn open(dir: &Path, config: &config::Audit, host_was_booted: bool) -> Self {
        let files = Arc::new(Files::new(dir, config));
        let (log, last) = Log::open(files.clone(), host_was_booted);
        let (queue, messages) = sync_channel(QUEUE);
        let (tell, latest) = watch::channel(last);
        let pace = Arc::new(Pace::default());
        let told = pace.clone();
        let work = move || writer::write(log, &messages, &tell, &told, last);
        if let Err(error) = std::thread::Builder::new().name("audit".to_owned()).spawn(work) {
            tracing::error!(%error, "there is no audit log: its thread cannot be started");
        }
        Self { queue, files, latest, refusals: Mutex::new(Flood::new(Instant::now())), pace }
    }

    /// A call begins. It stands in the log when it ends, in whatever way.
    pub(crate) fn begin(
        self: &Arc<Self>,
        caller: &Caller,
        operation: &'static str,
        detail: &'static str,
        target: Option<Target>,
    ) -> Entry {
        let record = Record {
            id: 0,
            time: jiff::Timestamp::UNIX_EPOCH,
            caller: caller.name.clone(),
            via: caller.via,
            operation: operation.to_owned(),
            detail: detail.to_owned(),
            target,
            result: ABANDONED.to_owned(),
            duration_us: 0,
            suppressed: 0,
        };
        Entry { audit: self.clone(), record: Some(record), begun: Instant::now() }
    }

    /// Lines in their order: those after `after`, or the last ones; at most `limit`.
    pub(crate) fn read(&self, after: Option<u64>, limit: usize) -> Result<Vec<Record>, Error> {
        self.files.read(after, limit).map_err(|error| {
            let text = "the audit log cannot be read";
            Error::new(Code::HostFailure, text).with_source(error)
        })
    }

    /// Returns when there is a line after this one.
    pub(crate) async fn line_after(&self, id: u64) {
        // An error means that the thread is gone: then there never is one.
        if self.latest.clone().wait_for(|latest| *latest > id).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn send(&self, mut record: Record) -> Option<oneshot::Receiver<()>> {
        if record.result == Code::Denied.name() {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            record.suppressed = refusals.admit(Instant::now())?;
        }
        let (written, is_written) = oneshot::channel();
        match self.queue.try_send(Message { record, written }) {
            Ok(()) => Some(is_written),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.pace.lost.fetch_add(1, Ordering::Relaxed);
                if !self.pace.has_warned.swap(true, Ordering::Relaxed) {
                    tracing::error!("the audit log does not keep up: it lacks lines");
                }
                None
            }
        }
    }

    async fn wait(&self, is_written: oneshot::Receiver<()>) {
        if self.pace.is_late.load(Ordering::Relaxed) {
            return;
        }
        if tokio::time::timeout(PATIENCE, is_written).await.is_err() {
            self.pace.is_late.store(true, Ordering::Relaxed);
        }
    }
}

/// A call that has begun. Dropped without an end it is one whose caller has gone.
pub(crate) struct Entry {
    audit: Arc<Audit>,
    record: Option<Record>,
    begun: Instant,
}

impl Entry {
    pub(crate) async fn end(mut self, result: Result<(), Code>) {
        if let Some(mut record) = self.finished() {
            record.result = result.err().map_or(OK, Code::name).to_owned();
            if let Some(is_written) = self.audit.send(record) {
                self.audit.wait(is_written).await;
            }
        }
    }

    /// It needs no line.
    pub(crate) fn forget(mut self) {
        self.record = None;
    }

    fn finished(&mut self) -> Option<Record> {
        let mut record = self.record.take()?;
        record.time = jiff::Timestamp::now();
        record.duration_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        Some(record)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(record) = self.finished() {
            self.audit.send(record);
        }
    }
}
