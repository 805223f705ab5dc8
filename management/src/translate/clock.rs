//! `<clock>`: what the RTC shows, and the guest's timers.

use vmm_protocol::config::{Clock, MissedTicks, Timers};
use xml::domain::clock::{
    ClockBasis, ClockOffset, TickPolicy, Timer, TimerMode, TimerName, TimerTrack,
};
use xml::{DomainDef, YesNo};

use super::report::Report;
use crate::error::{Code, Error};

const KHZ: u64 = 1000;

pub(super) fn check(def: &DomainDef, report: &mut Report<'_>) {
    let Some(clock) = &def.clock else { return };
    for (number, timer) in (1..).zip(&clock.timers) {
        check_timer(timer, &format!("/domain/clock/timer[{number}]"), report);
    }
}

fn check_timer(timer: &Timer, path: &str, report: &mut Report<'_>) {
    let at = |name: &str| format!("{path}/@{name}");
    let absent = timer.present == Some(YesNo::No);
    match timer.name {
        TimerName::Hpet if !absent => report.refuse(path, "the HPET; write present='no'"),
        TimerName::Platform | TimerName::ArmVtimer => {
            report.refuse(path, format!("the timer {} on x86", timer.name));
        }
        TimerName::Pit | TimerName::Rtc | TimerName::Tsc if absent => {
            report.warn(&at("present"), format!("the guest has its {} all the same", timer.name));
        }
        _ => {}
    }
    let missed = match (timer.name, timer.tick_policy) {
        (_, None) | (TimerName::Rtc, Some(TickPolicy::Delay | TickPolicy::CatchUp)) => true,
        (TimerName::Pit, Some(policy)) => policy != TickPolicy::Merge,
        (TimerName::Hpet, Some(_)) => absent,
        _ => false,
    };
    if !missed && let Some(policy) = timer.tick_policy {
        let message = format!("the policy {policy} for missed ticks of the {}", timer.name);
        report.refuse(&at("tickpolicy"), message);
    }
    if let Some(frequency) = timer.frequency {
        if timer.name != TimerName::Tsc {
            let message = format!("a frequency of the {}; the TSC alone can have one", timer.name);
            report.refuse(&at("frequency"), message);
        } else if khz(frequency).is_none() {
            report.invalid(&at("frequency"), "a TSC counts at 1 kHz to 4 THz");
        }
    }
    let mode = timer.mode.is_some_and(|mode| mode != TimerMode::Auto);
    report.warn_if(mode, &at("mode"), "the TSC is the processor's own, scaled where it must be");
    let own = timer.track.is_some_and(|track| track != TimerTrack::Wall);
    report.warn_if(own, &at("track"), "the RTC follows the host's clock, also over a pause");
    let limits = timer.catch_up.is_some();
    let message = "ticks are made up for as fast as the guest takes them";
    report.warn_if(limits, &format!("{path}/catchup"), message);
}

fn khz(frequency: u64) -> Option<u32> {
    u32::try_from(frequency / KHZ).ok().filter(|khz| *khz > 0)
}

pub(super) fn clock(def: &DomainDef, now: jiff::Timestamp) -> Result<Clock, Error> {
    let timers = || def.clock.iter().flat_map(|clock| &clock.timers);
    let hidden =
        |timer: &Timer| timer.name == TimerName::KvmClock && timer.present == Some(YesNo::No);
    let policy = |name| {
        let mut found = timers().filter(move |timer| timer.name == name);
        found.find_map(|timer| timer.tick_policy)
    };
    let drop = policy(TimerName::Pit) == Some(TickPolicy::Discard);
    let choices = Timers {
        tsc_khz: timers()
            .filter(|timer| timer.name == TimerName::Tsc)
            .find_map(|timer| timer.frequency.and_then(khz)),
        pit: if drop { MissedTicks::Drop } else { MissedTicks::Deliver },
        rtc_catches_up: policy(TimerName::Rtc) == Some(TickPolicy::CatchUp),
    };
    let kvmclock = !timers().any(hidden);
    Ok(Clock { offset: offset(def, now)?, kvmclock, timers: choices })
}

/// Seconds that the RTC is ahead of UTC at the start.
fn offset(def: &DomainDef, now: jiff::Timestamp) -> Result<i64, Error> {
    let Some(clock) = &def.clock else { return Ok(0) };
    // `reset` is what a clock without an adjustment does anyway.
    let adjustment = clock.adjustment.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(match clock.offset {
        ClockOffset::Timezone => {
            let name = clock.timezone.as_deref().unwrap_or_default();
            let found = jiff::tz::TimeZone::get(name).map_err(|error| {
                let text = format!("the time zone {name:?} of <clock> is not known on this host");
                Error::new(Code::ResourceMissing, text).with_source(error)
            })?;
            i64::from(found.to_offset(now).seconds())
        }
        // With an adjustment, libvirt takes the first two for the third.
        ClockOffset::Utc | ClockOffset::LocalTime | ClockOffset::Variable => {
            basis(clock, now).saturating_add(adjustment)
        }
        ClockOffset::Absolute => {
            let start = clock.start.and_then(|start| i64::try_from(start).ok()).unwrap_or(0);
            start.saturating_sub(now.as_second())
        }
    })
}

/// What an adjustment is added to.
fn basis(clock: &xml::domain::Clock, now: jiff::Timestamp) -> i64 {
    let local = clock.offset == ClockOffset::LocalTime
        || clock.offset == ClockOffset::Variable && clock.basis == Some(ClockBasis::LocalTime);
    if local { i64::from(jiff::tz::TimeZone::system().to_offset(now).seconds()) } else { 0 }
}

/// The guest set its clock `offset` seconds ahead of UTC: a variable clock remembers.
pub(crate) fn remember(def: &mut DomainDef, offset: i64, now: jiff::Timestamp) {
    let Some(clock) = &mut def.clock else { return };
    let variable = clock.offset == ClockOffset::Variable
        || matches!(clock.offset, ClockOffset::Utc | ClockOffset::LocalTime)
            && clock.adjustment.as_deref().is_some_and(|text| text != "reset");
    if variable {
        clock.adjustment = Some(offset.saturating_sub(basis(clock, now)).to_string());
    }
}
