//! [`EventRing`]: the latest events, for clients that come late.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use vmm_protocol::control::{Event, EventKind};

/// Events kept for clients that are away.
const CAPACITY: usize = 1024;

#[derive(Default)]
pub(super) struct EventRing {
    events: VecDeque<Event>,
    last: u64,
}

impl EventRing {
    pub(super) fn push(&mut self, kind: EventKind) -> u64 {
        self.last += 1;
        if self.events.len() == CAPACITY {
            self.events.pop_front();
        }
        self.events.push_back(Event { seq: self.last, time: now(), kind });
        self.last
    }

    /// Sequence number of the latest event; zero when there was none.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The event after `seq`. When that one is gone, a `Lost` that stands for all that are.
    pub(super) fn after(&self, seq: u64) -> Option<Event> {
        let first = self.events.front()?.seq;
        if seq >= self.last {
            return None;
        }
        if seq + 1 < first {
            let up_to = first - 1;
            return Some(Event { seq: up_to, time: now(), kind: EventKind::Lost { up_to } });
        }
        let index = usize::try_from(seq + 1 - first).ok()?;
        self.events.get(index).cloned()
    }
}

/// Microseconds since the Unix epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(events: u64) -> EventRing {
        let mut ring = EventRing::default();
        for _ in 0..events {
            ring.push(EventKind::Reset);
        }
        ring
    }

    #[test]
    fn every_event_after_a_number_comes_once_and_in_order() {
        let ring = ring(5);
        let mut at = 2;
        let mut seen = Vec::new();
        while let Some(event) = ring.after(at) {
            at = event.seq;
            seen.push(at);
        }
        assert_eq!(seen, [3, 4, 5]);
    }

    #[test]
    fn what_fell_out_of_the_ring_is_reported_as_lost() {
        let ring = ring(CAPACITY as u64 + 10);
        let event = ring.after(3).unwrap();
        assert_eq!(event.kind, EventKind::Lost { up_to: 10 });
        assert_eq!(ring.after(event.seq).unwrap().seq, 11);
    }

    #[test]
    fn a_number_from_the_future_yields_nothing() {
        assert_eq!(ring(3).after(u64::MAX), None);
        assert_eq!(ring(0).after(0), None);
    }
}
