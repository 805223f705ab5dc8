//! [`BalloonWorker`]: gives pages back to the host, and fetches the guest's statistics.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use memory::GuestRam;
use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
use vmm_sys_util::epoll::EventSet;

use super::shared::Shared;
use super::spec::{ENTRY, PAGE};
use crate::limit::warn_limited;
use crate::virtio::{ActiveQueue, Chain, Context, QueueWorker};

/// Pages that one list may name; drivers send 256 to 1024. Those beyond stay with the guest, who
/// is none the worse for it.
const MOST_PAGES: usize = 4096;
/// Statistics that one buffer may hold: several times as many as there are tags.
const MOST_ENTRIES: usize = 64;

const TIMER: u32 = 0;
const WAKE: u32 = 1;

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Inflate,
    Deflate,
    Statistics,
    Reporting,
}

pub(super) struct BalloonWorker {
    pub(super) shared: Arc<Shared>,
    pub(super) timer: Arc<OwnedFd>,
    /// By position of the queue.
    pub(super) roles: Vec<Role>,
    /// The driver's buffer, which it fills and offers again when it gets it back.
    pub(super) statistics: Option<Chain>,
}

impl QueueWorker for BalloonWorker {
    fn start(&mut self, cx: &mut Context<'_, '_>) {
        cx.watch(&self.timer, TIMER, EventSet::IN);
        cx.watch(&self.shared.wake, WAKE, EventSet::IN);
        self.set_timer();
    }

    fn kicked(&mut self, position: usize, cx: &mut Context<'_, '_>) {
        let (Some(&role), Some(queue)) = (self.roles.get(position), cx.queues.get_mut(position))
        else {
            return;
        };
        match role {
            Role::Inflate => inflate(queue),
            // The page comes back when it is touched.
            Role::Deflate => {
                while let Some(chain) = queue.next() {
                    queue.complete(chain, 0);
                }
            }
            Role::Reporting => report(queue),
            Role::Statistics => self.take_statistics(queue),
        }
    }

    fn ready(&mut self, token: u32, _events: EventSet, cx: &mut Context<'_, '_>) {
        if token == WAKE {
            let _ = self.shared.wake.read();
            return self.set_timer();
        }
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        let position = self.roles.iter().position(|role| *role == Role::Statistics);
        if let Some(queue) = position.and_then(|position| cx.queues.get_mut(position))
            && let Some(chain) = self.statistics.take()
        {
            queue.complete(chain, 0);
        }
    }

    fn drain(&mut self, queues: &mut [ActiveQueue]) {
        let position = self.roles.iter().position(|role| *role == Role::Statistics);
        // It was the latest of its queue, and is the first to come when the worker starts again.
        if let Some(queue) = position.and_then(|position| queues.get_mut(position))
            && let Some(chain) = self.statistics.take()
        {
            queue.put_back(chain);
        }
    }
}

impl BalloonWorker {
    fn set_timer(&self) {
        let period = Timespec::try_from(self.shared.period()).unwrap_or_default();
        let every = Itimerspec { it_interval: period, it_value: period };
        if let Err(error) = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &every) {
            warn_limited!("the statistics of a balloon are not read: {error}");
        }
    }

    fn take_statistics(&mut self, queue: &mut ActiveQueue) {
        while let Some(mut chain) = queue.next() {
            let mut entries = [0; MOST_ENTRIES * ENTRY];
            let len = (chain.readable_len() as usize).min(entries.len());
            if chain.read(&mut entries[..len]) {
                self.shared.take_statistics(&entries[..len]);
            }
            // One buffer is enough, whatever a driver offers.
            if let Some(before) = self.statistics.replace(chain) {
                queue.complete(before, 0);
            }
        }
    }
}

/// The driver has put pages into the balloon: the host can have them.
fn inflate(queue: &mut ActiveQueue) {
    while let Some(mut chain) = queue.next() {
        let mut list = [0; 4 * MOST_PAGES];
        let len = (chain.readable_len() as usize).min(list.len());
        if chain.read(&mut list[..len]) {
            discard(queue.ram(), &list[..len]);
        }
        queue.complete(chain, 0);
    }
}

/// Discard the pages of a list of 32-bit page numbers, those beside one another at once.
fn discard(ram: &GuestRam, list: &[u8]) {
    let (numbers, _) = list.as_chunks::<4>();
    let mut pages: Vec<u64> = numbers.iter().map(|n| u32::from_le_bytes(*n).into()).collect();
    pages.sort_unstable();
    pages.dedup();
    for run in pages.chunk_by(|page, next| page + 1 == *next) {
        let (first, count) = (run[0], run.len() as u64);
        give_back(ram, first * PAGE, count * PAGE);
    }
}

/// The driver lists free memory: its contents mean nothing to it until it writes there again.
fn report(queue: &mut ActiveQueue) {
    while let Some(chain) = queue.next() {
        for (gpa, len) in chain.writable() {
            // Only whole pages; drivers report nothing else.
            let start = gpa.next_multiple_of(PAGE);
            let end = (gpa + len) / PAGE * PAGE;
            if start < end {
                give_back(queue.ram(), start, end - start);
            }
        }
        queue.complete(chain, 0);
    }
}

fn give_back(ram: &GuestRam, gpa: u64, len: u64) {
    if let Err(error) = ram.discard(gpa, len) {
        // The guest named what is no RAM, or the host keeps the pages: nobody is worse off.
        warn_limited!("a balloon's pages stay where they are: {error}");
    }
}
