//! The thread that writes: the only one that touches the file, so that a disk that hangs holds
//! nobody else.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use tokio::sync::watch;

use super::log::Log;
use super::{Message, Pace};

/// Until nobody is left to send.
pub(super) fn write(
    mut log: Log,
    messages: &Receiver<Message>,
    latest: &watch::Sender<u64>,
    pace: &Pace,
    last: u64,
) {
    let mut id = last;
    let mut is_failing = false;
    while let Ok(Message { mut record, written }) = messages.recv() {
        // Also of lines that are lost: the gap tells of them.
        let lost = pace.lost.swap(0, Ordering::Relaxed);
        id = id.saturating_add(lost).saturating_add(1);
        record.id = id;
        match log.append(&record) {
            Ok(()) => {
                if is_failing {
                    tracing::warn!("the audit log is written again");
                }
                is_failing = false;
                latest.send_replace(id);
            }
            Err(error) => {
                if !is_failing {
                    let path = log.path().display().to_string();
                    tracing::error!(%error, path, "the audit log cannot be written: it lacks lines");
                }
                is_failing = true;
            }
        }
        pace.is_late.store(false, Ordering::Relaxed);
        // Whoever waits no longer needs no answer.
        let _ = written.send(());
    }
}
