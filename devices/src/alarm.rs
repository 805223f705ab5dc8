//! [`Alarm`]: wakes a device when the time has come that it waits for.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use event_manager::{EventOps, Events, MutEventSubscriber};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use crate::io_thread::{Job, Stop};

/// A device with something to do later.
pub trait Timed: Send + Sync + 'static {
    /// Do what is due; how long to wait for the next, if there is one.
    fn tick(&self) -> Option<Duration>;

    /// Written when that may have changed.
    fn rearm(&self) -> &EventFd;
}

/// Runs on an io thread. A guest that sets no timer never wakes it.
pub struct Alarm<T> {
    device: Arc<T>,
    timer: OwnedFd,
    error: Option<io::Error>,
}

impl<T: Timed> Alarm<T> {
    pub fn new(device: Arc<T>) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { device, timer, error: None })
    }

    fn arm(&self) {
        // An all-zero time switches the timer off, so what is due now is due in a nanosecond.
        let value =
            self.device.tick().map_or(Timespec { tv_sec: 0, tv_nsec: 0 }, |wait| Timespec {
                tv_sec: wait.as_secs() as i64,
                tv_nsec: i64::from(wait.subsec_nanos()).max(1),
            });
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // Setting a valid time on our own timer cannot fail.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
    }
}

impl<T: Timed> MutEventSubscriber for Alarm<T> {
    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        let _ = rustix::io::read(&self.timer, &mut [0u8; 8]);
        let _ = self.device.rearm().read();
        self.arm();
    }

    fn init(&mut self, ops: &mut EventOps) {
        let added = ops
            .add(Events::new(&self.timer, EventSet::IN))
            .and_then(|()| ops.add(Events::new(self.device.rearm(), EventSet::IN)));
        self.error = added.err().map(io::Error::other);
        self.arm();
    }
}

impl<T: Timed> Job for Alarm<T> {
    type Output = ();

    fn init_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn finish(self, _how: Stop) {}
}
