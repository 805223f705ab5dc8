//! `soak`: guests, devices, images and definitions come and go for a while; the daemon and a guest that was
//! there all the time end with as many descriptors and threads and as much memory as they began with.

use std::fs;
use std::time::{Duration, Instant};

use api::types::{Affects, CloneMode, Definition, ListQuery, MadeVolume, Start};
use manor_tests::torture::{Harm, Scale, Tally};

use crate::objects::{define, disk, domain, image, network, start};
use crate::rig::{Rig, Trouble};

/// What a process uses.
#[derive(Debug, Clone, Copy)]
struct Use {
    descriptors: usize,
    threads: usize,
    resident_kib: u64,
}

impl Use {
    fn of(pid: u32) -> Self {
        let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
        Self {
            descriptors: count("fd"),
            threads: count("task"),
            resident_kib: resident.unwrap_or_default(),
        }
    }

    /// Memory may settle a little higher: allocators keep some of what they had.
    fn is_back_at(self, start: Self) -> bool {
        self.descriptors <= start.descriptors
            && self.threads <= start.threads
            && self.resident_kib <= start.resident_kib + start.resident_kib / 5 + 8192
    }
}

#[test]
fn what_comes_and_goes_leaves_nothing_behind() {
    let scale = Scale::of_environment();
    let seconds = scale.seconds.unwrap_or(scale.pick(10, 600));
    let Some(rig) = Rig::new("soak") else { return };
    let daemon = rig.start_daemon();
    rig.ask(rig.client.define_network(network("lab", "virbr7", 77), "")).unwrap();
    rig.ask(rig.client.network_verb("lab", "start")).unwrap();
    fs::create_dir(rig.path("pond")).unwrap();
    let path = rig.path("pond").display().to_string();
    let pool =
        format!("<pool type='dir'><name>pond</name><target><path>{path}</path></target></pool>");
    rig.ask(rig.client.define_pool(pool, "")).unwrap();
    rig.ask(rig.client.pool_verb("pond", "start")).unwrap();
    let stays = format!("stays-{}", rig.tag);
    define(&rig, domain(&rig, &stays, "resting", "")).unwrap();
    start(&rig, &stays).unwrap();
    let vmm = rig.processes_of(&stays)[0].pid;
    // What is made once and kept is there after a few rounds.
    for _ in 0..3 {
        round(&rig, &stays).unwrap();
    }
    let at_rest = || [settled(daemon.pid()), settled(vmm)];
    let before = at_rest();
    let mut tally = Tally::of("soak");
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        let result = round(&rig, &stays);
        if let Err(trouble) = &result {
            println!("{trouble:?}\n{}", rig.log());
        }
        tally.count(result.err().map(|_| Harm::Escaped));
    }
    let patience = Instant::now() + Duration::from_secs(60);
    let mut after = at_rest();
    let back = |after: [Use; 2]| (0..2).all(|n| after[n].is_back_at(before[n]));
    while !back(after) && Instant::now() < patience {
        after = at_rest();
    }
    tally.count((!back(after)).then_some(Harm::Escaped));
    let told = |name: &str, n: usize| {
        let (was, is) = (before[n], after[n]);
        format!(
            "{name}: fds {} to {}, threads {} to {}, RSS {} to {} MiB",
            was.descriptors,
            is.descriptors,
            was.threads,
            is.threads,
            was.resident_kib >> 10,
            is.resident_kib >> 10
        )
    };
    tally.note = format!("rounds in {seconds} s, {}, {}", told("daemon", 0), told("VMM", 1));
    tally.tell();
    assert!(tally.is_clean(), "{tally}");
}

/// When idle threads have gone.
fn settled(pid: u32) -> Use {
    let until = Instant::now() + Duration::from_secs(30);
    let mut last = Use::of(pid);
    loop {
        std::thread::sleep(Duration::from_secs(3));
        let now = Use::of(pid);
        let same = (now.descriptors, now.threads) == (last.descriptors, last.threads);
        if same || Instant::now() > until {
            return now;
        }
        last = now;
    }
}

/// One of everything, there and back.
fn round(rig: &Rig, stays: &str) -> Result<(), Trouble> {
    let passing = format!("passing-{}", rig.tag);
    image(rig, "passing.qcow2");
    let xml = domain(rig, &passing, "polling", &disk(rig, "passing.qcow2", "vda"));
    let how = Start { paused: false, reset_nvram: false, force_boot: false, force: false };
    rig.ask(rig.client.create(Definition { xml, cloud_init: None }, how))?;
    image(rig, "second.qcow2");
    let live = Affects { live: true, config: false };
    rig.ask(rig.client.attach_device(&passing, disk(rig, "second.qcow2", "vdb"), live))?;
    rig.ask(rig.client.all_stats())?;
    rig.ask(rig.client.destroy(&passing, false))?;
    for _ in 0..5 {
        rig.ask(rig.client.suspend(stays))?;
        rig.ask(rig.client.resume(stays))?;
        rig.ask(rig.client.reset(stays))?;
        rig.ask(rig.client.xml(stays, false, false))?;
        rig.ask(rig.client.list(&ListQuery::default()))?;
    }
    let volume = "<volume><name>one</name><capacity>1048576</capacity>\
                  <target><format type='qcow2'/></target></volume>";
    rig.ask(rig.client.create_volume("pond", volume.to_owned(), None))?;
    let copy = rig.client.clone_volume("pond", "one", "two", CloneMode::Copy);
    if let MadeVolume::Job(job) = rig.ask(copy)? {
        rig.finish(&job)?;
    }
    for volume in ["one", "two"] {
        rig.ask(rig.client.delete_volume("pond", volume))?;
    }
    rig.ask(rig.client.define_network(network("other", "virbr8", 78), ""))?;
    rig.ask(rig.client.network_verb("other", "start"))?;
    rig.ask(rig.client.network_verb("other", "stop"))?;
    rig.ask(rig.client.undefine_network("other"))
}
