//! [`PairWorker`]: moves the packets of one receive and one transmit queue.
//!
//! Packets go between the kernel and guest memory without a copy. Receive buffers are taken ahead
//! of need and kept; when the driver has left too few for the largest packet, a packet is received
//! into memory of ours first, so that none is cut off, and waits there until it fits.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use memory::IoBuffers;
use vmm_sys_util::epoll::EventSet;

use super::filter::Mac;
use super::shared::{Shared, add};
use super::spec::{FRAME, HEADER, MAX_PACKET, NUM_BUFFERS};
use crate::backend::packet::{PacketBackend, is_end};
use crate::limit::warn_limited;
use crate::virtio::{ActiveQueue, Chain, Context, QueueWorker};

const RX: usize = 0;
const TX: usize = 1;
const BACKEND: u32 = 0;

/// Packets received before other sources of the thread get their turn.
const BUDGET: usize = 256;
/// A list of buffers this much used up is made anew.
const COMPACT: usize = 512;

pub(super) struct PairWorker {
    backend: Arc<dyn PacketBackend>,
    shared: Arc<Shared>,
    mergeable: bool,
    /// Room that makes sure that any packet fits.
    needed: u64,
    rx: Receiver,
    /// The backend takes no more packets for now.
    tx_blocked: bool,
    watched: EventSet,
    /// Why the backend is of no use any more, until it is told.
    end: Option<String>,
    gone: bool,
}

/// Receive buffers at hand, and a packet that waits for more.
struct Receiver {
    chains: VecDeque<Chain>,
    /// The buffers of all `chains`, end to end.
    space: IoBuffers,
    used_up: usize,
    waiting: Option<Vec<u8>>,
    /// The driver has no buffers for us.
    starved: bool,
}

/// Borrowed for event registration.
struct Source(RawFd);

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl PairWorker {
    /// `big`: packets may be as long as segmentation offload makes them; else as `mtu` says.
    pub(super) fn new(
        backend: Arc<dyn PacketBackend>,
        shared: Arc<Shared>,
        ram: memory::GuestRam,
        mergeable: bool,
        big: bool,
        mtu: u16,
    ) -> Self {
        let packet = if big { MAX_PACKET } else { usize::from(mtu) + FRAME };
        let packet = packet.max(backend.longest());
        Self {
            backend,
            shared,
            mergeable,
            needed: (HEADER + packet) as u64,
            rx: Receiver {
                chains: VecDeque::new(),
                space: IoBuffers::new(ram),
                used_up: 0,
                waiting: None,
                starved: false,
            },
            tx_blocked: false,
            watched: EventSet::empty(),
            end: None,
            gone: false,
        }
    }

    fn receive(&mut self, queue: &mut ActiveQueue) {
        let mut received = 0;
        // Nobody calls us for what the backend has at hand.
        while !self.gone && (received < BUDGET || self.backend.has_received()) {
            received += 1;
            match self.receive_one(queue) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_end(&error) => return self.end = Some(error.to_string()),
                Err(error) => {
                    add(&self.shared.counters.rx_errors, 1);
                    warn_limited!(%error, "cannot receive a packet");
                    return;
                }
            }
        }
    }

    /// Whether it is worth going on.
    fn receive_one(&mut self, queue: &mut ActiveQueue) -> io::Result<bool> {
        if let Some(packet) = self.rx.waiting.take() {
            if !self.rx.gather(queue, packet.len() as u64, self.mergeable) && self.mergeable {
                self.rx.waiting = Some(packet);
                return Ok(false);
            }
            return Ok(self.deliver_copy(queue, &packet));
        }
        let enough = self.rx.gather(queue, self.needed, self.mergeable);
        if self.rx.chains.is_empty() {
            return Ok(false);
        }
        if enough || !self.mergeable {
            // Without merging, one chain is all the room a packet ever gets.
            let len = self.backend.receive(&self.rx.space)?;
            self.deliver(queue, len);
            return Ok(true);
        }
        let mut packet = vec![0; self.needed as usize];
        let len = self.backend.receive_copy(&mut packet)?;
        packet.truncate(len);
        self.rx.waiting = Some(packet);
        Ok(true)
    }

    fn deliver_copy(&mut self, queue: &mut ActiveQueue, packet: &[u8]) -> bool {
        if self.rx.chains.is_empty() {
            return false;
        }
        let mut at = 0;
        for chain in &self.rx.chains {
            for &(gpa, len) in chain.writable() {
                let part = (packet.len() - at).min(usize::try_from(len).unwrap_or(usize::MAX));
                // The range was checked to be RAM when the chain was taken.
                let _ = queue.ram().write_slice(gpa, &packet[at..at + part]);
                at += part;
            }
        }
        self.deliver(queue, at);
        true
    }

    /// `len` bytes of header and packet lie at the front of the buffers: give them to the driver,
    /// unless it does not want them.
    fn deliver(&mut self, queue: &mut ActiveQueue, len: usize) {
        let counters = &self.shared.counters;
        if len < HEADER {
            return add(&counters.rx_errors, 1);
        }
        if !self.wanted(queue, len) {
            // The buffers stay at hand, the next packet overwrites this one.
            return add(&counters.rx_dropped, 1);
        }
        let mut left = len as u64;
        let mut count = 0;
        for chain in &self.rx.chains {
            count += 1;
            left = left.saturating_sub(u64::from(chain.writable_len()));
            if left == 0 {
                break;
            }
        }
        let buffers = u16::try_from(count).unwrap_or(u16::MAX);
        self.rx.put(queue, NUM_BUFFERS, &buffers.to_le_bytes());
        let mut left = len as u64;
        let chains = self.rx.take(count).into_iter().map(|chain| {
            let part = left.min(u64::from(chain.writable_len()));
            left -= part;
            (chain, part as u32)
        });
        queue.complete_together(chains);
        add(&counters.rx_packets, 1);
        add(&counters.rx_bytes, (len - HEADER) as u64);
    }

    fn wanted(&self, queue: &ActiveQueue, len: usize) -> bool {
        let receive = self.shared.receive.load();
        if !receive.link_up || receive.filter.promiscuous {
            return receive.link_up;
        }
        let mut destination: Mac = [0; 6];
        if len >= HEADER + destination.len() {
            self.rx.get(queue, HEADER as u64, &mut destination);
        }
        receive.filter.passes(destination)
    }

    fn transmit(&mut self, queue: &mut ActiveQueue) {
        let mut packet = IoBuffers::new(queue.ram().clone());
        while !self.tx_blocked
            && let Some(chain) = queue.next()
        {
            packet.clear();
            let counters = &self.shared.counters;
            let len = chain.readable_len() as usize;
            let filled = chain.append_readable(&mut packet).is_ok();
            if !self.shared.receive.load().link_up {
                add(&counters.tx_dropped, 1);
            } else if !filled || !(HEADER + 1..=HEADER + MAX_PACKET).contains(&len) {
                add(&counters.tx_errors, 1);
            } else {
                match self.backend.send(&packet) {
                    Ok(()) => {
                        add(&counters.tx_packets, 1);
                        add(&counters.tx_bytes, (len - HEADER) as u64);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.tx_blocked = true;
                        queue.put_back(chain);
                        return;
                    }
                    Err(error) if is_end(&error) => {
                        add(&counters.tx_errors, 1);
                        self.end = Some(error.to_string());
                    }
                    // A header that makes no sense, or the host's link is down.
                    Err(_) => add(&counters.tx_errors, 1),
                }
            }
            queue.complete(chain, 0);
        }
    }

    /// Watch the backend for what can be made use of, and only that; not at all when it is gone.
    fn watch(&mut self, cx: &mut Context<'_, '_>) {
        if let Some(reason) = self.end.take()
            && !self.gone
        {
            cx.unwatch(&Source(self.backend.fd()));
            self.gone = true;
            self.shared.lose(&reason);
            // What waited for the network goes where all goes without one.
            self.tx_blocked = false;
            self.transmit(&mut cx.queues[TX]);
        }
        let mut wanted = EventSet::empty();
        wanted.set(EventSet::IN, !self.rx.starved);
        wanted.set(EventSet::OUT, self.tx_blocked || self.backend.has_unsent());
        if wanted != self.watched && !self.gone {
            self.watched = wanted;
            cx.rewatch(&Source(self.backend.fd()), BACKEND, wanted);
        }
    }
}

impl QueueWorker for PairWorker {
    fn start(&mut self, cx: &mut Context<'_, '_>) {
        self.watched = EventSet::IN;
        cx.watch(&Source(self.backend.fd()), BACKEND, self.watched);
    }

    fn kicked(&mut self, position: usize, cx: &mut Context<'_, '_>) {
        match position {
            RX if self.rx.starved || self.rx.waiting.is_some() => self.receive(&mut cx.queues[RX]),
            RX => {}
            _ => self.transmit(&mut cx.queues[TX]),
        }
        self.watch(cx);
    }

    fn ready(&mut self, _token: u32, events: EventSet, cx: &mut Context<'_, '_>) {
        if events.contains(EventSet::ERROR) {
            // There is nothing to wait for any more.
            self.end = Some("the host took its interface away".to_owned());
            return self.watch(cx);
        }
        if events.contains(EventSet::OUT) {
            self.tx_blocked = false;
            match self.backend.flush() {
                Err(error) if is_end(&error) => self.end = Some(error.to_string()),
                _ => self.transmit(&mut cx.queues[TX]),
            }
        }
        if events.contains(EventSet::IN) {
            self.receive(&mut cx.queues[RX]);
        } else if events.contains(EventSet::HANG_UP) {
            // Packets that may be left have no buffers.
            self.end = Some("the other end has closed the connection".to_owned());
        }
        self.watch(cx);
    }

    fn drain(&mut self, queues: &mut [ActiveQueue]) {
        // Transmitting is synchronous; receive buffers that hold nothing go back as they came.
        while let Some(chain) = self.rx.chains.pop_back() {
            queues[RX].put_back(chain);
        }
    }
}

impl Receiver {
    /// Take buffers until there is room for `needed` bytes (or, without merging, one chain).
    /// Whether there is comes back.
    fn gather(&mut self, queue: &mut ActiveQueue, needed: u64, mergeable: bool) -> bool {
        self.starved = false;
        while self.space.len() < needed && (mergeable || self.chains.is_empty()) {
            let Some(chain) = queue.next() else {
                self.starved = true;
                break;
            };
            if (chain.writable_len() as usize) < HEADER {
                // §5.1.6.3.1: not even the header fits.
                queue.fail(chain, "a receive buffer is shorter than the packet header");
                self.starved = true;
                break;
            }
            // The ranges were checked when the chain was taken.
            let _ = chain.append_writable(&mut self.space);
            self.chains.push_back(chain);
        }
        self.space.len() >= needed
    }

    /// Take the first `count` chains off.
    fn take(&mut self, count: usize) -> Vec<Chain> {
        let taken: Vec<Chain> = self.chains.drain(..count.min(self.chains.len())).collect();
        let len = taken.iter().map(|chain| u64::from(chain.writable_len())).sum();
        self.used_up += taken.iter().map(|chain| chain.writable().len()).sum::<usize>();
        self.space.advance(len);
        if self.used_up >= COMPACT || self.chains.is_empty() {
            self.used_up = 0;
            self.space.clear();
            for chain in &self.chains {
                let _ = chain.append_writable(&mut self.space);
            }
        }
        taken
    }

    /// Write into the buffers at `offset`, however they are cut up.
    fn put(&self, queue: &ActiveQueue, offset: u64, data: &[u8]) {
        self.pieces(offset, data.len(), |gpa, at, len| {
            let _ = queue.ram().write_slice(gpa, &data[at..at + len]);
        });
    }

    /// Read from the buffers at `offset`.
    fn get(&self, queue: &ActiveQueue, offset: u64, data: &mut [u8]) {
        self.pieces(offset, data.len(), |gpa, at, len| {
            let _ = queue.ram().read_slice(gpa, &mut data[at..at + len]);
        });
    }

    fn pieces(&self, offset: u64, len: usize, mut each: impl FnMut(u64, usize, usize)) {
        let (mut skip, mut at) = (offset, 0);
        for &(gpa, size) in self.chains.iter().flat_map(Chain::writable) {
            if at == len {
                return;
            }
            if skip >= size {
                skip -= size;
                continue;
            }
            let part = (size - skip).min((len - at) as u64);
            each(gpa + skip, at, part as usize);
            at += part as usize;
            skip = 0;
        }
    }
}
