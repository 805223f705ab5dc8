//! [`Handed`]: queues of a device that somebody else serves, the host's kernel, and what is left to do
//! here: to hand them over and take them back, and to pass interrupts on, so that these are masked and
//! moved as all others are.

use std::io;
use std::sync::Arc;

use event_manager::{EventOps, Events};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{ActiveQueue, QueueProgress};
use crate::backend::vhost::{Vring, VringBackend};

/// An event for each of `count` queues, by which the backend reports used buffers.
pub(super) fn calls(count: usize) -> io::Result<Vec<Arc<EventFd>>> {
    (0..count).map(|_| EventFd::new(EFD_NONBLOCK).map(Arc::new)).collect()
}

pub(super) struct Handed {
    backend: Arc<dyn VringBackend>,
    features: u64,
    calls: Vec<Arc<EventFd>>,
    queues: Vec<ActiveQueue>,
    running: bool,
}

impl Handed {
    pub(super) fn new(
        backend: Arc<dyn VringBackend>,
        features: u64,
        calls: Vec<Arc<EventFd>>,
        queues: Vec<ActiveQueue>,
    ) -> Self {
        Self { backend, features, calls, queues, running: false }
    }

    /// Hand them over. Events of the numbers 0 up to that of queues are for [`relay`](Self::relay).
    pub(super) fn begin(&mut self, ops: &mut EventOps<'_>) -> io::Result<()> {
        for (index, call) in (0..).zip(&self.calls) {
            ops.add(Events::with_data(call.as_ref(), index, EventSet::IN))
                .map_err(io::Error::other)?;
        }
        let queues = self.queues.iter().zip(&self.calls);
        let vrings: Vec<Vring> = queues
            .map(|(queue, call)| Vring {
                config: queue.rings(),
                progress: queue.progress(),
                kick: queue.kick().clone(),
                call: call.clone(),
            })
            .collect();
        self.backend.start(self.features, &vrings)?;
        self.running = true;
        self.kick();
        Ok(())
    }

    /// Chains may have come whose kick went to whoever served the queues before.
    pub(super) fn kick(&self) {
        for queue in &self.queues {
            let _ = queue.kick().write(1);
        }
    }

    /// Queue `index` has used buffers.
    pub(super) fn relay(&self, index: usize) {
        if let (Some(call), Some(queue)) = (self.calls.get(index), self.queues.get(index)) {
            let _ = call.read();
            queue.notify();
        }
    }

    /// Take them back.
    pub(super) fn finish(self) -> Vec<(u16, QueueProgress)> {
        let stopped =
            if self.running { self.backend.stop(self.queues.len()) } else { Ok(Vec::new()) };
        let read = stopped.unwrap_or_else(|error| {
            tracing::error!(%error, "the host's kernel does not give queues back");
            Vec::new()
        });
        let progress = self.queues.iter().zip(read).map(|(queue, next_available)| {
            // What the backend wrote is in the ring, where it will look for it, too.
            (queue.index(), QueueProgress { next_available, next_used: queue.used_index() })
        });
        let progress = progress.collect();
        for (call, queue) in self.calls.iter().zip(&self.queues) {
            if call.read().is_ok() {
                queue.notify();
            }
        }
        progress
    }
}
