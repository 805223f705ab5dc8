//! [`Chardev`]: the shared middle between a device and its host-side clients.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::OptionalActions;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::backend::chardev::log::Log;
use crate::backend::chardev::ring::Ring;
use crate::backend::chardev::worker::{ChardevWorker, Client, Direction};
use crate::backend::chardev::{ConsoleBackend, InputListener};
use crate::sync::Lock;

/// Output that is kept for clients to come, and for those that are slow.
const HISTORY: usize = 64 << 10;
/// Input that waits for the guest. Writers wait beyond it.
const INPUT_LIMIT: usize = 4 << 10;

/// Names an attached client, for [`Chardev::detach`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub(super) u32);

/// A character device. Its clients are served by a [`ChardevWorker`] on an io thread.
pub struct Chardev {
    name: String,
    /// Its clients miss nothing: the guest waits for the slowest.
    pub(super) lossless: bool,
    pub(super) wake: EventFd,
    pub(super) shared: Mutex<Shared>,
    /// Clients that make it count as connected.
    pub(super) connections: AtomicUsize,
    pub(super) lost: AtomicU64,
    next_client: AtomicUsize,
    guest_open: AtomicBool,
    on_guest_open: OnceLock<Box<dyn Fn(bool) + Send + Sync>>,
}

pub(super) struct Shared {
    pub(super) ring: Ring,
    pub(super) input: VecDeque<u8>,
    /// The worker has nothing to do and wants to be woken.
    pub(super) asleep: bool,
    /// The worker has stopped reading, for want of room.
    pub(super) input_blocked: bool,
    pub(super) commands: Vec<Command>,
    /// Clients that are there or about to be, by what they are reached through.
    pub(super) attached: BTreeMap<ClientId, Weak<OwnedFd>>,
    /// Clients that came through a listener.
    pub(super) callers: usize,
    /// Of a channel: how far its slowest client has read; none while there is no client.
    pub(super) slowest: Option<u64>,
    /// The device waits for room for its output.
    pub(super) output_blocked: bool,
    listener: Option<Weak<dyn InputListener>>,
}

pub(super) enum Command {
    Attach(ClientId, Client),
    Detach(ClientId),
    Listen(ClientId, OwnedFd),
}

impl Chardev {
    /// A device without clients: output goes to the history.
    pub fn new(name: &str) -> io::Result<Arc<Self>> {
        Self::build(name, false)
    }

    /// One whose clients miss nothing of what the guest says while they are there.
    pub fn lossless(name: &str) -> io::Result<Arc<Self>> {
        Self::build(name, true)
    }

    fn build(name: &str, lossless: bool) -> io::Result<Arc<Self>> {
        let shared = Shared {
            ring: Ring::new(HISTORY),
            input: VecDeque::new(),
            asleep: true,
            input_blocked: false,
            commands: Vec::new(),
            attached: BTreeMap::new(),
            callers: 0,
            slowest: None,
            output_blocked: false,
            listener: None,
        };
        Ok(Arc::new(Self {
            name: name.to_owned(),
            lossless,
            wake: EventFd::new(EFD_NONBLOCK)?,
            shared: Mutex::new(shared),
            connections: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            // 0 is the worker's own event.
            next_client: AtomicUsize::new(1),
            guest_open: AtomicBool::new(false),
            on_guest_open: OnceLock::new(),
        }))
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What serves the clients: add it to an io thread.
    #[must_use]
    pub fn worker(self: &Arc<Self>) -> ChardevWorker {
        ChardevWorker::new(self.clone())
    }

    /// Attach a two-way stream (a connected socket). It is let go when its peer closes.
    /// `replay`: begin with the history.
    pub fn attach(&self, stream: OwnedFd, replay: bool) -> io::Result<ClientId> {
        set_nonblocking(&stream)?;
        Ok(self.add(stream, None, Direction::Both, replay))
    }

    /// Attach a two-way stream that talks to the guest alone: who came through a listener is let
    /// go, and nobody is let in there meanwhile. What the guest did not read when it ends is
    /// forgotten: a question that nobody waits for any more must not be answered later.
    pub fn attach_alone(&self, stream: OwnedFd, replay: bool) -> io::Result<ClientId> {
        set_nonblocking(&stream)?;
        Ok(self.add(stream, None, Direction::Alone, replay))
    }

    /// Attach both sides of a pseudoterminal, which is made raw: an echo of the guest's output would
    /// come back as its input. It stays, whether or not somebody has it open: without an open `slave`
    /// the master would report a hang-up at all times.
    pub fn attach_pty(&self, master: OwnedFd, slave: OwnedFd) -> io::Result<ClientId> {
        let mut mode = rustix::termios::tcgetattr(&slave)?;
        mode.make_raw();
        rustix::termios::tcsetattr(&slave, OptionalActions::Now, &mode)?;
        set_nonblocking(&master)?;
        Ok(self.add(master, Some(slave), Direction::Both, true))
    }

    /// Attach a listening stream socket. Who connects becomes a client without history; one at a
    /// time, the next one waits until it has gone. Cannot be detached.
    pub fn attach_listener(&self, listener: OwnedFd) -> io::Result<()> {
        set_nonblocking(&listener)?;
        let id = self.next_id();
        let mut shared = self.shared.hold();
        shared.commands.push(Command::Listen(id, listener));
        self.wake(&mut shared);
        Ok(())
    }

    /// Attach a log file: when it has grown large, its contents go to the `older` ones, newest first.
    pub fn attach_log(&self, file: OwnedFd, older: Vec<OwnedFd>) -> io::Result<ClientId> {
        let log = Log::new(file, older)?;
        let id = self.next_id();
        let mut shared = self.shared.hold();
        let client = Client::log(log, shared.ring.tail());
        shared.commands.push(Command::Attach(id, client));
        self.wake(&mut shared);
        Ok(id)
    }

    /// Attach where output goes to (standard output).
    pub fn attach_output(&self, sink: OwnedFd) -> io::Result<ClientId> {
        set_nonblocking(&sink)?;
        Ok(self.add(sink, None, Direction::Output, true))
    }

    /// Attach where input comes from (standard input).
    pub fn attach_input(&self, source: OwnedFd) -> io::Result<ClientId> {
        set_nonblocking(&source)?;
        Ok(self.add(source, None, Direction::Input, false))
    }

    fn add(&self, fd: OwnedFd, peer: Option<OwnedFd>, way: Direction, replay: bool) -> ClientId {
        let id = self.next_id();
        let mut shared = self.shared.hold();
        let position = if replay { shared.ring.tail() } else { shared.ring.head() };
        let fd = Arc::new(fd);
        shared.attached.insert(id, Arc::downgrade(&fd));
        let client = Client::new(fd, peer, way, position);
        if client.is_waited_for() {
            // From now on, and not from when the worker comes to it.
            shared.slowest = Some(shared.slowest.map_or(position, |other| other.min(position)));
        }
        shared.commands.push(Command::Attach(id, client));
        self.wake(&mut shared);
        id
    }

    pub(super) fn next_id(&self) -> ClientId {
        ClientId(self.next_client.fetch_add(1, Ordering::Relaxed) as u32)
    }

    /// Let a client go, if it is still there.
    pub fn detach(&self, client: ClientId) {
        let mut shared = self.shared.hold();
        shared.commands.push(Command::Detach(client));
        self.wake(&mut shared);
    }

    /// Whether a client is still there: neither detached nor gone by itself, also when the worker
    /// has not come to notice yet.
    #[must_use]
    pub fn is_attached(&self, client: ClientId) -> bool {
        let fd = self.shared.hold().attached.get(&client).and_then(Weak::upgrade);
        fd.is_some_and(|fd| !hung_up(&fd))
    }

    /// Whether somebody is there who came through a listener.
    #[must_use]
    pub fn has_caller(&self) -> bool {
        self.shared.hold().callers > 0
    }

    /// The last output of the guest, at most 64 KiB.
    #[must_use]
    pub fn history(&self) -> Vec<u8> {
        let shared = self.shared.hold();
        let mut data = vec![0; HISTORY];
        let count = shared.ring.read(shared.ring.tail(), &mut data);
        data.truncate(count);
        data
    }

    /// Bytes of output that clients lost because they were too slow.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether the guest has its side open, where it can tell.
    #[must_use]
    pub fn is_guest_open(&self) -> bool {
        self.guest_open.load(Ordering::Relaxed)
    }

    /// Called on a device thread when the guest opens or closes its side. Only the first call counts.
    pub fn on_guest_open(&self, call: impl Fn(bool) + Send + Sync + 'static) {
        let _ = self.on_guest_open.set(Box::new(call));
    }

    /// Queue input as if a client had sent it; how much there was room for comes back.
    pub fn inject(&self, data: &[u8]) -> usize {
        let mut shared = self.shared.hold();
        let count = data.len().min(shared.input_room());
        shared.input.extend(&data[..count]);
        drop(shared);
        self.tell(|listener| listener.input_available());
        count
    }

    /// Call the listener, with nothing locked.
    pub(super) fn tell(&self, call: impl FnOnce(&dyn InputListener)) {
        let listener = self.shared.hold().listener.clone();
        if let Some(listener) = listener.and_then(|listener| listener.upgrade()) {
            call(&*listener);
        }
    }

    fn wake(&self, shared: &mut Shared) {
        if std::mem::take(&mut shared.asleep) {
            // A full eventfd wakes just as well.
            let _ = self.wake.write(1);
        }
    }
}

impl Shared {
    /// Room for output that no client of a channel misses.
    pub(super) fn output_room(&self) -> usize {
        let behind = self.slowest.map_or(0, |slowest| self.ring.head().saturating_sub(slowest));
        HISTORY.saturating_sub(usize::try_from(behind).unwrap_or(usize::MAX))
    }

    pub(super) fn input_room(&self) -> usize {
        INPUT_LIMIT.saturating_sub(self.input.len())
    }
}

impl ConsoleBackend for Chardev {
    fn output(&self, data: &[u8]) {
        let mut shared = self.shared.hold();
        shared.ring.push(data);
        self.wake(&mut shared);
    }

    fn output_room(&self, wanted: usize) -> usize {
        if !self.lossless {
            return wanted;
        }
        let mut shared = self.shared.hold();
        let room = shared.output_room();
        shared.output_blocked |= room < wanted;
        room.min(wanted)
    }

    fn input(&self, data: &mut [u8]) -> usize {
        let mut shared = self.shared.hold();
        let count = data.len().min(shared.input.len());
        for (slot, byte) in data.iter_mut().zip(shared.input.drain(..count)) {
            *slot = byte;
        }
        if shared.input_blocked && shared.input_room() > 0 {
            shared.input_blocked = false;
            self.wake(&mut shared);
        }
        count
    }

    fn listen(&self, listener: Weak<dyn InputListener>) {
        self.shared.hold().listener = Some(listener);
    }

    fn is_connected(&self) -> bool {
        self.connections.load(Ordering::Relaxed) > 0
    }

    fn guest_opened(&self, open: bool) {
        if self.guest_open.swap(open, Ordering::Relaxed) != open
            && let Some(call) = self.on_guest_open.get()
        {
            call(open);
        }
    }
}

fn hung_up(fd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec::default())).is_ok()
        && polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

fn set_nonblocking(fd: &impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}
