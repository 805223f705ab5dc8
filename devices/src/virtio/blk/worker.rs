//! [`BlockWorker`]: the requests of one queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use memory::IoBuffers;
use vmm_sys_util::epoll::EventSet;

use super::device::Shared;
use super::request::{Limits, Parsed, parse};
use super::spec::{ID_LEN, S_IOERR, S_OK};
use crate::backend::stats::BlockStats;
use crate::backend::times::Times;
use crate::backend::{Action, Channel, DiskInfo, Finished, Request};
use crate::virtio::{ActiveQueue, Chain, Context, QueueWorker, StatusByte};

/// A request the disk is busy with; its token is the chain's head, unique while in flight.
struct InFlight {
    chain: Chain,
    status: StatusByte,
    action: Action,
    len: u64,
}

pub(super) struct BlockWorker {
    shared: Arc<Shared>,
    info: DiskInfo,
    features: u64,
    channel: Box<dyn Channel>,
    in_flight: Vec<Option<InFlight>>,
    times: Times,
    /// Empty buffer lists, kept for their allocations.
    spare: Vec<IoBuffers>,
}

impl BlockWorker {
    pub(super) fn new(
        shared: Arc<Shared>,
        info: DiskInfo,
        features: u64,
        channel: Box<dyn Channel>,
        depth: u16,
    ) -> Self {
        let in_flight = (0..depth).map(|_| None).collect();
        let (times, spare) = (Times::default(), Vec::new());
        Self { shared, info, features, channel, in_flight, times, spare }
    }

    fn begin(&mut self, queue: &mut ActiveQueue, mut chain: Chain) {
        let Some(status) = chain.split_status() else {
            queue.fail(chain, "it has no room for a status");
            return;
        };
        let limits = Limits {
            size: &self.shared.size,
            writeback: &self.shared.writeback,
            read_only: self.info.read_only,
            block_size: self.info.block_size.into(),
            features: self.features,
        };
        match parse(&mut chain, &limits) {
            Ok(Parsed::Disk { action, offset, len }) => {
                self.start(queue, InFlight { chain, status, action, len }, offset);
            }
            Ok(Parsed::Identify) => {
                let room = chain.writable_len().min(ID_LEN as u32);
                let wrote = chain.write(&self.shared.identity[..room as usize]);
                status.set(queue.ram(), if wrote { S_OK } else { S_IOERR });
                queue.complete(chain, room + 1);
            }
            Err(refusal) => {
                self.shared.stats.refused.fetch_add(1, Ordering::Relaxed);
                status.set(queue.ram(), refusal);
                queue.complete(chain, 1);
            }
        }
    }

    fn start(&mut self, queue: &mut ActiveQueue, request: InFlight, offset: u64) {
        let mut buffers = self.spare.pop().unwrap_or_else(|| IoBuffers::new(queue.ram().clone()));
        let filled = match request.action {
            Action::Read => request.chain.append_writable(&mut buffers),
            Action::Write { .. } => request.chain.append_readable(&mut buffers),
            _ => Ok(()),
        };
        let token = request.chain.head();
        match self.in_flight.get_mut(usize::from(token)) {
            // The queue vouches for both: ranges in RAM, and a head of its own below its size.
            Some(place) if place.is_none() && filled.is_ok() => {
                let action = request.action;
                *place = Some(request);
                self.times.begin(action, &self.shared.stats);
                self.channel.start(token, Request { action, offset, buffers });
            }
            _ => {
                request.status.set(queue.ram(), S_IOERR);
                queue.complete(request.chain, 1);
            }
        }
    }

    /// Answer what the disk has finished.
    fn reap(&mut self, queue: &mut ActiveQueue) {
        while let Some(Finished { token, result, mut buffers }) = self.channel.finished() {
            buffers.clear();
            self.spare.push(buffers);
            let Some(request) = self.in_flight.get_mut(usize::from(token)).and_then(Option::take)
            else {
                continue;
            };
            let InFlight { chain, status, action, len } = request;
            self.times.end(action, &self.shared.stats);
            let good = result.is_ok();
            if good {
                self.count(action, len);
            }
            let data = if good && action == Action::Read { len as u32 } else { 0 };
            status.set(queue.ram(), if good { S_OK } else { S_IOERR });
            queue.complete(chain, data + 1);
        }
        self.times.looked();
    }

    fn submit(&mut self) {
        self.times.submitted();
        self.channel.submit();
    }

    fn count(&self, action: Action, len: u64) {
        let stats = &self.shared.stats;
        match action {
            Action::Read => BlockStats::count(&stats.read_requests, &stats.read_bytes, len),
            Action::Write { .. } => {
                BlockStats::count(&stats.write_requests, &stats.write_bytes, len);
            }
            Action::Flush => {
                stats.flush_requests.fetch_add(1, Ordering::Relaxed);
            }
            Action::Discard { .. } | Action::Zero { .. } => {
                BlockStats::count(&stats.unmap_requests, &stats.unmap_bytes, len);
            }
        }
    }
}

impl QueueWorker for BlockWorker {
    fn start(&mut self, cx: &mut Context<'_, '_>) {
        self.channel.renew();
        if let Some(source) = self.channel.source() {
            cx.watch(&source, 0, EventSet::IN);
        }
        if self.keeps() {
            self.channel.retry();
            if let Some(queue) = cx.queues.first_mut() {
                self.reap(queue);
            }
        }
    }

    fn kicked(&mut self, position: usize, cx: &mut Context<'_, '_>) {
        let queue = &mut cx.queues[position];
        while let Some(chain) = queue.next() {
            self.begin(queue, chain);
        }
        self.submit();
        // What the page cache answered is finished already.
        self.reap(queue);
    }

    fn ready(&mut self, _token: u32, _events: EventSet, cx: &mut Context<'_, '_>) {
        if let Some(queue) = cx.queues.first_mut() {
            self.reap(queue);
        }
    }

    fn drain(&mut self, queues: &mut [ActiveQueue]) {
        let Some(queue) = queues.first_mut() else { return };
        self.submit();
        loop {
            self.reap(queue);
            if usize::from(queue.in_flight()) == self.channel.kept() {
                return;
            }
            self.channel.wait();
        }
    }

    fn keeps(&self) -> bool {
        self.channel.kept() > 0
    }
}
