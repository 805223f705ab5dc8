//! [`SocketWorker`]: moves packets between the queues and the sockets.

use std::sync::Arc;

use rustix::net::SocketFlags;
use vmm_sys_util::epoll::EventSet;

use super::Sockets;
use super::muxer::{Muxer, Packet, Token};
use super::packet::{Header, LEN};
use crate::limit::warn_limited;
use crate::sync::Lock;
use crate::virtio::vsock::tell_reset;
use crate::virtio::{ActiveQueue, Context, QueueWorker};

/// Positions of the queues.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const EVENTS: usize = 2;

const LISTENER: Token = 0;
/// Data of one packet, at most.
const CHUNK: usize = 64 << 10;

pub(in crate::virtio::vsock) struct SocketWorker {
    sockets: Arc<Sockets>,
    muxer: Muxer,
    chunk: Box<[u8]>,
    /// Tell the driver that its connections are gone.
    announce: bool,
}

impl SocketWorker {
    /// None while another worker has the sockets.
    pub(in crate::virtio::vsock) fn new(sockets: &Arc<Sockets>, announce: bool) -> Option<Self> {
        let muxer = sockets.muxer.hold().take()?;
        let chunk = vec![0; CHUNK].into();
        Some(Self { sockets: sockets.clone(), muxer, chunk, announce })
    }

    /// Guest to host.
    fn transmit(&mut self, queue: &mut ActiveQueue) {
        while self.muxer.takes_packets()
            && let Some(mut chain) = queue.next()
        {
            let mut bytes = [0; LEN];
            if !chain.read(&mut bytes) {
                warn_limited!("a guest sends a vsock packet without a whole header");
                queue.complete(chain, 0);
                continue;
            }
            let header = Header::parse(&bytes);
            if let Some(token) = self.muxer.packet(&header, chain.readable_len()) {
                let mut left = header.len as usize;
                while left > 0 {
                    let part = &mut self.chunk[..left.min(CHUNK)];
                    left -= part.len();
                    if !chain.read(part) {
                        break;
                    }
                    self.muxer.data(token, part);
                }
                self.muxer.flush(token);
            }
            queue.complete(chain, 0);
        }
    }

    /// Host to guest, as far as it has buffers.
    fn receive(&mut self, queue: &mut ActiveQueue) {
        while self.muxer.has_packets()
            && let Some(mut chain) = queue.next()
        {
            let room = (chain.writable_len() as usize).checked_sub(LEN);
            let Some(room) = room.map(|room| room.min(CHUNK)) else {
                queue.fail(chain, "a buffer that holds no packet");
                return;
            };
            let Some(Packet { header, len }) = self.muxer.next(&mut self.chunk[..room]) else {
                return queue.put_back(chain);
            };
            // There is room for both: it was looked at before.
            let _ = chain.write(&header.bytes()) && chain.write(&self.chunk[..len]);
            queue.complete(chain, (LEN + len) as u32);
        }
    }

    fn serve(&mut self, cx: &mut Context<'_, '_>) {
        // Once, as a rule; again when the guest's packets waited for that, as their answers come then.
        loop {
            let was_full = !self.muxer.takes_packets();
            if let Some(queue) = cx.queues.get_mut(RECEIVE) {
                self.receive(queue);
            }
            if !was_full || !self.muxer.takes_packets() {
                break;
            }
            if let Some(queue) = cx.queues.get_mut(TRANSMIT) {
                self.transmit(queue);
            }
        }
        for socket in self.muxer.removed.drain(..) {
            cx.unwatch(&socket);
        }
        for token in std::mem::take(&mut self.muxer.added) {
            if let Some(socket) = self.muxer.socket(token) {
                cx.watch(socket, token, interest());
            }
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&self.sockets.listener, flags) {
            self.muxer.came(socket);
        }
    }
}

/// Once for each change: what is found then is remembered.
fn interest() -> EventSet {
    EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED
}

impl QueueWorker for SocketWorker {
    fn start(&mut self, cx: &mut Context<'_, '_>) {
        let events = EventSet::IN | EventSet::EDGE_TRIGGERED;
        cx.watch(&self.sockets.listener, LISTENER, events);
        // All are told to the event loop here, those that came last as well.
        self.muxer.added.clear();
        for (token, socket) in self.muxer.sockets() {
            cx.watch(socket, token, interest());
        }
        if self.announce
            && let Some(queue) = cx.queues.get_mut(EVENTS)
        {
            tell_reset(queue);
        }
    }

    fn kicked(&mut self, position: usize, cx: &mut Context<'_, '_>) {
        if position == TRANSMIT
            && let Some(queue) = cx.queues.get_mut(TRANSMIT)
        {
            self.transmit(queue);
        }
        self.serve(cx);
    }

    fn ready(&mut self, token: u32, events: EventSet, cx: &mut Context<'_, '_>) {
        if token == LISTENER {
            self.accept();
        } else {
            self.muxer.ready(token, events);
        }
        self.serve(cx);
    }

    fn drain(&mut self, _queues: &mut [ActiveQueue]) {
        let mut muxer = std::mem::replace(&mut self.muxer, Muxer::new(0));
        // The event loop forgot all of them with this worker.
        muxer.removed.clear();
        *self.sockets.muxer.hold() = Some(muxer);
    }
}
