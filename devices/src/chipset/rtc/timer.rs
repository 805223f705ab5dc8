//! [`RtcTimer`]: wakes the clock when an interrupt that the guest enabled is due.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use event_manager::{EventOps, Events, MutEventSubscriber};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use vmm_sys_util::epoll::EventSet;

use crate::chipset::Rtc;
use crate::io_thread::{Job, Stop};

/// Runs on an io thread. A guest that enables no clock interrupt never wakes it.
pub struct RtcTimer {
    rtc: Arc<Rtc>,
    timer: OwnedFd,
    error: Option<io::Error>,
}

impl RtcTimer {
    pub fn new(rtc: Arc<Rtc>) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { rtc, timer, error: None })
    }

    fn arm(&self) {
        // An all-zero time switches the timer off, so what is due now is due in a nanosecond.
        let value = self.rtc.tick().map_or(Timespec { tv_sec: 0, tv_nsec: 0 }, |wait| Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: i64::from(wait.subsec_nanos()).max(1),
        });
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // Setting a valid time on our own timer cannot fail.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
    }
}

impl MutEventSubscriber for RtcTimer {
    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        let _ = rustix::io::read(&self.timer, &mut [0u8; 8]);
        let _ = self.rtc.rearm.read();
        self.arm();
    }

    fn init(&mut self, ops: &mut EventOps) {
        let added = ops
            .add(Events::new(&self.timer, EventSet::IN))
            .and_then(|()| ops.add(Events::new(&self.rtc.rearm, EventSet::IN)));
        self.error = added.err().map(io::Error::other);
        self.arm();
    }
}

impl Job for RtcTimer {
    type Output = ();

    fn init_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn finish(self, _how: Stop) {}
}
