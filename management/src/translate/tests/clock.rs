//! `<clock>`: offsets and timers.

use vmm_protocol::config::{Clock, MissedTicks, Timers};

use super::super::clock::remember;
use super::{Ids, configured, define, defined, host, refused, with};

fn guest(clock: &str) -> String {
    with(clock, "")
}

fn found(clock: &str) -> Clock {
    configured(&defined(&guest(clock))).clock
}

#[test]
fn offsets_are_seconds_ahead_of_utc() {
    for (clock, offset) in [
        ("<clock offset='utc'/>", 0),
        ("<clock offset='utc' adjustment='reset'/>", 0),
        ("<clock offset='utc' adjustment='90'/>", 90),
        ("<clock offset='variable' adjustment='-3600'/>", -3600),
        ("<clock offset='variable' adjustment='7' basis='utc'/>", 7),
        ("<clock offset='timezone' timezone='Etc/GMT-3'/>", 3 * 3600),
        ("<clock offset='absolute' start='1767225605'/>", 5),
    ] {
        assert_eq!(found(clock).offset, offset, "{clock}");
    }
}

/// What virt-install and virt-manager write.
#[test]
fn the_usual_timers_are_honoured_without_a_word() {
    let text = guest(
        "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/>\
         <timer name='pit' tickpolicy='delay'/><timer name='hpet' present='no'/></clock>",
    );
    let checked = define(&text, &mut Ids(0), &host()).unwrap();
    assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
    let timers = Timers { rtc_catches_up: true, ..Timers::default() };
    assert_eq!(configured(&checked.def).clock, Clock { offset: 0, kvmclock: true, timers });
}

#[test]
fn policies_and_the_tscs_rate_are_the_machines() {
    let clock = found(
        "<clock offset='utc'><timer name='pit' tickpolicy='discard'/>\
         <timer name='tsc' frequency='2400000999'/><timer name='kvmclock' present='no'/></clock>",
    );
    let timers = Timers { tsc_khz: Some(2_400_000), pit: MissedTicks::Drop, rtc_catches_up: false };
    assert_eq!(clock, Clock { offset: 0, kvmclock: false, timers });
}

#[test]
fn timers_that_cannot_be_had_are_named() {
    let refused_for = |timer: &str| {
        refused(&guest(&format!("<clock offset='utc'><timer {timer}/></clock>"))).message
    };
    for (timer, words) in [
        ("name='hpet'", "HPET"),
        ("name='platform'", "timer platform"),
        ("name='armvtimer'", "timer armvtimer"),
        ("name='pit' tickpolicy='merge'", "policy merge"),
        ("name='rtc' tickpolicy='discard'", "policy discard"),
        ("name='tsc' tickpolicy='delay'", "policy delay"),
        ("name='rtc' frequency='1000000'", "the TSC alone"),
        ("name='tsc' frequency='999'", "1 kHz"),
    ] {
        let message = refused_for(timer);
        assert!(message.contains(words), "{timer}: {message}");
    }
}

#[test]
fn a_variable_clock_remembers_what_the_guest_set() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let after = |clock: &str| {
        let mut def = defined(&guest(clock));
        remember(&mut def, 120, now);
        def.clock.unwrap().adjustment
    };
    assert_eq!(after("<clock offset='variable' adjustment='5'/>").as_deref(), Some("120"));
    assert_eq!(after("<clock offset='utc' adjustment='5'/>").as_deref(), Some("120"));
    assert_eq!(after("<clock offset='utc'/>"), None);
    assert_eq!(after("<clock offset='timezone' timezone='Etc/UTC'/>"), None);
}
