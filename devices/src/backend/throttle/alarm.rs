//! [`Alarm`]: wakes a channel's thread when a request may go, or when one has ended.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

pub(super) struct Alarm {
    /// Readable when the timer or the channel within is.
    both: Epoll,
    timer: OwnedFd,
    watched: Option<RawFd>,
    armed: bool,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let both = Epoll::new()?;
        both.ctl(ControlOperation::Add, timer.as_raw_fd(), input())?;
        Ok(Self { both, timer, watched: None, armed: false })
    }

    pub(super) fn source(&self) -> RawFd {
        self.both.as_raw_fd()
    }

    /// Be readable when `inner` is too, and no longer when an earlier channel's is.
    pub(super) fn watch(&mut self, inner: Option<RawFd>) {
        if let Some(old) = self.watched.take() {
            // Its descriptor may be closed by now, and then it is forgotten already.
            let _ = self.both.ctl(ControlOperation::Delete, old, EpollEvent::default());
        }
        let Some(inner) = inner else { return };
        match self.both.ctl(ControlOperation::Add, inner, input()) {
            Ok(()) => self.watched = Some(inner),
            Err(error) => tracing::error!(%error, "the ends of a disk's requests go unseen"),
        }
    }

    pub(super) fn ring_in(&mut self, time: Duration) {
        // 0 would disarm it.
        let time = time.max(Duration::from_micros(10));
        let it_value = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval: never, it_value };
        match timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once) {
            Ok(_) => self.armed = true,
            Err(error) => tracing::error!(%error, "a disk's limits cannot be timed"),
        }
    }

    /// Whether it is time, once for each time it is set. One that could not be set has rung.
    pub(super) fn has_rung(&mut self) -> bool {
        if self.armed {
            let mut expirations = [0; 8];
            self.armed = rustix::io::read(&self.timer, &mut expirations).is_err();
        }
        !self.armed
    }
}

fn input() -> EpollEvent {
    EpollEvent::new(EventSet::IN, 0)
}
