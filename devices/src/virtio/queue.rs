//! [`Queue`]: the device's side of one split virtqueue (virtio 1.2 §2.7), hardened.
//!
//! The configuration is fixed when the queue is made. The guest can write anything into the rings;
//! whatever breaks the rules makes the queue *broken*: it yields nothing more until the driver
//! resets the device. Chains come out owned, checked once, and copied from the descriptor table,
//! so a guest that rewrites descriptors afterwards changes nothing.

use std::sync::atomic::{Ordering, fence};

use memory::GuestRam;
use serde::{Deserialize, Serialize};
use virtio_queue::QueueOwnedT;
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress};

use super::chain::{BadChain, Chain, Limits};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

/// What the driver set up before it enabled the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueConfig {
    pub size: u16,
    pub enabled: bool,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

/// How far a queue has come: all there is to hand back when nothing is in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueProgress {
    pub next_available: u16,
    pub next_used: u16,
}

/// Features that change how rings and chains are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingFeatures {
    pub event_idx: bool,
    pub indirect: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("queue size {size} is not a power of two up to {max}")]
    Size { size: u16, max: u16 },
    #[error("{ring} at {gpa:#x} is not in guest memory or not aligned")]
    Ring { ring: &'static str, gpa: u64 },
    #[error("available index ran more than a queue size ahead")]
    AvailableIndex,
    #[error("head {head} is beyond the queue")]
    Head { head: u16 },
    #[error("head {head} was made available again while in flight")]
    Duplicate { head: u16 },
    #[error("chain {head}: {reason}")]
    Chain { head: u16, reason: BadChain },
    #[error("rings are no longer accessible")]
    Inaccessible,
    #[error("request {head} makes no sense: {reason}")]
    Request { head: u16, reason: &'static str },
}

/// The device's side of one virtqueue.
pub struct Queue {
    ring: virtio_queue::Queue,
    ram: GuestRam,
    limits: Limits,
    event_idx: bool,
    /// One flag per head that is with the device.
    in_flight: Box<[bool]>,
    in_flight_count: u16,
    /// Heads that were taken before the machine was saved, and come again before all others.
    owed: Vec<u16>,
    /// Used elements written since the driver was last considered for a notification.
    unannounced: bool,
    /// Used index when it was.
    announced: u16,
    broken: Option<QueueError>,
    /// Finished chains, kept for their vectors.
    spare: Vec<Chain>,
}

impl Queue {
    /// A queue over `ram` that goes on at `progress`.
    ///
    /// `max_size` is the size the device offered: the longest chain an indirect table may hold.
    ///
    /// # Errors
    /// When the driver's configuration is not one a queue can work with.
    pub fn new(
        ram: GuestRam,
        config: &QueueConfig,
        max_size: u16,
        features: RingFeatures,
        progress: QueueProgress,
    ) -> Result<Self, QueueError> {
        let size = config.size;
        let bad_size = || QueueError::Size { size, max: max_size };
        let mut ring = virtio_queue::Queue::new(max_size).map_err(|_| bad_size())?;
        ring.try_set_size(size).map_err(|_| bad_size())?;
        let is_ram = |gpa, len| ram.contains(gpa, len);
        check_ring(is_ram, "descriptor table", config.descriptors, 16 * u64::from(size), 16)?;
        check_ring(is_ram, "available ring", config.available, 6 + 2 * u64::from(size), 2)?;
        check_ring(is_ram, "used ring", config.used, 6 + 8 * u64::from(size), 4)?;
        let misplaced = |_| QueueError::Inaccessible;
        ring.try_set_desc_table_address(GuestAddress(config.descriptors)).map_err(misplaced)?;
        ring.try_set_avail_ring_address(GuestAddress(config.available)).map_err(misplaced)?;
        ring.try_set_used_ring_address(GuestAddress(config.used)).map_err(misplaced)?;
        ring.set_event_idx(features.event_idx);
        ring.set_next_avail(progress.next_available);
        ring.set_next_used(progress.next_used);
        ring.set_ready(true);
        let limits = Limits {
            table: config.descriptors,
            direct: size,
            indirect: features.indirect.then_some(max_size),
        };
        Ok(Self {
            ring,
            ram,
            limits,
            event_idx: features.event_idx,
            in_flight: vec![false; usize::from(size)].into_boxed_slice(),
            in_flight_count: 0,
            owed: Vec::new(),
            unannounced: false,
            announced: progress.next_used,
            broken: None,
            spare: Vec::new(),
        })
    }

    /// With chains that the driver still waits for, although they lie behind the ring's position.
    #[must_use]
    pub fn owing(self, mut heads: Vec<u16>) -> Self {
        // They are taken from the end.
        heads.reverse();
        Self { owed: heads, ..self }
    }

    /// Heads of chains that are taken and not completed, those that are still owed among them.
    #[must_use]
    pub fn open_heads(&self) -> Vec<u16> {
        let taken = (0..).zip(&self.in_flight).filter_map(|(head, taken)| taken.then_some(head));
        taken.chain(self.owed.iter().copied()).collect()
    }

    #[must_use]
    pub fn size(&self) -> u16 {
        self.ring.size()
    }

    #[must_use]
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Chains popped and not yet completed.
    #[must_use]
    pub fn in_flight(&self) -> u16 {
        self.in_flight_count
    }

    /// Why the queue yields nothing more, if so.
    #[must_use]
    pub fn broken(&self) -> Option<&QueueError> {
        self.broken.as_ref()
    }

    /// Mark the queue broken because a request in it cannot even be answered.
    pub fn fail(&mut self, head: u16, reason: &'static str) {
        self.break_with(QueueError::Request { head, reason });
    }

    #[must_use]
    pub fn progress(&self) -> QueueProgress {
        QueueProgress { next_available: self.ring.next_avail(), next_used: self.ring.next_used() }
    }

    /// Size and place of the rings, for a backend that serves them itself.
    #[must_use]
    pub fn rings(&self) -> QueueConfig {
        QueueConfig {
            size: self.ring.size(),
            enabled: true,
            descriptors: self.ring.desc_table(),
            available: self.ring.avail_ring(),
            used: self.ring.used_ring(),
        }
    }

    /// The used index as it stands in the ring.
    #[must_use]
    pub fn used_index(&self) -> u16 {
        let at = GuestAddress(self.ring.used_ring() + 2);
        let index = self.ram.view().load::<u16>(at, Ordering::Acquire).map(u16::from_le);
        // The ring was checked to be RAM.
        index.unwrap_or_else(|_| self.ring.next_used())
    }

    /// The next available chain. `None` when there is none, or the queue is (now) broken.
    pub fn pop(&mut self) -> Option<Chain> {
        if self.broken.is_some() {
            return None;
        }
        let head = match self.owed.pop() {
            Some(head) => head,
            None => self.next_head()?,
        };
        match self.in_flight.get_mut(usize::from(head)) {
            None => {
                self.break_with(QueueError::Head { head });
                return None;
            }
            Some(true) => {
                self.break_with(QueueError::Duplicate { head });
                return None;
            }
            Some(flag) => *flag = true,
        }
        self.in_flight_count += 1;
        let mut chain = self.spare.pop().unwrap_or_else(|| Chain::new(self.ram.clone()));
        match chain.load(head, &self.limits) {
            Ok(()) => Some(chain),
            Err(reason) => {
                self.release(chain);
                self.break_with(QueueError::Chain { head, reason });
                None
            }
        }
    }

    fn next_head(&mut self) -> Option<u16> {
        match self.ring.iter(self.ram.view()) {
            Ok(mut available) => return Some(available.next()?.head_index()),
            Err(virtio_queue::Error::InvalidAvailRingIndex) => {
                self.break_with(QueueError::AvailableIndex);
            }
            Err(_) => self.break_with(QueueError::Inaccessible),
        }
        None
    }

    /// Undo the latest [`pop`](Self::pop): the chain will come again. For devices that find they
    /// cannot use it yet, in the reverse order of popping. Those that keep chains, and so may be owed
    /// some, use all that they take.
    pub fn put_back(&mut self, chain: Chain) {
        self.ring.go_to_previous_position();
        self.release(chain);
    }

    /// Give a chain back to the driver, `written` bytes of its writable part filled.
    pub fn complete(&mut self, chain: Chain, written: u32) {
        self.complete_together([(chain, written)]);
    }

    /// Give several chains back so that the driver sees all of them or none: the buffers of one
    /// packet (virtio 1.2 §5.1.6.4).
    pub fn complete_together(&mut self, chains: impl IntoIterator<Item = (Chain, u32)>) {
        let mut next = self.ring.next_used();
        for (chain, written) in chains {
            let head = chain.head();
            self.release(chain);
            let slot = slot(next, self.ring.size());
            let mut element = [0; 8];
            element[..4].copy_from_slice(&u32::from(head).to_le_bytes());
            element[4..].copy_from_slice(&written.to_le_bytes());
            if self.ram.write_slice(self.ring.used_ring() + 4 + 8 * slot, &element).is_err() {
                self.break_with(QueueError::Inaccessible);
            }
            next = next.wrapping_add(1);
        }
        if self.broken.is_some() || next == self.ring.next_used() {
            return;
        }
        self.ring.set_next_used(next);
        self.unannounced = true;
        // Release: the elements, and the data they tell of, are visible before the index is.
        let index = GuestAddress(self.ring.used_ring() + 2);
        if self.ram.view().store(next.to_le(), index, Ordering::Release).is_err() {
            self.break_with(QueueError::Inaccessible);
        }
    }

    /// Take a chain out of flight without telling the driver: it has reset the device.
    pub fn discard(&mut self, chain: Chain) {
        self.release(chain);
    }

    /// Whether the driver wants to hear of what was completed since the last call.
    pub fn should_notify(&mut self) -> bool {
        if !std::mem::take(&mut self.unannounced) || self.broken.is_some() {
            return false;
        }
        let view = self.ram.view();
        let available = self.ring.avail_ring();
        // The used index must be visible before the driver's wish is read, else both sides may wait.
        fence(Ordering::SeqCst);
        let wish = |gpa| view.load::<u16>(GuestAddress(gpa), Ordering::Relaxed).map(u16::from_le);
        let wanted = if self.event_idx {
            // §2.7.7.2: the driver waits for the element `used_event`; was it among the new ones?
            let (old, new) = (self.announced, self.ring.next_used());
            self.announced = new;
            let used_event = wish(available + 4 + 2 * u64::from(self.ring.size()));
            used_event.map(|event| is_awaited(event, old, new))
        } else {
            wish(available).map(|flags| flags & NO_INTERRUPT == 0)
        };
        wanted.unwrap_or(true)
    }

    /// Ask the driver not to kick (a hint).
    pub fn disable_kicks(&mut self) {
        if self.broken.is_none() && self.ring.disable_notification(self.ram.view()).is_err() {
            self.break_with(QueueError::Inaccessible);
        }
    }

    /// Ask the driver to kick again. True when chains arrived meanwhile, whose kick may never come.
    #[must_use]
    pub fn enable_kicks(&mut self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        match self.ring.enable_notification(self.ram.view()) {
            Ok(more) => more,
            Err(_) => {
                self.break_with(QueueError::Inaccessible);
                false
            }
        }
    }

    fn release(&mut self, chain: Chain) {
        if let Some(flag) = self.in_flight.get_mut(usize::from(chain.head()))
            && std::mem::take(flag)
        {
            self.in_flight_count -= 1;
        }
        self.spare.push(chain);
    }

    fn break_with(&mut self, error: QueueError) {
        // The first reason is the one that explains; later ones are its consequences.
        self.broken.get_or_insert(error);
    }
}

/// VIRTQ_AVAIL_F_NO_INTERRUPT
const NO_INTERRUPT: u16 = 1;

/// Whether `event`, which the driver awaits, is among the elements from `old` up to before `new`.
fn is_awaited(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// Where a ring of `size` entries, a power of two, has the one with this running number.
fn slot(number: u16, size: u16) -> u64 {
    u64::from(number % size)
}

fn check_ring(
    is_ram: impl FnOnce(u64, u64) -> bool,
    ring: &'static str,
    gpa: u64,
    len: u64,
    align: u64,
) -> Result<(), QueueError> {
    if !gpa.is_multiple_of(align) || !is_ram(gpa, len) {
        return Err(QueueError::Ring { ring, gpa });
    }
    Ok(())
}
