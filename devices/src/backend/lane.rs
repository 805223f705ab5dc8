//! [`Lane`]: the requests of one user of a disk, each with what it belongs to: given a token,
//! and counted.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use memory::{GuestRam, IoBuffers};

use super::disk::{Action, Channel, Disk, Finished, Request};
use super::stats::BlockStats;
use super::times::Times;

/// What is known of one disk, all its users together.
#[derive(Default)]
pub struct Meter {
    pub stats: BlockStats,
}

impl Meter {
    /// A request that made no sense.
    pub fn refuse(&self) {
        self.stats.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self, action: Action, len: u64) {
        let stats = &self.stats;
        match action {
            Action::Read => BlockStats::count(&stats.read_requests, &stats.read_bytes, len),
            Action::Write { .. } => {
                BlockStats::count(&stats.write_requests, &stats.write_bytes, len);
            }
            Action::Flush => _ = stats.flush_requests.fetch_add(1, Ordering::Relaxed),
            Action::Discard { len } | Action::Zero { len, .. } => {
                BlockStats::count(&stats.unmap_requests, &stats.unmap_bytes, len);
            }
        }
    }
}

struct Flight<T> {
    action: Action,
    len: u64,
    owner: T,
}

/// A channel of a disk, and who waits for what on it.
pub struct Lane<T> {
    ram: GuestRam,
    meter: Arc<Meter>,
    times: Times,
    channel: Box<dyn Channel>,
    flights: Vec<Option<Flight<T>>>,
    free: Vec<u16>,
    /// Came while all tokens were taken. As many as its users have requests.
    waiting: VecDeque<(Request, T)>,
    /// Empty buffer lists, kept for their allocations.
    spare: Vec<IoBuffers>,
}

impl<T> Lane<T> {
    /// # Errors
    /// What the host refused.
    pub fn new(disk: &dyn Disk, meter: Arc<Meter>, ram: GuestRam, depth: u16) -> io::Result<Self> {
        Ok(Self {
            ram,
            meter,
            times: Times::default(),
            channel: disk.channel(depth)?,
            flights: (0..depth).map(|_| None).collect(),
            free: (0..depth).rev().collect(),
            waiting: VecDeque::new(),
            spare: Vec::new(),
        })
    }

    /// An empty list, to be filled for a request.
    pub fn buffers(&mut self) -> IoBuffers {
        self.spare.pop().unwrap_or_else(|| IoBuffers::new(self.ram.clone()))
    }

    /// Begin a request; [`finished`](Self::finished) gives `owner` back.
    pub fn start(&mut self, request: Request, owner: T) {
        match self.free.pop() {
            Some(token) => self.launch(token, request, owner),
            None => self.waiting.push_back((request, owner)),
        }
    }

    fn launch(&mut self, token: u16, request: Request, owner: T) {
        let Some(place) = self.flights.get_mut(usize::from(token)) else { return };
        *place = Some(Flight { action: request.action, len: request.buffers.len(), owner });
        self.times.begin(request.action, &self.meter.stats);
        self.channel.start(token, request);
    }

    /// Hand what was started to the host: once per batch.
    pub fn submit(&mut self) {
        self.times.submitted();
        self.channel.submit();
    }

    /// The next request that has ended, as the guest shall see it.
    pub fn finished(&mut self) -> Option<(T, io::Result<()>)> {
        loop {
            let Some(Finished { token, result, mut buffers }) = self.channel.finished() else {
                self.times.looked();
                return None;
            };
            buffers.clear();
            self.spare.push(buffers);
            let place = self.flights.get_mut(usize::from(token));
            let Some(Flight { action, len, owner }) = place.and_then(Option::take) else {
                continue;
            };
            self.times.end(action, &self.meter.stats);
            match self.waiting.pop_front() {
                Some((request, owner)) => {
                    self.launch(token, request, owner);
                    self.submit();
                }
                None => self.free.push(token),
            }
            if result.is_ok() {
                self.meter.count(action, len);
            }
            return Some((owner, result));
        }
    }

    /// Whoever waits for something.
    pub fn owners(&mut self) -> impl Iterator<Item = &mut T> {
        let flights = self.flights.iter_mut().flatten().map(|flight| &mut flight.owner);
        flights.chain(self.waiting.iter_mut().map(|(_, owner)| owner))
    }

    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.free.len() == self.flights.len()
    }

    /// Nothing is in flight: what is not answered waits to be retried, or behind what does.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.free.len() + self.channel.kept() == self.flights.len()
    }

    /// Requests that the host failed wait to be retried.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.channel.kept() > 0
    }

    /// Start all that are kept once more. Whoever has the lane looks what has ended.
    pub fn retry(&mut self) {
        self.channel.retry();
    }

    /// All that are kept end with the errors that they had.
    pub fn give_up(&mut self) {
        self.channel.give_up();
    }

    /// Whoever has the lane goes on after a pause: the disk may be another by now.
    pub fn renew(&mut self) {
        self.channel.renew();
    }

    /// Readable when something has ended; `None` when requests end within [`start`](Self::start).
    #[must_use]
    pub fn source(&self) -> Option<RawFd> {
        self.channel.source()
    }

    /// Block until something has ended, if anything is in flight.
    pub fn wait(&mut self) {
        self.submit();
        self.channel.wait();
    }
}
