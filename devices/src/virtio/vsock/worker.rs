//! [`VsockWorker`]: hands the data queues to the backend and back, passes its interrupts on, and
//! owns the event queue.

use std::io;
use std::sync::Arc;

use event_manager::{EventOps, Events, MutEventSubscriber};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use crate::backend::vhost::{Vring, VsockBackend};
use crate::io_thread::{Job, Stop};
use crate::virtio::{ActiveQueue, QueueProgress};

use super::tell_reset;

pub(super) struct VsockWorker {
    pub(super) backend: Arc<dyn VsockBackend>,
    pub(super) features: u64,
    pub(super) calls: [Arc<EventFd>; 2],
    /// Receive and transmit, while the backend has their rings.
    pub(super) data: [ActiveQueue; 2],
    pub(super) events: Option<ActiveQueue>,
    /// Tell the driver that its connections are gone.
    pub(super) announce: bool,
    pub(super) running: bool,
    pub(super) error: Option<io::Error>,
}

impl VsockWorker {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> io::Result<()> {
        for (index, call) in (0..).zip(&self.calls) {
            ops.add(Events::with_data(call.as_ref(), index, EventSet::IN))
                .map_err(io::Error::other)?;
        }
        let vrings: Vec<Vring> = self
            .data
            .iter()
            .zip(&self.calls)
            .map(|(queue, call)| Vring {
                config: queue.rings(),
                progress: queue.progress(),
                kick: queue.kick().clone(),
                call: call.clone(),
            })
            .collect();
        self.backend.start(self.features, &vrings)?;
        self.running = true;
        for queue in &self.data {
            // Chains may have come whose kick went to whoever served the queue before.
            let _ = queue.kick().write(1);
        }
        if self.announce
            && let Some(events) = &mut self.events
        {
            tell_reset(events);
        }
        Ok(())
    }
}

impl MutEventSubscriber for VsockWorker {
    fn init(&mut self, ops: &mut EventOps) {
        self.error = self.begin(ops).err();
    }

    fn process(&mut self, events: Events, _ops: &mut EventOps) {
        let index = events.data() as usize;
        if let (Some(call), Some(queue)) = (self.calls.get(index), self.data.get(index)) {
            let _ = call.read();
            queue.notify();
        }
    }
}

impl Job for VsockWorker {
    type Output = Vec<(u16, QueueProgress)>;

    fn init_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn finish(self, _how: Stop) -> Self::Output {
        let mut progress = Vec::with_capacity(3);
        let stopped =
            if self.running { self.backend.stop(self.data.len()) } else { Ok(Vec::new()) };
        let read = stopped.unwrap_or_else(|error| {
            tracing::error!(%error, "a vsock device cannot be stopped");
            Vec::new()
        });
        for (queue, next_available) in self.data.iter().zip(read) {
            // What the backend wrote is in the ring, where it will look for it, too.
            let next_used = queue.used_index();
            progress.push((queue.index(), QueueProgress { next_available, next_used }));
        }
        for (call, queue) in self.calls.iter().zip(&self.data) {
            if call.read().is_ok() {
                queue.notify();
            }
        }
        progress.extend(self.events.map(|queue| (queue.index(), queue.progress())));
        progress
    }
}
