//! [`Notices`]: what devices tell the outside world, on its way from their threads to the event ring.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::virtio::blk::{ErrorPolicy, FailedOperation, Verdict};
use vmm_protocol::config::WatchdogAction;
use vmm_protocol::control::EventKind;

use crate::vcpu::Inbox;

/// A disk that fails every request must not fill the ring: beyond this, notices wait to be fetched
/// before new ones are taken. Not so the watchdog, which is acted on.
const LIMIT: usize = 16;

pub(crate) struct Notices {
    waiting: Mutex<Vec<EventKind>>,
    inbox: Arc<Inbox>,
}

impl Notices {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::default(), inbox })
    }

    fn post(&self, notice: EventKind) {
        let mut waiting = self.lock();
        // The same trouble again is no news.
        let heard = waiting.len() < LIMIT || matches!(notice, EventKind::Watchdog { .. });
        if heard && !waiting.contains(&notice) {
            waiting.push(notice);
            self.inbox.ring();
        }
    }

    pub(crate) fn take(&self) -> Vec<EventKind> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<EventKind>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the device `id` does when it refuses to go on.
pub(crate) fn tell_broken(id: &str, notices: &Arc<Notices>) -> Box<dyn Fn(&str) + Send + Sync> {
    let (id, notices) = (id.to_owned(), notices.clone());
    Box::new(move |reason| {
        let (id, reason) = (id.clone(), reason.to_owned());
        notices.post(EventKind::DeviceBroken { id, reason });
    })
}

/// What the machine hears when a watchdog was not reloaded in time.
pub(crate) fn tell_watchdog(
    id: &str,
    action: WatchdogAction,
    notices: &Arc<Notices>,
) -> Box<dyn Fn() + Send + Sync> {
    let (id, notices) = (id.to_owned(), notices.clone());
    Box::new(move || notices.post(EventKind::Watchdog { id: id.clone(), action }))
}

/// Host errors of one disk reach the guest, and the event ring.
pub(crate) struct TellErrors {
    pub(crate) id: String,
    pub(crate) notices: Arc<Notices>,
}

impl ErrorPolicy for TellErrors {
    fn decide(&self, operation: FailedOperation, error: &io::Error) -> Verdict {
        let write = operation != FailedOperation::Read;
        let (id, error) = (self.id.clone(), error.to_string());
        self.notices.post(EventKind::BlockError { id, write, error });
        Verdict::Report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_refuses_to_go_on_is_named_with_the_reason() {
        let notices = Notices::new(Arc::new(Inbox::new().unwrap()));
        tell_broken("net0", &notices)("queue 1: a loop of descriptors");
        let reason = "queue 1: a loop of descriptors".to_owned();
        let expected = EventKind::DeviceBroken { id: "net0".to_owned(), reason };
        assert_eq!(notices.take(), [expected]);
    }

    #[test]
    fn a_failing_disk_is_reported_once_until_somebody_looks() {
        let notices = Notices::new(Arc::new(Inbox::new().unwrap()));
        let disk = TellErrors { id: "virtio-disk0".to_owned(), notices: notices.clone() };
        for _ in 0..100 {
            let error = io::Error::from_raw_os_error(libc::EIO);
            assert_eq!(disk.decide(FailedOperation::Write, &error), Verdict::Report);
        }
        let expected = |kind: &EventKind| matches!(kind, EventKind::BlockError { id, write: true, .. } if id == "virtio-disk0");
        let taken = notices.take();
        assert!(taken.len() == 1 && expected(&taken[0]), "{taken:?}");
        disk.decide(FailedOperation::Flush, &io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(notices.take().len(), 1);
    }
}
