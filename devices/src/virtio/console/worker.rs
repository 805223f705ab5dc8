//! [`ConsoleWorker`]: moves the bytes of all ports, and the control messages.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vmm_sys_util::epoll::EventSet;

use super::ports::Ports;
use super::spec::MESSAGE;
use crate::backend::chardev::ConsoleBackend;
use crate::sync::Lock;
use crate::virtio::{ActiveQueue, Chain, Context, QueueWorker};

/// Most that moves at once.
const CHUNK: usize = 4 << 10;
/// Most that one chain may make the device write: far above what drivers send, far below what
/// would keep a shared thread busy. The rest of a longer chain is dropped.
const LONGEST_OUTPUT: usize = 1 << 20;

const WAKE: u32 = 0;

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Input(usize),
    Output(usize),
    ControlInput,
    ControlOutput,
}

pub(super) struct ConsoleWorker {
    pub(super) ports: Arc<Ports>,
    /// By position of the queue.
    pub(super) roles: Vec<Role>,
    pub(super) multiport: bool,
}

impl ConsoleWorker {
    fn serve(&self, role: Role, queue: &mut ActiveQueue) {
        match role {
            Role::Input(port) => self.input(port, queue),
            Role::Output(port) => self.output(port, queue),
            Role::ControlInput => self.send_messages(queue),
            Role::ControlOutput => self.take_messages(queue),
        }
    }

    /// Host to guest: only as much as there are buffers for; the rest waits in the backend.
    fn input(&self, port: usize, queue: &mut ActiveQueue) {
        let Some(Some(config)) = self.ports.ports.get(port) else { return };
        if self.multiport && !self.is_open(port) {
            return;
        }
        let mut chunk = [0; CHUNK];
        while let Some(mut chain) = queue.next() {
            let room = (chain.writable_len() as usize).min(CHUNK);
            let count = config.backend.input(&mut chunk[..room]);
            if count == 0 && room > 0 {
                return queue.put_back(chain);
            }
            // It fits: there is room for all of it.
            let _ = chain.write(&chunk[..count]);
            queue.complete(chain, count as u32);
        }
    }

    fn is_open(&self, port: usize) -> bool {
        self.ports.state.hold().ports.get(port).is_some_and(|port| port.guest_open)
    }

    /// Guest to host: only as much as there is room for; the rest waits in the queue.
    fn output(&self, port: usize, queue: &mut ActiveQueue) {
        let backend = self.ports.ports.get(port).and_then(Option::as_ref).map(|port| &port.backend);
        while let Some(mut chain) = queue.next() {
            if let Some((backend, passed)) = backend.zip(self.ports.passed.get(port)) {
                let before = passed.load(Ordering::Relaxed);
                match pass_on(&mut chain, backend, before) {
                    Ok(()) => passed.store(0, Ordering::Relaxed),
                    Err(far) => {
                        passed.store(far, Ordering::Relaxed);
                        return queue.put_back(chain);
                    }
                }
            }
            queue.complete(chain, 0);
        }
    }

    fn take_messages(&self, queue: &mut ActiveQueue) {
        while let Some(mut chain) = queue.next() {
            let mut message = [0; MESSAGE];
            if chain.read(&mut message) {
                self.ports.control(message);
            }
            queue.complete(chain, 0);
        }
    }

    fn send_messages(&self, queue: &mut ActiveQueue) {
        let mut state = self.ports.state.hold();
        while !state.outbox.is_empty()
            && let Some(mut chain) = queue.next()
        {
            let Some(message) = state.outbox.pop_front() else { return };
            // A buffer that is too short gets what fits, as a driver that offers it deserves.
            let count = message.len().min(chain.writable_len() as usize);
            let _ = chain.write(&message[..count]);
            queue.complete(chain, count as u32);
        }
    }

    fn serve_all(&self, queues: &mut [ActiveQueue], which: impl Fn(Role) -> bool) {
        for (&role, queue) in self.roles.iter().zip(queues) {
            if which(role) {
                self.serve(role, queue);
            }
        }
    }
}

impl QueueWorker for ConsoleWorker {
    fn start(&mut self, cx: &mut Context<'_, '_>) {
        cx.watch(&self.ports.wake, WAKE, EventSet::IN);
        // The host's side may have changed while nobody looked.
        let _ = self.ports.wake.write(1);
    }

    fn kicked(&mut self, position: usize, cx: &mut Context<'_, '_>) {
        let Some(&role) = self.roles.get(position) else { return };
        self.serve(role, &mut cx.queues[position]);
        if role == Role::ControlOutput {
            // Answers, and input that waited for its port to open.
            self.serve_all(cx.queues, |role| role == Role::ControlInput);
            self.serve_all(cx.queues, |role| matches!(role, Role::Input(_)));
        }
    }

    fn ready(&mut self, _token: u32, _events: EventSet, cx: &mut Context<'_, '_>) {
        let _ = self.ports.wake.read();
        self.ports.follow_host();
        self.serve_all(cx.queues, |role| role == Role::ControlInput);
        self.serve_all(cx.queues, |role| matches!(role, Role::Input(_) | Role::Output(_)));
    }
}

/// Pass a chain on from `passed` on. How far it came, when there was no room for all.
fn pass_on(
    chain: &mut Chain,
    backend: &Arc<dyn ConsoleBackend>,
    passed: usize,
) -> Result<(), usize> {
    let len = (chain.readable_len() as usize).min(LONGEST_OUTPUT);
    let mut chunk = [0; CHUNK];
    let mut at = 0;
    while at < len {
        let again = passed.saturating_sub(at);
        let wanted = (len - at).min(CHUNK);
        let count = match again {
            0 => backend.output_room(wanted),
            again => wanted.min(again),
        };
        if count == 0 {
            return Err(at);
        }
        let part = &mut chunk[..count];
        if chain.read(part) && again == 0 {
            backend.output(part);
        }
        at += count;
    }
    Ok(())
}
