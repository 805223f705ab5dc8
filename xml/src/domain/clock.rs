//! `<clock>`: what time the guest's RTC shows, and its timers.

use crate::cursor::Cursor;
use crate::diagnostic::Kind;
use crate::element::element;
use crate::value::{YesNo, names};

names! {
    pub enum ClockOffset {
        Utc = "utc", LocalTime = "localtime", Timezone = "timezone", Variable = "variable", Absolute = "absolute",
    }
    pub enum ClockBasis { Utc = "utc", LocalTime = "localtime" }
    pub enum TimerName {
        Platform = "platform", Rtc = "rtc", Tsc = "tsc", Hpet = "hpet", Pit = "pit", ArmVtimer = "armvtimer",
        KvmClock = "kvmclock", HypervClock = "hypervclock",
    }
    pub enum TickPolicy { Delay = "delay", CatchUp = "catchup", Merge = "merge", Discard = "discard" }
    pub enum TimerTrack { Boot = "boot", Guest = "guest", Wall = "wall", Realtime = "realtime" }
    pub enum TimerMode {
        Auto = "auto", Native = "native", Emulate = "emulate", Paravirt = "paravirt", SmpSafe = "smpsafe",
    }
}

element! {
    pub struct Clock {
        attr offset: ClockOffset,
        /// Seconds, or `reset`.
        attr adjustment: Option<String>,
        attr basis: Option<ClockBasis>,
        attr timezone: Option<String>,
        attr start: Option<u64>,
        child("timer") timers: Vec<Timer>,
    }
    check Clock::check;
}

impl Clock {
    pub fn utc() -> Self {
        let (adjustment, basis, timezone, start) = (None, None, None, None);
        Self { offset: ClockOffset::Utc, adjustment, basis, timezone, start, timers: Vec::new() }
    }

    fn check(&self, at: Cursor<'_>) {
        if self.offset == ClockOffset::Timezone && self.timezone.is_none() {
            at.missing_attribute("timezone");
        }
        if self.offset == ClockOffset::Absolute && self.start.is_none() {
            at.missing_attribute("start");
        }
        if let Some(adjustment) = &self.adjustment
            && adjustment != "reset"
            && adjustment.parse::<i64>().is_err()
        {
            let mut report = at.at_attribute("adjustment");
            report.expected = Some("seconds, or reset".to_owned());
            report.report(
                Kind::Invalid,
                format!("{} is no adjustment", crate::report::quote(adjustment)),
            );
        }
    }
}

element! {
    pub struct Timer {
        attr name: TimerName,
        attr present: Option<YesNo>,
        attr("tickpolicy") tick_policy: Option<TickPolicy>,
        attr track: Option<TimerTrack>,
        attr frequency: Option<u64>,
        attr mode: Option<TimerMode>,
        child("catchup") catch_up: Option<CatchUp>,
    }
}

element! {
    #[derive(Default)]
    pub struct CatchUp {
        attr threshold: Option<u32>,
        attr slew: Option<u32>,
        attr limit: Option<u32>,
    }
}
