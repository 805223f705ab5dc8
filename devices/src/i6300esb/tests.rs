use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::testing::FakeClock;

struct Rig {
    dog: I6300esb,
    clock: Arc<FakeClock>,
    expired: Arc<AtomicU32>,
}

fn rig() -> Rig {
    let (clock, expired) = (Arc::new(FakeClock::default()), Arc::new(AtomicU32::new(0)));
    let count = expired.clone();
    let told = Box::new(move || _ = count.fetch_add(1, Ordering::Relaxed));
    Rig { dog: I6300esb::new("watchdog0", clock.clone(), told).unwrap(), clock, expired }
}

impl Rig {
    fn unlock(&self) {
        for byte in [UNLOCK_1, UNLOCK_2] {
            let _ = self.dog.bar_write(0, RELOAD, &[byte]);
        }
    }

    fn timers(&self, ticks: u32) {
        for timer in [TIMER1, TIMER2] {
            self.unlock();
            let _ = self.dog.bar_write(0, timer, &ticks.to_le_bytes());
        }
    }

    fn reload(&self, bits: u16) {
        self.unlock();
        let _ = self.dog.bar_write(0, RELOAD, &bits.to_le_bytes());
    }

    fn lock(&self, value: u8) {
        let _ = self.dog.config_write(LOCK, &[value]);
    }

    /// As Linux sets it up: both stages take half of about `seconds`.
    fn start(&self, seconds: u32) {
        let _ = self.dog.config_write(CONFIG, &[3, 0]);
        self.lock(0);
        self.timers(seconds << 9);
        self.reload(RELOAD_NOW);
        self.lock(ENABLE);
    }

    fn pass(&self, seconds: u64) -> Option<Duration> {
        self.clock.advance(Duration::from_secs(seconds));
        self.dog.tick()
    }

    fn bites(&self) -> u32 {
        self.expired.load(Ordering::Relaxed)
    }

    fn flags(&self) -> u16 {
        let mut data = [0; 2];
        self.dog.bar_read(0, RELOAD, &mut data);
        u16::from_le_bytes(data)
    }
}

#[test]
fn it_ends_after_both_stages_unless_it_is_reloaded() {
    let rig = rig();
    assert_eq!(rig.dog.tick(), None, "nothing to wait for until it is enabled");
    rig.start(30);
    let first = rig.dog.tick().unwrap();
    assert!((14..=16).contains(&first.as_secs()), "{first:?}");
    assert!(rig.pass(16).is_some());
    assert_eq!(rig.bites(), 0, "the second stage");
    rig.reload(RELOAD_NOW);
    assert!(rig.pass(14).is_some());
    rig.reload(RELOAD_NOW);
    rig.pass(16);
    assert_eq!((rig.bites(), rig.flags()), (0, 0));
    assert_eq!(rig.pass(16), None);
    assert_eq!((rig.bites(), rig.flags()), (1, TIMED_OUT | TIMED_OUT_LINUX));
    assert_eq!(rig.pass(1000), None);
    assert_eq!(rig.bites(), 1, "once");
}

#[test]
fn the_cause_of_a_reset_is_remembered_until_the_driver_takes_note() {
    let rig = rig();
    rig.start(2);
    rig.pass(2);
    rig.pass(2);
    rig.dog.reset();
    assert_eq!((rig.flags(), rig.dog.tick()), (TIMED_OUT | TIMED_OUT_LINUX, None));
    rig.reload(TIMED_OUT | RELOAD_NOW);
    assert_eq!((rig.flags(), rig.dog.tick()), (0, None));
}

#[test]
fn what_is_written_without_unlocking_does_nothing() {
    let rig = rig();
    rig.start(30);
    for sequence in [&[][..], &[0x80], &[0x86], &[0x86, 0x80], &[0x80, 0x85]] {
        rig.pass(1);
        let before = rig.dog.state.hold().deadline;
        for byte in sequence {
            let _ = rig.dog.bar_write(0, RELOAD, &[*byte]);
        }
        let _ = rig.dog.bar_write(0, TIMER1, &1_u32.to_le_bytes());
        let _ = rig.dog.bar_write(0, RELOAD, &RELOAD_NOW.to_le_bytes());
        assert_eq!(rig.dog.state.hold().deadline, before, "{sequence:x?}");
    }
}

#[test]
fn once_locked_it_cannot_be_stopped_but_by_a_reset() {
    let rig = rig();
    rig.start(30);
    rig.lock(ENABLE | LOCKED);
    rig.lock(0);
    let mut lock = [0];
    rig.dog.config_read(LOCK, &mut lock);
    assert_eq!(lock, [ENABLE | LOCKED]);
    assert!(rig.dog.tick().is_some());
    rig.dog.bus_reset();
    assert_eq!(rig.dog.tick(), None);
}

#[test]
fn with_reboot_switched_off_nobody_is_told_and_free_running_begins_again() {
    let rig = rig();
    rig.start(2);
    let _ = rig.dog.config_write(CONFIG, &[NO_REBOOT | FAST_CLOCK, 0]);
    rig.lock(0);
    // No time at all: a guest must not keep a thread busy with it.
    rig.timers(0);
    rig.lock(ENABLE | FREE_RUNNING);
    for _ in 0..10 {
        assert!(rig.pass(1).unwrap() >= Duration::from_millis(1));
    }
    assert_eq!((rig.bites(), rig.flags()), (0, 0));
}

#[test]
fn the_time_of_a_pause_does_not_count_also_over_save_and_restore() {
    let rig = rig();
    rig.start(30);
    rig.pass(10);
    rig.dog.pause();
    rig.dog.pause();
    assert_eq!(rig.pass(1000), None);
    let saved = rig.dog.save().unwrap();
    let other = self::rig();
    other.clock.advance(Duration::from_secs(5));
    other.dog.restore(&saved).unwrap();
    assert_eq!(other.dog.save().unwrap(), saved);
    for rig in [rig, other] {
        rig.dog.resume();
        rig.dog.resume();
        let left = rig.dog.tick().unwrap();
        assert!((3..=6).contains(&left.as_secs()), "{left:?}");
    }
}

#[test]
fn odd_accesses_do_no_harm() {
    let rig = rig();
    for offset in [0, 1, 3, 7, 8, 0xc, 0xe, 0xf, u64::MAX] {
        for len in [1, 2, 4, 8] {
            let _ = rig.dog.bar_write(0, offset, &vec![0xff; len]);
            rig.dog.bar_read(0, offset, &mut vec![0; len]);
        }
    }
    for offset in (0..256).step_by(4) {
        let _ = rig.dog.config_write(offset, &[0xff; 4]);
        rig.dog.config_read(offset, &mut [0; 4]);
    }
}
