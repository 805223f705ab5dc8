//! The journal behind [`Subscription`]: the latest events in memory and in a file, so that they
//! outlast the daemon.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use crate::domain::DomainId;
use crate::events::{Event, EventKind, Subscription};

/// Events kept. The file is rewritten when it holds twice as many.
const KEPT: usize = 4096;
/// After a power cut the last lines may be missing: ids leap over those they may have had.
const LEAP: u64 = 1 << 16;

/// Which event of which VMM this was, so that none is taken twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub start_token: Uuid,
    pub seq: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    event: Event,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
}

pub(crate) struct Journal {
    inner: Mutex<Inner>,
    /// Id of the latest event.
    latest: watch::Sender<u64>,
}

struct Inner {
    events: VecDeque<Line>,
    next: u64,
    /// Events up to this one are no longer here.
    forgotten: u64,
    path: PathBuf,
    file: Option<File>,
    lines: usize,
    seen: HashMap<Uuid, u64>,
    full_warned: bool,
}

impl Journal {
    /// Take up the journal in `dir`. Unreadable lines are skipped: they were cut off by a crash.
    pub(crate) fn open(dir: &Path, host_was_booted: bool) -> Arc<Self> {
        let path = dir.join("events.jsonl");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<Line> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mut next = lines.last().map_or(1, |line| line.event.id.saturating_add(1));
        if host_was_booted && next > 1 {
            next = next.saturating_add(LEAP);
        }
        let mut seen = HashMap::new();
        for origin in lines.iter().filter_map(|line| line.origin) {
            let seq: &mut u64 = seen.entry(origin.start_token).or_default();
            *seq = origin.seq.max(*seq);
        }
        let skip = lines.len().saturating_sub(KEPT);
        let events: VecDeque<_> = lines.into_iter().skip(skip).collect();
        let forgotten = events.front().map_or(0, |line| line.event.id.saturating_sub(1));
        let (latest, _) = watch::channel(next - 1);
        let mut inner =
            Inner { events, next, forgotten, path, file: None, lines: 0, seen, full_warned: false };
        // Whole again, whatever its last line was.
        inner.rewrite();
        Arc::new(Self { inner: Mutex::new(inner), latest })
    }

    pub(crate) fn publish(
        &self,
        domain: Option<DomainId>,
        kind: EventKind,
        origin: Option<Origin>,
    ) {
        let id = {
            let mut inner = self.lock();
            let event = Event { id: inner.next, time: jiff::Timestamp::now(), domain, kind };
            inner.append(event, origin)
        };
        self.latest.send_replace(id);
    }

    /// The last event of a VMM that was taken up; none if none was, or it is long ago.
    pub(crate) fn seen(&self, start_token: Uuid) -> Option<u64> {
        self.lock().seen.get(&start_token).copied()
    }

    /// Forget a VMM that is gone.
    pub(crate) fn forget(&self, start_token: Uuid) {
        self.lock().seen.remove(&start_token);
    }

    pub(crate) fn subscribe(
        self: &Arc<Self>,
        after: Option<u64>,
        domain: Option<Uuid>,
    ) -> Subscription {
        let latest = *self.latest.borrow();
        // A number from the future was never given: begin with what is new.
        let after = after.unwrap_or(latest).min(latest);
        Subscription::new(self.clone(), after, domain, self.latest.subscribe())
    }

    /// The first event after this one; `Lost` if it is no longer here.
    pub(crate) fn after(&self, id: u64) -> Option<Event> {
        let inner = self.lock();
        if id < inner.forgotten {
            let (time, domain) = (jiff::Timestamp::now(), None);
            let kind = EventKind::Lost { up_to: inner.forgotten };
            return Some(Event { id: inner.forgotten, time, domain, kind });
        }
        let at = inner.events.partition_point(|line| line.event.id <= id);
        inner.events.get(at).map(|line| line.event.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn append(&mut self, event: Event, origin: Option<Origin>) -> u64 {
        let id = event.id;
        self.next = id.saturating_add(1);
        if let Some(origin) = origin {
            self.seen.insert(origin.start_token, origin.seq);
        }
        // Into the page cache before anyone hears of it: a number once seen is never given again.
        let line = Line { event, origin };
        if let Err(error) = self.write(&line) {
            if !self.full_warned {
                tracing::warn!(%error, path = %self.path.display(), "events are kept in memory only");
            }
            self.full_warned = true;
            self.file = None;
        }
        self.events.push_back(line);
        if self.events.len() > KEPT
            && let Some(old) = self.events.pop_front()
        {
            self.forgotten = old.event.id;
        }
        if self.lines > 2 * KEPT {
            self.rewrite();
        }
        id
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        if self.file.is_none() {
            self.rewrite();
        }
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(&text)?;
        self.lines += 1;
        Ok(())
    }

    /// Write the file anew with what is kept.
    fn rewrite(&mut self) {
        let unfinished = self.path.with_extension("tmp");
        let result = self.try_rewrite(&unfinished);
        if result.is_err() {
            // A full disk is not to be made fuller.
            let _ = std::fs::remove_file(&unfinished);
        }
        self.file = result.ok();
        self.lines = self.events.len();
    }

    fn try_rewrite(&self, unfinished: &Path) -> io::Result<File> {
        let mut text = Vec::new();
        for line in &self.events {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(unfinished)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(unfinished, &self.path)?;
        OpenOptions::new().append(true).open(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reboot() -> EventKind {
        EventKind::Reboot
    }

    #[tokio::test]
    async fn events_survive_a_restart_and_are_replayed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let origin = Origin { start_token: Uuid::from_u128(9), seq: 4 };
        let journal = Journal::open(dir.path(), true);
        for _ in 0..3 {
            journal.publish(None, reboot(), Some(origin));
        }
        drop(journal);
        let journal = Journal::open(dir.path(), false);
        journal.publish(None, reboot(), None);
        let mut subscription = journal.subscribe(Some(1), None);
        for id in 2..=4 {
            assert_eq!(subscription.next().await.unwrap().id, id);
        }
        assert_eq!(journal.seen(Uuid::from_u128(9)), Some(4));
    }

    #[test]
    fn a_torn_last_line_costs_itself_alone() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), true);
        journal.publish(None, reboot(), None);
        drop(journal);
        let path = dir.path().join("events.jsonl");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str(r#"{"id":2,"ti"#);
        std::fs::write(&path, text).unwrap();
        for id in 2..4 {
            let journal = Journal::open(dir.path(), false);
            journal.publish(None, reboot(), None);
            assert_eq!(journal.after(id - 1).unwrap().id, id);
        }
    }

    #[test]
    fn numbers_leap_when_the_host_was_booted() {
        let dir = tempfile::tempdir().unwrap();
        Journal::open(dir.path(), true).publish(None, reboot(), None);
        let journal = Journal::open(dir.path(), true);
        journal.publish(None, reboot(), None);
        assert_eq!(journal.after(1).unwrap().id, 2 + LEAP);
    }

    #[tokio::test]
    async fn who_was_away_too_long_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), true);
        for _ in 0..KEPT + 10 {
            journal.publish(None, reboot(), None);
        }
        let mut subscription = journal.subscribe(Some(3), None);
        let first = subscription.next().await.unwrap();
        assert_eq!(first.kind, EventKind::Lost { up_to: 10 });
        assert_eq!(subscription.next().await.unwrap().id, 11);
    }

    #[tokio::test]
    async fn a_subscriber_is_woken_by_the_next_event() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), true);
        let mut subscription = journal.subscribe(None, None);
        let publisher = journal.clone();
        let task = tokio::spawn(async move { subscription.next().await.unwrap().id });
        tokio::task::yield_now().await;
        publisher.publish(None, reboot(), None);
        assert_eq!(task.await.unwrap(), 1);
    }

    #[test]
    fn a_journal_without_a_place_works_in_memory() {
        let journal = Journal::open(Path::new("/proc/nonexistent"), true);
        journal.publish(None, reboot(), None);
        assert_eq!(journal.after(0).unwrap().id, 1);
    }
}
