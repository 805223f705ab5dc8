//! [`KernelPair`]: a receive and a transmit queue that the host's kernel serves, and the cable between
//! them and the tap.

use std::io;
use std::sync::Arc;

use event_manager::{EventOps, Events, MutEventSubscriber};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::shared::Shared;
use crate::backend::vhost::net::VhostNet;
use crate::io_thread::{Job, Stop};
use crate::limit::warn_limited;
use crate::virtio::QueueProgress;
use crate::virtio::handed::Handed;

/// Above the numbers of the queues.
const LINK: u32 = 2;

pub(super) struct KernelPair {
    pub(super) vhost: Arc<VhostNet>,
    pub(super) queues: Handed,
    pub(super) shared: Arc<Shared>,
    /// The cable was pulled or plugged in.
    pub(super) link: Arc<EventFd>,
    pub(super) connected: bool,
    pub(super) error: Option<io::Error>,
}

impl KernelPair {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> io::Result<()> {
        self.queues.begin(ops)?;
        let link = Events::with_data(self.link.as_ref(), LINK, EventSet::IN);
        ops.add(link).map_err(io::Error::other)?;
        self.follow()
    }

    fn follow(&mut self) -> io::Result<()> {
        let up = self.shared.receive.load().link_up;
        if up != self.connected {
            self.vhost.connect(up)?;
            self.connected = up;
            // What was rung for meanwhile.
            self.queues.kick();
        }
        Ok(())
    }
}

impl MutEventSubscriber for KernelPair {
    fn init(&mut self, ops: &mut EventOps) {
        self.error = self.begin(ops).err();
        if self.error.is_some() {
            // A queue that has a tap could not be set up again.
            let _ = self.vhost.connect(false);
        }
    }

    fn process(&mut self, events: Events, _ops: &mut EventOps) {
        if events.data() != LINK {
            return self.queues.relay(events.data() as usize);
        }
        let _ = self.link.read();
        if !self.connected {
            self.vhost.forget_stale();
        }
        if let Err(error) = self.follow() {
            warn_limited!(%error, "the host's kernel does not follow a network interface's link");
        }
    }
}

impl Job for KernelPair {
    type Output = Vec<(u16, QueueProgress)>;

    fn init_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn finish(self, _how: Stop) -> Self::Output {
        self.queues.finish()
    }
}
