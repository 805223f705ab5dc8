//! `glutton`: a VMM that takes all the memory it can get is refused more before others notice.

use std::io;
use std::time::{Duration, Instant};

use api::types::{ListQuery, StateName};
use manor_tests::puppet::Puppet;
use manor_tests::torture::{Harm, Scale, Tally};
use manor_tests::tries::resident_bytes_of;

use crate::objects::{define, domain, network, start};
use crate::rig::Rig;

/// What a call on another guest may take, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(5);
const BITE: u64 = 64 << 20;
/// Twice the memory of these guests and 2 GiB.
const MOST: u64 = (2 << 30) + (64 << 20);

#[test]
fn a_vmm_that_eats_memory_is_refused_more_and_hurts_nobody() {
    let Some(rig) = Rig::new("glutton") else { return };
    let daemon = rig.start_daemon();
    rig.ask(rig.client.define_network(network("lab", "virbr7", 77), "")).unwrap();
    rig.ask(rig.client.network_verb("lab", "start")).unwrap();
    let [glutton, well] = ["glutton", "well"].map(|name| format!("{name}-{}", rig.tag));
    for name in [&glutton, &well] {
        define(&rig, domain(&rig, name, "resting", "")).unwrap();
        start(&rig, name).unwrap();
    }
    let before = (rig.processes_of(&glutton), rig.processes_of(&well));
    let pid = before.0[0].pid;
    let touched = Scale::of_environment().pick(256 << 20, MOST);
    let (eaten, refused) = eat(pid.cast_signed(), touched).unwrap();
    let resident = resident_bytes_of(pid);
    let mut tally = Tally::of("glutton");
    let mut check = |what: &str, good: bool| {
        if !good {
            println!("{what}: {eaten} bytes were taken, {resident} are there, then: {refused}");
            println!("{}", rig.log());
        }
        tally.count((!good).then_some(Harm::Escaped));
    };
    check("it is refused more", refused.raw_os_error() == Some(libc::ENOMEM) && eaten <= MOST);
    // The test itself would be none if what it took were not there.
    check("it has what it took", eaten > MOST / 2 && resident > touched.min(eaten));
    check("nobody ended", before == (rig.processes_of(&glutton), rig.processes_of(&well)));
    let state = |name: &str, wanted| {
        let begun = Instant::now();
        let found = rig.ask(rig.client.state(name));
        found.is_ok_and(|found| found.state == wanted) && begun.elapsed() < SOON
    };
    check("suspend the other", rig.ask(rig.client.suspend(&well)).is_ok());
    check("it is suspended", state(&well, StateName::Paused));
    check("resume the other", rig.ask(rig.client.resume(&well)).is_ok());
    check("it runs", state(&well, StateName::Running));
    check("the glutton answers", state(&glutton, StateName::Running));
    let all = rig.ask(rig.client.list(&ListQuery::default()));
    check("all are listed", all.is_ok_and(|all| all.len() == 2));
    check("the glutton goes", rig.ask(rig.client.destroy(&glutton, false)).is_ok());
    check("its memory as well", resident_bytes_of(pid) == 0);
    tally.note =
        format!("checks around a VMM that has taken {} MiB and is refused more", eaten >> 20);
    tally.tell();
    assert!(tally.is_clean(), "{tally}");
    drop(daemon);
}

/// Memory of its own until there is no more, the first of it `touched`; how much, and what it was told then.
fn eat(pid: i32, touched: u64) -> io::Result<(u64, io::Error)> {
    let mut vmm = Puppet::take(pid)?;
    let access = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let own = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let mut eaten = 0;
    while eaten <= 2 * MOST {
        let how = if eaten < touched { own | libc::MAP_POPULATE } else { own } as u64;
        match vmm.call(libc::SYS_mmap, [0, BITE, access, how, u64::MAX, 0]) {
            Ok(_) => eaten += BITE,
            Err(error) => return Ok((eaten, error)),
        }
    }
    Ok((eaten, io::Error::other("nothing was refused")))
}
