//! [`VsockWorker`]: hands the data queues to the backend and back, and owns the event queue.

use std::io;

use event_manager::{EventOps, Events, MutEventSubscriber};

use super::tell_reset;
use crate::io_thread::{Job, Stop};
use crate::virtio::handed::Handed;
use crate::virtio::{ActiveQueue, QueueProgress};

pub(super) struct VsockWorker {
    /// Receive and transmit.
    pub(super) data: Handed,
    pub(super) events: Option<ActiveQueue>,
    /// Tell the driver that its connections are gone.
    pub(super) announce: bool,
    pub(super) error: Option<io::Error>,
}

impl MutEventSubscriber for VsockWorker {
    fn init(&mut self, ops: &mut EventOps) {
        self.error = self.data.begin(ops).err();
        if self.error.is_none()
            && self.announce
            && let Some(events) = &mut self.events
        {
            tell_reset(events);
        }
    }

    fn process(&mut self, events: Events, _ops: &mut EventOps) {
        self.data.relay(events.data() as usize);
    }
}

impl Job for VsockWorker {
    type Output = Vec<(u16, QueueProgress)>;

    fn init_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn finish(self, _how: Stop) -> Self::Output {
        let mut progress = self.data.finish();
        progress.extend(self.events.map(|queue| (queue.index(), queue.progress())));
        progress
    }
}
