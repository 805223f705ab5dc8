//! [`QueueWorker`]: the requests of one or more queues, served on an io thread.
//!
//! The runner around it does what every device needs: kicks and their suppression, a work budget
//! so that no queue starves its thread, notifications after each batch, a broken queue turned into
//! DEVICE_NEEDS_RESET, and the hand-back of queues when it stops.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use event_manager::{EventOps, Events, MutEventSubscriber};
use memory::GuestRam;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::chain::Chain;
use super::device::{ActivateError, Notify};
use super::queue::{Queue, QueueConfig, QueueProgress};
use crate::io_thread::{IoThread, Job, Running, Stop};

#[cfg(test)]
mod tests;

/// Chains taken from one queue before other queues and sources of the thread get their turn.
const BUDGET: u32 = 256;

/// Serves chains. All methods run on the worker's io thread.
pub trait QueueWorker: Send + 'static {
    /// Register event sources other than kicks (a tap, completions) with [`Context::watch`].
    /// Each queue is kicked once right after, for chains that came earlier.
    fn start(&mut self, _cx: &mut Context<'_, '_>) {}

    /// `cx.queues[position]` may have chains: take them with [`ActiveQueue::next`] until it
    /// returns `None`. Stopping earlier is allowed, but then calling `next` again is the
    /// worker's own business: no kick will come.
    fn kicked(&mut self, position: usize, cx: &mut Context<'_, '_>);

    /// The source watched with `token` is ready. Sources watched without
    /// [`EventSet::EDGE_TRIGGERED`] must be emptied or unwatched, else the thread spins.
    fn ready(&mut self, _token: u32, _events: EventSet, _cx: &mut Context<'_, '_>) {}

    /// Finish: every chain taken must be completed (or put back) when this returns, but for those that
    /// the worker [keeps](Self::keeps).
    fn drain(&mut self, _queues: &mut [ActiveQueue]) {}

    /// Chains are not completed because the host failed what they ask for: the worker stops with
    /// them, and is started again as it is when the machine goes on. Its `start` retries them.
    fn keeps(&self) -> bool {
        false
    }
}

/// What a worker has at hand while it runs.
pub struct Context<'a, 'b> {
    /// The worker's queues, in the order it was started with.
    pub queues: &'a mut [ActiveQueue],
    ops: &'a mut EventOps<'b>,
    error: &'a mut Option<io::Error>,
}

impl Context<'_, '_> {
    /// Call [`QueueWorker::ready`] with `token` when `source` is. An error fails the start of the
    /// worker, or is logged when it runs already.
    pub fn watch(&mut self, source: &impl AsRawFd, token: u32, events: EventSet) {
        let added = self.ops.add(Events::with_data(source, token & !KICK, events));
        self.note(added);
    }

    /// Change what a watched source is watched for.
    pub fn rewatch(&mut self, source: &impl AsRawFd, token: u32, events: EventSet) {
        let changed = self.ops.modify(Events::with_data(source, token & !KICK, events));
        self.note(changed);
    }

    /// Must come before a watched source is closed.
    pub fn unwatch(&mut self, source: &impl AsRawFd) {
        let removed = self.ops.remove(Events::empty(source));
        self.note(removed);
    }

    fn note(&mut self, result: event_manager::Result<()>) {
        if let Err(error) = result {
            tracing::warn!(%error, "cannot change the event sources of a device worker");
            self.error.get_or_insert(io::Error::other(error));
        }
    }
}

/// A queue at work: the rings, the kick that announces chains, the notification that ends them.
pub struct ActiveQueue {
    index: u16,
    queue: Queue,
    kick: Arc<EventFd>,
    notify: Arc<dyn Notify>,
    budget: u32,
    kicks_enabled: bool,
    /// The driver has reset the device: completions go nowhere.
    discarding: bool,
    reported: bool,
}

impl ActiveQueue {
    #[must_use]
    pub fn new(index: u16, queue: Queue, kick: Arc<EventFd>, notify: Arc<dyn Notify>) -> Self {
        Self {
            index,
            queue,
            kick,
            notify,
            budget: BUDGET,
            kicks_enabled: true,
            discarding: false,
            reported: false,
        }
    }

    /// Virtqueue index within the device.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    #[must_use]
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    #[must_use]
    pub fn ram(&self) -> &GuestRam {
        self.queue.ram()
    }

    /// Chains taken and not yet completed.
    #[must_use]
    pub fn in_flight(&self) -> u16 {
        self.queue.in_flight()
    }

    /// Size and place of the rings, for a backend that serves them itself.
    #[must_use]
    pub fn rings(&self) -> QueueConfig {
        self.queue.rings()
    }

    #[must_use]
    pub fn progress(&self) -> QueueProgress {
        self.queue.progress()
    }

    /// How far such a backend has come, by the ring itself.
    #[must_use]
    pub fn used_index(&self) -> u16 {
        self.queue.used_index()
    }

    /// What the driver rings.
    #[must_use]
    pub fn kick(&self) -> &Arc<EventFd> {
        &self.kick
    }

    /// Signal the driver, whatever is in the ring.
    pub fn notify(&self) {
        self.notify.queue(self.index);
    }

    /// The next chain to serve. `None` when there is none, the queue is broken, or its turn is
    /// over; in every case the worker will be kicked when it is worth asking again.
    #[allow(clippy::should_implement_trait, reason = "an iterator would promise to be fused")]
    pub fn next(&mut self) -> Option<Chain> {
        loop {
            let Some(budget) = self.budget.checked_sub(1) else {
                // Our own kick brings us back after the other sources of this thread.
                let _ = self.kick.write(1);
                return None;
            };
            // Each round counts: a driver moving its index to and fro cannot hold us here.
            self.budget = budget;
            if self.kicks_enabled {
                self.queue.disable_kicks();
                self.kicks_enabled = false;
            }
            if let Some(chain) = self.queue.pop() {
                return Some(chain);
            }
            self.kicks_enabled = true;
            if !self.queue.enable_kicks() {
                return None;
            }
        }
    }

    /// Give a chain back to the driver, `written` bytes of its writable part filled.
    pub fn complete(&mut self, chain: Chain, written: u32) {
        if self.discarding {
            self.queue.discard(chain);
        } else {
            self.queue.complete(chain, written);
        }
    }

    /// Give several chains back so that the driver sees all of them or none.
    pub fn complete_together(&mut self, chains: impl IntoIterator<Item = (Chain, u32)>) {
        if self.discarding {
            chains.into_iter().for_each(|(chain, _)| self.queue.discard(chain));
        } else {
            self.queue.complete_together(chains);
        }
    }

    /// Undo the latest [`next`](Self::next): the chain will come again.
    pub fn put_back(&mut self, chain: Chain) {
        self.queue.put_back(chain);
    }

    /// The chain is so malformed that no status can be given: the device needs a reset.
    pub fn fail(&mut self, chain: Chain, reason: &'static str) {
        self.queue.fail(chain.head(), reason);
        self.queue.discard(chain);
    }

    /// Notify the driver if it wants to know. The runner does this after each call of the worker;
    /// a worker may do it earlier, when latency matters more than batching.
    pub fn flush(&mut self) {
        if self.queue.should_notify() {
            self.notify.queue(self.index);
        }
    }

    fn report(&mut self) {
        if let Some(reason) = self.queue.broken()
            && !self.reported
        {
            self.reported = true;
            crate::limit::warn_limited!("queue {} is broken until reset: {reason}", self.index);
            self.notify.needs_reset(&format!("queue {}: {reason}", self.index));
        }
    }
}

/// Kick tokens have this bit; the worker's own tokens do not.
const KICK: u32 = 1 << 31;

struct Runner<W> {
    worker: W,
    queues: Vec<ActiveQueue>,
    error: Option<io::Error>,
}

impl<W: QueueWorker> Runner<W> {
    fn call(&mut self, ops: &mut EventOps<'_>, each: impl FnOnce(&mut W, &mut Context<'_, '_>)) {
        for queue in &mut self.queues {
            queue.budget = BUDGET;
        }
        let mut cx = Context { queues: &mut self.queues, ops, error: &mut self.error };
        each(&mut self.worker, &mut cx);
        self.settle();
    }

    fn progress(&self) -> Progress {
        self.queues.iter().map(|queue| (queue.index, queue.queue.progress())).collect()
    }

    fn settle(&mut self) {
        for queue in &mut self.queues {
            queue.flush();
            queue.report();
        }
    }
}

impl<W: QueueWorker> MutEventSubscriber for Runner<W> {
    fn init(&mut self, ops: &mut EventOps) {
        for (position, queue) in (0..).zip(&self.queues) {
            // Edge-triggered: each kick is an event, and its count need not be read back.
            let events = EventSet::IN | EventSet::EDGE_TRIGGERED;
            let kick = Events::with_data(queue.kick.as_ref(), KICK | position, events);
            if let Err(error) = ops.add(kick) {
                self.error = Some(io::Error::other(error));
                return;
            }
            // Chains may have come whose kick an earlier worker of this queue took.
            let _ = queue.kick.write(1);
        }
        self.call(ops, W::start);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let token = events.data();
        if token & KICK == 0 {
            self.call(ops, |worker, cx| worker.ready(token, events.event_set(), cx));
            return;
        }
        let position = (token & !KICK) as usize;
        if position < self.queues.len() {
            self.call(ops, |worker, cx| worker.kicked(position, cx));
        }
    }
}

impl<W: QueueWorker> Job for Runner<W> {
    type Output = Left<W>;

    fn init_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn finish(mut self, how: Stop) -> Self::Output {
        for queue in &mut self.queues {
            queue.discarding = how == Stop::Discard;
        }
        self.worker.drain(&mut self.queues);
        self.settle();
        if how == Stop::Deliver && self.worker.keeps() {
            return Left::Kept(self);
        }
        // A driver that resets the device forgets what the worker keeps.
        let kept = self.worker.keeps();
        for queue in self.queues.iter().filter(|queue| queue.in_flight() > 0 && !kept) {
            tracing::error!(
                queue = queue.index,
                lost = queue.in_flight(),
                "a worker stopped without completing its chains"
            );
        }
        Left::Queues(self.progress())
    }
}

type Progress = Vec<(u16, QueueProgress)>;

/// What is left of a worker.
enum Left<W> {
    Queues(Progress),
    /// Itself, with chains that it keeps.
    Kept(Runner<W>),
}

/// A worker that stopped with chains that it keeps.
trait Keeper: Send {
    fn queues(&self) -> Vec<u16>;

    /// Where each queue stands, and the chains that are kept of it.
    fn owed(&self) -> Vec<(u16, QueueProgress, Vec<u16>)>;

    fn start(self: Box<Self>, thread: &Arc<IoThread>) -> io::Result<Box<dyn Stoppable>>;
}

impl<W: QueueWorker> Keeper for Runner<W> {
    fn queues(&self) -> Vec<u16> {
        self.queues.iter().map(|queue| queue.index).collect()
    }

    fn owed(&self) -> Vec<(u16, QueueProgress, Vec<u16>)> {
        let owed =
            |queue: &ActiveQueue| (queue.index, queue.queue.progress(), queue.queue.open_heads());
        self.queues.iter().map(owed).collect()
    }

    fn start(self: Box<Self>, thread: &Arc<IoThread>) -> io::Result<Box<dyn Stoppable>> {
        Ok(Box::new(thread.add(*self)?))
    }
}

trait Stoppable: Send {
    fn stop(self: Box<Self>, how: Stop) -> io::Result<Result<Progress, Box<dyn Keeper>>>;
}

impl<W: QueueWorker> Stoppable for Running<Runner<W>> {
    fn stop(self: Box<Self>, how: Stop) -> io::Result<Result<Progress, Box<dyn Keeper>>> {
        Ok(match Running::stop(*self, how)? {
            Left::Queues(progress) => Ok(progress),
            Left::Kept(runner) => Err(Box::new(runner)),
        })
    }
}

/// A job that looks after its queues by itself.
struct Own<J: Job<Output = Progress>>(Running<J>);

impl<J: Job<Output = Progress>> Stoppable for Own<J> {
    fn stop(self: Box<Self>, how: Stop) -> io::Result<Result<Progress, Box<dyn Keeper>>> {
        Ok(Ok(self.0.stop(how)?))
    }
}

/// What stopping a device's workers leaves.
#[derive(Default)]
pub struct Stopped {
    /// Of the queues that came back.
    pub progress: Vec<(u16, QueueProgress)>,
    /// The others are with these.
    pub kept: KeptWorkers,
}

/// Workers that stopped with chains whose requests the host had failed. Dropping them drops those,
/// as a reset does.
#[derive(Default)]
pub struct KeptWorkers(Vec<(Arc<IoThread>, Box<dyn Keeper>)>);

impl KeptWorkers {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether queue `index` is with one of them.
    #[must_use]
    pub fn has(&self, index: u16) -> bool {
        self.0.iter().any(|(_, keeper)| keeper.queues().contains(&index))
    }

    /// Where each of their queues stands, and the chains that another machine would owe the driver.
    #[must_use]
    pub fn owed(&self) -> Vec<(u16, QueueProgress, Vec<u16>)> {
        self.0.iter().flat_map(|(_, keeper)| keeper.owed()).collect()
    }

    /// Let them go on, among `workers`.
    ///
    /// # Errors
    /// When a thread is gone or an event source cannot be watched.
    pub fn start(self, workers: &mut Workers) -> Result<(), ActivateError> {
        for (thread, keeper) in self.0 {
            let queue = keeper.queues().first().copied().unwrap_or(0);
            let running =
                keeper.start(&thread).map_err(|source| ActivateError::Worker { queue, source })?;
            workers.0.push((thread, running));
        }
        Ok(())
    }
}

/// The running workers of one device. Dropping them stops them as a reset does.
#[derive(Default)]
pub struct Workers(Vec<(Arc<IoThread>, Box<dyn Stoppable>)>);

impl Workers {
    /// Start `worker` with `queues` on `thread`.
    ///
    /// # Errors
    /// When the thread is gone or an event source cannot be watched.
    pub fn start<W: QueueWorker>(
        &mut self,
        thread: &Arc<IoThread>,
        worker: W,
        queues: Vec<ActiveQueue>,
    ) -> Result<(), ActivateError> {
        let queue = queues.first().map_or(0, |queue| queue.index);
        let running = thread
            .add(Runner { worker, queues, error: None })
            .map_err(|source| ActivateError::Worker { queue, source })?;
        self.0.push((thread.clone(), Box::new(running)));
        Ok(())
    }

    /// Start a `job` that looks after its queues by itself, from `queue` on.
    ///
    /// # Errors
    /// When the thread is gone or the job cannot begin.
    pub fn start_job(
        &mut self,
        thread: &Arc<IoThread>,
        queue: u16,
        job: impl Job<Output = Vec<(u16, QueueProgress)>>,
    ) -> Result<(), ActivateError> {
        let running = thread.add(job).map_err(|source| ActivateError::Worker { queue, source })?;
        self.0.push((thread.clone(), Box::new(Own(running))));
        Ok(())
    }

    /// Stop all workers and hand the queues back.
    #[must_use]
    pub fn stop(mut self, how: Stop) -> Stopped {
        self.stop_all(how)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn stop_all(&mut self, how: Stop) -> Stopped {
        let mut stopped = Stopped::default();
        for (thread, worker) in self.0.drain(..) {
            match worker.stop(how) {
                Ok(Ok(queues)) => stopped.progress.extend(queues),
                Ok(Err(keeper)) => stopped.kept.0.push((thread, keeper)),
                Err(error) => tracing::error!(%error, "a device worker is lost"),
            }
        }
        stopped
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop_all(Stop::Discard);
    }
}
