//! [`Notices`]: what devices tell the outside world, on its way from their threads to the event ring.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_protocol::config::WatchdogAction;
use vmm_protocol::control::EventKind;

use crate::vcpu::Inbox;

/// A disk that fails every request must not fill the ring: beyond this, notices wait to be fetched
/// before new ones are taken. Not so the watchdog, which is acted on, and trays and channels, of which there
/// are few.
const LIMIT: usize = 16;

pub(crate) struct Notices {
    waiting: Mutex<Vec<EventKind>>,
    /// Slots that the guest has let go of: PCI bus and slot.
    off: Mutex<BTreeSet<(u8, u8)>>,
    /// vCPUs that the guest has ejected.
    ejected: Mutex<BTreeSet<u16>>,
    /// A disk keeps a request that the host failed: the guest is to stop. Not one of the notices,
    /// which may be too many.
    stop: AtomicBool,
    inbox: Arc<Inbox>,
}

impl Notices {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Arc<Self> {
        let (waiting, off, ejected, stop) = Default::default();
        Arc::new(Self { waiting, off, ejected, stop, inbox })
    }

    pub(crate) fn post(&self, notice: EventKind) {
        let mut waiting = self.lock();
        let is_state = is_same_state(&notice, &notice);
        if is_state {
            // Only what it came to counts.
            waiting.retain(|earlier| !is_same_state(earlier, &notice));
        }
        let is_acted_on = matches!(notice, EventKind::Watchdog { .. });
        let heard = waiting.len() < LIMIT || is_state || is_acted_on;
        // The same trouble again is no news.
        if heard && !waiting.contains(&notice) {
            waiting.push(notice);
            self.inbox.ring();
        }
    }

    pub(crate) fn take(&self) -> Vec<EventKind> {
        std::mem::take(&mut *self.lock())
    }

    /// The guest is to stop, until somebody lets it go on.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.inbox.ring();
    }

    /// Whether the guest is to stop.
    pub(crate) fn take_stop(&self) -> bool {
        self.stop.swap(false, Ordering::AcqRel)
    }

    /// What is in this slot of PCI bus `bus` can be taken out.
    pub(crate) fn slot_is_off(&self, bus: u8, slot: u8) {
        self.slots().insert((bus, slot));
        self.inbox.ring();
    }

    pub(crate) fn take_slots(&self) -> BTreeSet<(u8, u8)> {
        std::mem::take(&mut *self.slots())
    }

    /// vCPU `index` must not run any more.
    pub(crate) fn vcpu_is_ejected(&self, index: u16) {
        self.ejected().insert(index);
        self.inbox.ring();
    }

    pub(crate) fn take_ejected(&self) -> BTreeSet<u16> {
        std::mem::take(&mut *self.ejected())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<EventKind>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ejected(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.ejected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> MutexGuard<'_, BTreeSet<(u8, u8)>> {
        self.off.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether both tell of one thing that is in one state at a time: the clock, a channel, a tray, a
/// connection.
fn is_same_state(one: &EventKind, other: &EventKind) -> bool {
    match (one, other) {
        (EventKind::ClockChanged { .. }, EventKind::ClockChanged { .. }) => true,
        (EventKind::TrayMoved { id, .. }, EventKind::TrayMoved { id: other, .. })
        | (EventKind::ChannelChanged { id, .. }, EventKind::ChannelChanged { id: other, .. })
        | (
            EventKind::ConnectionChanged { id, .. },
            EventKind::ConnectionChanged { id: other, .. },
        ) => id == other,
        _ => false,
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

/// What the outside hears when the network of interface `id` is gone for good.
pub(crate) fn tell_lost(id: &str, notices: &Arc<Notices>) -> impl Fn(&str) + Send + Sync + use<> {
    let (id, notices) = (id.to_owned(), notices.clone());
    move |reason| {
        let reason = format!("its network is gone, and its link down: {reason}");
        notices.post(EventKind::DeviceBroken { id: id.clone(), reason });
    }
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

/// What the outside hears when the guest set its clock.
pub(crate) fn tell_clock(notices: &Arc<Notices>) -> Box<dyn Fn(i64) + Send + Sync> {
    let notices = notices.clone();
    Box::new(move |offset| notices.post(EventKind::ClockChanged { offset }))
}

/// What the world hears of the tray of drive `id`.
pub(crate) fn tell_tray(id: &str, notices: &Arc<Notices>) -> impl Fn(bool) + Send + Sync + use<> {
    let (id, notices) = (id.to_owned(), notices.clone());
    move |open| notices.post(EventKind::TrayMoved { id: id.clone(), open })
}

/// What the world hears of the guest's side of channel `id`.
pub(crate) fn tell_channel(
    id: &str,
    notices: &Arc<Notices>,
) -> impl Fn(bool) + Send + Sync + use<> {
    let (id, notices) = (id.to_owned(), notices.clone());
    move |open| notices.post(EventKind::ChannelChanged { id: id.clone(), open })
}

/// What the outside hears when the disk `id` wants a connection to its server; first, that it has lost
/// the one it had.
pub(crate) fn tell_disconnected(
    id: &str,
    connected: &Arc<AtomicBool>,
    notices: &Arc<Notices>,
) -> impl Fn(&str) + Send + use<> {
    let (id, connected, notices) = (id.to_owned(), connected.clone(), notices.clone());
    move |reason| {
        if connected.swap(false, Ordering::Relaxed) {
            let (id, reason) = (id.clone(), Some(reason.to_owned()));
            notices.post(EventKind::ConnectionChanged { id, up: false, reason });
        }
        let (id, reason) = (id.clone(), reason.to_owned());
        notices.post(EventKind::ConnectionWanted { id, reason });
    }
}

/// What the outside hears when disk `id` has its server again.
pub(crate) fn tell_connected(
    id: &str,
    connected: &Arc<AtomicBool>,
    notices: &Arc<Notices>,
) -> impl Fn() + Send + use<> {
    let (id, connected, notices) = (id.to_owned(), connected.clone(), notices.clone());
    move || {
        connected.store(true, Ordering::Relaxed);
        let id = id.clone();
        notices.post(EventKind::ConnectionChanged { id, up: true, reason: None });
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
    fn of_a_clock_that_is_set_again_the_last_counts_whatever_else_waits() {
        let notices = Notices::new(Arc::new(Inbox::new().unwrap()));
        for number in 0..LIMIT {
            tell_broken(&format!("net{number}"), &notices)("broken");
        }
        let tell = tell_clock(&notices);
        tell(60);
        tell(-60);
        let taken = notices.take();
        assert_eq!(taken.len(), LIMIT + 1);
        assert_eq!(taken.last(), Some(&EventKind::ClockChanged { offset: -60 }));
    }

    #[test]
    fn of_a_tray_that_moves_to_and_fro_its_last_place_is_told() {
        let notices = Notices::new(Arc::new(Inbox::new().unwrap()));
        let tell = [tell_tray("sata0-0-0", &notices), tell_tray("sata0-0-1", &notices)];
        for _ in 0..100 {
            tell.iter().for_each(|tell| tell(true));
            tell[0](false);
        }
        let moved = |id: &str, open| EventKind::TrayMoved { id: id.to_owned(), open };
        assert_eq!(notices.take(), [moved("sata0-0-1", true), moved("sata0-0-0", false)]);
    }
}
