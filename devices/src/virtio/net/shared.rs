//! [`Shared`]: what the device, its workers and the rest of the machine know in common.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use super::filter::{Filter, Mac};
use super::spec::{STATUS_ANNOUNCE, STATUS_LINK_UP};
use crate::limit::warn_limited;
use crate::sync::Lock;
use crate::virtio::Notify;

/// Hears a reason.
type Tell = Box<dyn Fn(&str) + Send + Sync>;

pub(super) struct Shared {
    pub(super) mac: Mac,
    pub(super) state: Mutex<State>,
    /// Read for every packet; follows `state.filter` and the link.
    pub(super) receive: ArcSwap<Receive>,
    pub(super) counters: Counters,
    notify: OnceLock<Arc<dyn Notify>>,
    /// There is no network any more, whether the cable is plugged in or not.
    lost: AtomicBool,
    on_lost: OnceLock<Tell>,
    /// Signalled when the link changes: of pairs that the kernel serves.
    link_watchers: Mutex<Vec<Arc<EventFd>>>,
}

/// What decides on received packets.
pub(super) struct Receive {
    pub(super) link_up: bool,
    pub(super) filter: Filter,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) link_up: bool,
    pub(super) announce: bool,
    pub(super) filter: Filter,
    /// Queue pairs that the driver uses.
    pub(super) pairs: u16,
    /// Offloads that the driver chose by command; else those it negotiated.
    pub(super) offloads: Option<u64>,
    /// The driver still uses this address, which belongs to the machine that this one was cloned from:
    /// nothing passes until it has taken its own, or the network would see the other one twice.
    pub(super) foreign: Option<Mac>,
}

impl State {
    /// As after reset. The link is the machine's business: it stays.
    pub(super) fn new(mac: Mac, link_up: bool) -> Self {
        let filter = Filter::new(mac);
        Self { link_up, announce: false, filter, pairs: 1, offloads: None, foreign: None }
    }

    fn carries(&self) -> bool {
        self.link_up && self.foreign.is_none()
    }

    pub(super) fn status(&self) -> u16 {
        let link = if self.carries() { STATUS_LINK_UP } else { 0 };
        let announce = if self.announce { STATUS_ANNOUNCE } else { 0 };
        link | announce
    }
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) rx_packets: AtomicU64,
    pub(super) rx_bytes: AtomicU64,
    pub(super) rx_dropped: AtomicU64,
    pub(super) rx_errors: AtomicU64,
    pub(super) tx_packets: AtomicU64,
    pub(super) tx_bytes: AtomicU64,
    pub(super) tx_dropped: AtomicU64,
    pub(super) tx_errors: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Traffic since the machine was made, as the guest sees directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetStats {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    /// Not meant for the guest, or the link was down.
    pub rx_dropped: u64,
    pub rx_errors: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_dropped: u64,
    pub tx_errors: u64,
}

impl Shared {
    pub(super) fn new(mac: Mac, link_up: bool) -> Self {
        let state = State::new(mac, link_up);
        let receive = Receive { link_up, filter: state.filter.clone() };
        Self {
            mac,
            state: Mutex::new(state),
            receive: ArcSwap::from_pointee(receive),
            counters: Counters::default(),
            notify: OnceLock::new(),
            lost: AtomicBool::new(false),
            on_lost: OnceLock::new(),
            link_watchers: Mutex::default(),
        }
    }

    pub(super) fn connect(&self, notify: Arc<dyn Notify>) {
        let _ = self.notify.set(notify);
    }

    /// Change the state; workers see it from their next packet on.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.hold();
        let result = change(&mut state);
        let link_up = state.carries() && !self.is_lost();
        let receive = Receive { link_up, filter: state.filter.clone() };
        self.receive.store(Arc::new(receive));
        result
    }

    /// The driver chose an address. If it is not the one that it must not use, its link comes up.
    pub(super) fn choose(&self, mac: Mac) {
        let own = self.change(|state| {
            state.filter.mac = mac;
            state.foreign.take_if(|foreign| *foreign != mac).is_some()
        });
        if own {
            self.link_changed();
        }
    }

    fn link_changed(&self) {
        for watcher in self.link_watchers.hold().iter() {
            // Full only if it is signalled already.
            let _ = watcher.write(1);
        }
        self.config_changed();
    }

    pub(super) fn watch_link(&self, watcher: Arc<EventFd>) {
        self.link_watchers.hold().push(watcher);
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether the guest's packets pass.
    pub(super) fn has_link(&self) -> bool {
        self.receive.load().link_up
    }

    /// What the driver reads.
    pub(super) fn status(&self) -> u16 {
        let status = self.state.hold().status();
        if self.is_lost() { status & !STATUS_LINK_UP } else { status }
    }

    /// The network is gone for good: as if the cable were pulled, and those who care are told.
    pub(super) fn lose(&self, reason: &str) {
        if self.lost.swap(true, Ordering::Relaxed) {
            return;
        }
        warn_limited!("a network interface has no network any more: {reason}");
        self.change(|_| ());
        self.config_changed();
        if let Some(tell) = self.on_lost.get() {
            tell(reason);
        }
    }

    fn config_changed(&self) {
        if let Some(notify) = self.notify.get() {
            notify.config_changed();
        }
    }
}

/// The machine's handle on a running network device.
#[derive(Clone)]
pub struct NetHandle(pub(super) Arc<Shared>);

impl NetHandle {
    /// Plug the cable in, or pull it.
    pub fn set_link(&self, up: bool) {
        if self.0.change(|state| std::mem::replace(&mut state.link_up, up)) != up {
            self.0.link_changed();
        }
    }

    /// Who hears why the network is gone for good, should it be.
    pub fn on_lost(&self, tell: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.0.on_lost.set(Box::new(tell));
    }

    #[must_use]
    pub fn link_is_up(&self) -> bool {
        self.0.state.hold().link_up
    }

    /// Ask the driver to announce itself to the network, as after a move to another host.
    pub fn announce(&self) {
        self.0.change(|state| state.announce = true);
        self.0.config_changed();
    }

    /// The address the driver uses now: a guest may change it.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.0.state.hold().filter.mac
    }

    #[must_use]
    pub fn stats(&self) -> NetStats {
        let it = &self.0.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NetStats {
            rx_packets: get(&it.rx_packets),
            rx_bytes: get(&it.rx_bytes),
            rx_dropped: get(&it.rx_dropped),
            rx_errors: get(&it.rx_errors),
            tx_packets: get(&it.tx_packets),
            tx_bytes: get(&it.tx_bytes),
            tx_dropped: get(&it.tx_dropped),
            tx_errors: get(&it.tx_errors),
        }
    }
}
