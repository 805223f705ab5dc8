//! [`InputWorker`]: fills the driver's buffers with events, one in each.

use std::sync::Arc;

use vmm_sys_util::epoll::EventSet;

use super::outbox::Outbox;
use crate::sync::Lock;
use crate::virtio::{ActiveQueue, Context, QueueWorker};

const WAKE: u32 = 0;
/// Position of the queue for events; the other one is for status.
const EVENTS: usize = 0;

pub(super) struct InputWorker {
    pub(super) outbox: Arc<Outbox>,
}

impl QueueWorker for InputWorker {
    fn start(&mut self, cx: &mut Context<'_, '_>) {
        cx.watch(&self.outbox.wake, WAKE, EventSet::IN);
    }

    fn kicked(&mut self, position: usize, cx: &mut Context<'_, '_>) {
        let Some(queue) = cx.queues.get_mut(position) else { return };
        if position == EVENTS {
            return self.deliver(queue);
        }
        // Lights of a keyboard that nobody sees.
        while let Some(chain) = queue.next() {
            queue.complete(chain, 0);
        }
    }

    fn ready(&mut self, _token: u32, _events: EventSet, cx: &mut Context<'_, '_>) {
        let _ = self.outbox.wake.read();
        if let Some(queue) = cx.queues.get_mut(EVENTS) {
            self.deliver(queue);
        }
    }
}

impl InputWorker {
    /// A moment whose events do not all have buffers waits as a whole: half of it would be a pointer
    /// at a place where it never was.
    fn deliver(&self, queue: &mut ActiveQueue) {
        let mut state = self.outbox.state.hold();
        while let Some(moment) = state.moments.front() {
            let mut chains = Vec::with_capacity(moment.len());
            while chains.len() < moment.len() {
                let Some(chain) = queue.next() else { break };
                chains.push(chain);
            }
            if chains.len() < moment.len() {
                // With fewer buffers than it has events in all, it would wait for ever.
                let never = moment.len() > usize::from(queue.size());
                while let Some(chain) = chains.pop() {
                    queue.put_back(chain);
                }
                if never {
                    state.moments.pop_front();
                    continue;
                }
                return;
            }
            let filled = moment.iter().zip(chains).map(|(event, mut chain)| {
                let written = if chain.write(event) { event.len() as u32 } else { 0 };
                (chain, written)
            });
            queue.complete_together(filled.collect::<Vec<_>>());
            state.moments.pop_front();
        }
    }
}
