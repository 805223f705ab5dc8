//! Entropy device (virtio 1.2 §5.4), fed by the host kernel's random number generator.

use std::sync::Arc;

use rustix::rand::{GetRandomFlags, getrandom};

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

/// virtio-rng.
pub struct Rng {
    thread: Arc<IoThread>,
}

impl Rng {
    #[must_use]
    pub fn new(thread: Arc<IoThread>) -> Self {
        Self { thread }
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
            workers.start(&self.thread, RngWorker, vec![queue])?;
        }
        Ok(workers)
    }
}

struct RngWorker;

impl QueueWorker for RngWorker {
    fn kicked(&mut self, position: usize, cx: &mut Context<'_, '_>) {
        let queue = &mut cx.queues[position];
        while let Some(chain) = queue.next() {
            answer(queue, chain);
        }
    }
}

fn answer(queue: &mut ActiveQueue, mut chain: Chain) {
    let wanted = (chain.writable_len() as usize).min(MAX_REQUEST);
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
}
