//! Entropy device (virtio 1.2 §5.4), fed by the host kernel's random number generator.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use vmm_sys_util::epoll::EventSet;

use super::Workers;
use super::{ActivateError, Activation, ActiveQueue, Chain, Context, QueueWorker, VirtioDevice};
use crate::io_thread::IoThread;
use crate::limit::warn_limited;

#[cfg(test)]
mod tests;

const DEVICE_TYPE: u16 = 4;
const QUEUE_SIZES: [u16; 1] = [64];

/// A request is filled up to here; asking for more is how a guest would keep the thread busy.
const MAX_REQUEST: usize = 64 << 10;
/// Copied into the guest at a time.
const PIECE: usize = 4096;

/// How much a guest may draw (libvirt's `<rate bytes= period=>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub bytes: u32,
    pub period: Duration,
}

/// virtio-rng.
pub struct Rng {
    thread: Arc<IoThread>,
    /// With the timer that ends a period: made in advance, before threads are confined.
    limit: Option<(RateLimit, Arc<OwnedFd>)>,
}

impl Rng {
    /// # Errors
    /// When the host has no timer for the limit.
    pub fn new(thread: Arc<IoThread>, limit: Option<RateLimit>) -> io::Result<Self> {
        let timer = |limit| -> io::Result<_> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            Ok((limit, Arc::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)))
        };
        Ok(Self { thread, limit: limit.map(timer).transpose()? })
    }
}

impl VirtioDevice for Rng {
    fn kind(&self) -> &'static str {
        "virtio-rng"
    }

    fn device_type(&self) -> u16 {
        DEVICE_TYPE
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<Workers, ActivateError> {
        let mut workers = Workers::default();
        if let Some(queue) = activation.take(0) {
            let limiter = self.limit.clone().map(|(limit, timer)| Limiter::new(limit, timer));
            workers.start(&self.thread, RngWorker { limiter }, vec![queue])?;
        }
        Ok(workers)
    }
}

struct RngWorker {
    limiter: Option<Limiter>,
}

impl QueueWorker for RngWorker {
    fn start(&mut self, cx: &mut Context<'_, '_>) {
        if let Some(limiter) = &self.limiter {
            cx.watch(&limiter.timer, 0, EventSet::IN);
        }
    }

    fn kicked(&mut self, position: usize, cx: &mut Context<'_, '_>) {
        self.serve(&mut cx.queues[position]);
    }

    fn ready(&mut self, _token: u32, _events: EventSet, cx: &mut Context<'_, '_>) {
        if let Some(limiter) = &mut self.limiter {
            limiter.refill();
        }
        if let Some(queue) = cx.queues.first_mut() {
            self.serve(queue);
        }
    }
}

impl RngWorker {
    fn serve(&mut self, queue: &mut ActiveQueue) {
        loop {
            // With nothing left, chains wait in the queue; the timer brings us back to them.
            let left = self.limiter.as_ref().map_or(MAX_REQUEST, Limiter::left);
            if left == 0 {
                return;
            }
            let Some(chain) = queue.next() else { return };
            let drawn = answer(queue, chain, left.min(MAX_REQUEST));
            if let Some(limiter) = &mut self.limiter {
                limiter.draw(drawn);
            }
        }
    }
}

/// Fill a chain, at most `most` bytes of it; bytes filled.
fn answer(queue: &mut ActiveQueue, mut chain: Chain, most: usize) -> usize {
    let wanted = (chain.writable_len() as usize).min(most);
    let mut done = 0;
    let mut piece = [0; PIECE];
    while done < wanted {
        let part = PIECE.min(wanted - done);
        let random = match getrandom(&mut piece[..part], GetRandomFlags::empty()) {
            Ok(random) => random,
            Err(error) => {
                // The driver sees a shorter answer and asks again.
                warn_limited!("the host gives no random bytes: {error}");
                break;
            }
        };
        if random == 0 || !chain.write(&piece[..random]) {
            break;
        }
        done += random;
    }
    queue.complete(chain, done as u32);
    done
}

/// So many bytes a period; the period starts with the first byte drawn from a full measure.
struct Limiter {
    limit: RateLimit,
    left: usize,
    running: bool,
    timer: Arc<OwnedFd>,
}

impl Limiter {
    fn new(limit: RateLimit, timer: Arc<OwnedFd>) -> Self {
        // A limit of nothing would never start a period, nor end one.
        let limit = RateLimit { bytes: limit.bytes.max(1), ..limit };
        Self { limit, left: limit.bytes as usize, running: false, timer }
    }

    fn left(&self) -> usize {
        self.left
    }

    fn draw(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        if !self.running && bytes > 0 {
            self.start_period();
        }
    }

    fn start_period(&mut self) {
        // A timer of zero would be switched off.
        let period = self.limit.period.max(Duration::from_millis(1));
        let value = Timespec::try_from(period).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        match timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once) {
            Ok(_) => self.running = true,
            // The timer is our own and the value is in range; better no limit than no entropy.
            Err(_) => self.left = self.limit.bytes as usize,
        }
    }

    fn refill(&mut self) {
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        self.left = self.limit.bytes as usize;
        self.running = false;
    }
}
