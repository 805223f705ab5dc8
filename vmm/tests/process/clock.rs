//! The guest's time: its clock when it sets it, and timers that a definition chooses.

use baremetal::{Width, pvh};
use vmm_protocol::config::MissedTicks;
use vmm_protocol::control::{EventKind, Request};
use vmm_protocol::exit::ExitReason;

use crate::machine::ticking;
use crate::needs_kvm;
use crate::rig::Rig;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
const DAY: i64 = 86_400;

#[test]
fn a_guest_that_sets_its_clock_is_heard() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        // Stopped, set to a day of last century, and let go on.
        for (register, value) in
            [(0x0b, 0x82), (0x32, 0x19), (9, 0x99), (8, 0x01), (7, 0x02), (0x0b, 0x02)]
        {
            asm.out(Width::Byte, INDEX, register).out(Width::Byte, DATA, value);
        }
        asm.print("set\n").stop();
    });
    let mut rig = Rig::new(&kernel);
    rig.config.clock.timers.rtc_catches_up = true;
    let mut guest = rig.start();
    guest.wait_serial("the guest", |serial| serial == "set\n");
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    let heard = client.event_like(|kind| matches!(kind, EventKind::ClockChanged { .. }));
    let EventKind::ClockChanged { offset } = heard.kind else { panic!() };
    // 1999-01-02 is 10,593 days after the epoch.
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let day = (now + offset).div_euclid(DAY);
    assert_eq!(day, 10_593, "offset {offset}");
}

#[test]
fn ticks_of_the_timer_chip_may_be_dropped() {
    needs_kvm!();
    let mut rig = Rig::new(&ticking());
    rig.config.clock.timers.pit = MissedTicks::Drop;
    let mut guest = rig.start();
    guest.wait_serial("ticks", |serial| serial.len() > 3);
}

#[test]
fn a_tsc_that_the_host_cannot_give_is_refused_with_both_rates() {
    needs_kvm!();
    let mut rig = Rig::new(&ticking());
    // Slower than any processor scales to.
    rig.config.clock.timers.tsc_khz = Some(1);
    let (_, record, _) = rig.start().wait();
    let ExitReason::Failed { message } = record.reason else { panic!("{record:?}") };
    assert!(message.contains("TSC"), "{message}");
}
