//! [`Host`]: domains, a network and a pool that nothing is done to, beside what the steps change; and a
//! daemon that is killed and followed by another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use manor_tests::chance::Chance;
use manor_tests::doom::{Doomed, Moment};
use manor_tests::torture::{Harm, Tally};

use super::steps::Step;
use crate::objects::{define, domain, network, start};
use crate::rig::{PATIENCE, Rig, names};
use crate::view::{Facts, View, changes};

pub(super) struct Host {
    pub(super) rig: Rig,
    daemon: Doomed,
    /// The daemon's, which ends with it as it ends with the daemon.
    broker: Doomed,
    /// Acts that a step took when it was let be: the daemon's and the broker's.
    costs: BTreeMap<&'static str, [u64; 2]>,
    /// Acts of a daemon until it knew everything again.
    start_cost: u64,
    /// How long it took a daemon to know everything again: the most, and all of them.
    pub(super) slowest: Duration,
    restarts: Vec<Duration>,
    /// System calls that a daemon died of.
    pub(super) struck: BTreeSet<String>,
    /// How often it was a broker that died first.
    pub(super) brokers: u64,
    domains: usize,
}

/// The broker of a daemon that answers: the first that it has started.
fn broker(daemon: &Doomed) -> Option<Doomed> {
    let lists = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).ok()?.flatten();
    let children =
        lists.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let pids: Vec<i32> = children
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        })
        .collect();
    let is_broker = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.starts_with(b"manor broker\0")
    };
    Doomed::attach(pids.into_iter().find(is_broker)?).ok()
}

/// What came of a step.
pub(super) enum Verdict {
    Done,
    Killed { done: bool, harm: Option<(Harm, String)> },
}

/// What is to be seen of a step's object.
enum Seen {
    Done,
    Undone,
    /// Neither, perhaps not yet.
    Else(String),
}

impl Host {
    /// So many domains, of which so many run.
    pub(super) fn new(rig: Rig, (domains, running): (usize, usize)) -> Self {
        let daemon = Doomed::spawn(rig.daemon()).unwrap();
        assert!(rig.is_up(&daemon), "it starts:\n{}", rig.log());
        let broker = broker(&daemon).expect("a daemon has a broker that can be traced");
        rig.ask(rig.client.define_network(network("lab", "virbr7", 77), "")).unwrap();
        rig.ask(rig.client.network_verb("lab", "start")).unwrap();
        for number in 0..domains {
            let name = format!("still{number}-{}", rig.tag);
            define(&rig, domain(&rig, &name, "resting", "")).unwrap();
            if number < running {
                start(&rig, &name).unwrap();
            }
        }
        Self {
            rig,
            daemon,
            broker,
            costs: BTreeMap::new(),
            start_cost: 0,
            slowest: Duration::ZERO,
            restarts: Vec::new(),
            struck: BTreeSet::new(),
            brokers: 0,
            domains,
        }
    }

    /// How many different system calls daemons died of.
    pub(super) fn kinds(&self) -> usize {
        let names = self.struck.iter().filter_map(|struck| struck.split(' ').nth(1));
        names.collect::<BTreeSet<_>>().len()
    }

    pub(super) fn describe(&mut self, tally: &mut Tally) {
        self.restarts.sort();
        let median = self.restarts.get(self.restarts.len() / 2).copied().unwrap_or_default();
        tally.note = format!(
            "{} kinds of system calls; {} brokers; {} domains known again after {} ms (median), {} ms (most)",
            self.kinds(),
            self.brokers,
            self.domains,
            median.as_millis(),
            self.slowest.as_millis()
        );
    }

    /// Do a step with a daemon that dies at some act of it, or shortly after.
    pub(super) fn attempt(&mut self, step: &Step, chance: &mut Chance) -> Verdict {
        let name = step.object.strip_prefix("domain ").unwrap_or_default();
        let before = match View::of(&self.rig, name) {
            Ok(view) => view,
            Err(trouble) => panic!("before {}: {trouble:?}", step.name),
        };
        // What a killed daemon has begun may be done only after it was looked at.
        if is_done(step, before.facts(&step.object)) {
            return Verdict::Done;
        }
        let cost = self.costs.get(step.name).copied();
        // At first it is let be, and counted.
        let first = self.acts();
        let (victim, cost_of) = match chance.below(2) {
            0 => (&self.daemon, 0),
            _ => (&self.broker, 1),
        };
        if let Some(cost) = cost {
            let moment = if chance.below(2) == 0 { Moment::Before } else { Moment::After };
            victim.die_after(chance.below(cost[cost_of] as usize + 3) as u64, moment);
        }
        let result = (step.act)(&self.rig);
        if result.is_ok() && cost.is_some() {
            // What it does when everybody thinks it is done.
            let _ = victim.is_over_within(Duration::from_millis(20));
        }
        let acts = [self.daemon.spare() - first[0], self.broker.spare() - first[1]];
        if self.struck().is_none() {
            if let Err(trouble) = result {
                // The daemon before may have left it to this one to finish, which has done so meanwhile.
                return match self.settle(step, &before, false) {
                    Ok(true) => Verdict::Done,
                    _ => panic!("{} was to succeed: {trouble:?}\n{}", step.name, self.rig.log()),
                };
            }
            let known = self.costs.entry(step.name).or_default();
            *known = [acts[0].max(known[0]), acts[1].max(known[1])];
            let harm = self.settle(step, &before, true).err();
            return match harm {
                // Nobody died, and it is wrong all the same: worth as much to know.
                Some(harm) => Verdict::Killed { done: true, harm: Some(harm) },
                None => Verdict::Done,
            };
        }
        self.brokers += u64::from(self.broker.struck().is_some());
        self.succeed(chance);
        let acknowledged = result.is_ok();
        match self.settle(step, &before, acknowledged) {
            Ok(done) => Verdict::Killed { done, harm: None },
            Err((harm, why)) => {
                let why = format!("killed in {:?}, {:?}: {why}", step.name, self.struck.last());
                Verdict::Killed { done: false, harm: Some((harm, why)) }
            }
        }
    }

    fn acts(&self) -> [u64; 2] {
        [self.daemon.acts(), self.broker.acts()]
    }

    /// What one of the two died of.
    fn struck(&self) -> Option<String> {
        let broker = self.broker.struck().map(|struck| format!("{struck} of the broker"));
        self.daemon.struck().or(broker)
    }

    /// The next daemon, or the one after it if that is killed while it takes over.
    fn succeed(&mut self, chance: &mut Chance) {
        loop {
            assert!(
                self.daemon.is_over_within(PATIENCE),
                "a killed daemon ends, and one without broker"
            );
            assert!(self.broker.is_over_within(PATIENCE), "a broker ends with its daemon");
            if let Some(struck) = self.struck() {
                self.struck.insert(struck);
            }
            let begun = Instant::now();
            self.daemon = Doomed::spawn(self.rig.daemon()).unwrap();
            let dies = self.start_cost > 0 && chance.below(8) == 0;
            if dies {
                let acts = chance.below(self.start_cost as usize) as u64;
                self.daemon.die_after(acts, Moment::After);
            }
            if !self.rig.is_up(&self.daemon) || !self.knows_everything() {
                continue;
            }
            let acts = self.daemon.spare();
            if self.daemon.struck().is_some() {
                continue;
            }
            let took = begun.elapsed();
            let Some(broker) = broker(&self.daemon) else { continue };
            self.broker = broker;
            self.slowest = self.slowest.max(took);
            self.restarts.push(took);
            self.start_cost = self.start_cost.max(acts);
            return;
        }
    }

    /// Wait until it has met all guests again; `false` if it dies before.
    fn knows_everything(&self) -> bool {
        let until = Instant::now() + PATIENCE;
        loop {
            let list = self.rig.ask(self.rig.client.list(&api::types::ListQuery::default()));
            let Ok(list) = list else { return false };
            let unknown = |domain: &api::types::DomainSummary| {
                domain.state.state == api::types::StateName::NoState
            };
            if !list.iter().any(unknown) {
                return true;
            }
            assert!(Instant::now() < until, "domains stay unknown: {list:?}\n{}", self.rig.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Wait until all is as it should be; whether the step is done.
    fn settle(
        &self,
        step: &Step,
        before: &View,
        acknowledged: bool,
    ) -> Result<bool, (Harm, String)> {
        let until = Instant::now() + PATIENCE / 3;
        let name = step.object.strip_prefix("domain ").unwrap_or_default();
        loop {
            let harm = match View::of(&self.rig, name) {
                Ok(now) => match self.judge(step, before, &now, acknowledged) {
                    Ok(done) => return Ok(done),
                    Err(harm) => harm,
                },
                Err(trouble) => (Harm::Escaped, format!("the next daemon: {trouble:?}")),
            };
            if Instant::now() >= until {
                return Err(harm);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn judge(
        &self,
        step: &Step,
        before: &View,
        now: &View,
        acknowledged: bool,
    ) -> Result<bool, (Harm, String)> {
        let others = before.difference(now, &step.object);
        if !others.is_empty() {
            let harm = if others.contains("is gone") { Harm::Lost } else { Harm::Escaped };
            return Err((harm, format!("others: {others}")));
        }
        let done = match seen(step, before.facts(&step.object), now.facts(&step.object)) {
            Seen::Done => true,
            Seen::Undone if !acknowledged => false,
            Seen::Undone => return Err((Harm::Lost, "what was acknowledged is not there".into())),
            Seen::Else(why) => return Err((Harm::Lost, format!("half done: {why}"))),
        };
        match self.leftovers(now) {
            None => Ok(done),
            Some(left) => Err((Harm::Escaped, left)),
        }
    }

    /// Whatever is there of no running guest, or missing of one.
    fn leftovers(&self, now: &View) -> Option<String> {
        let of = |fact: &str, facts: &Facts| facts.get(fact).cloned().unwrap_or_default();
        let active: Vec<_> = now
            .0
            .iter()
            .filter(|(object, facts)| {
                object.starts_with("domain ") && of("state", facts) != "shut off"
            })
            .collect();
        for (object, facts) in &active {
            let process = of("process", facts);
            if process.is_empty() || process.contains(' ') {
                return Some(format!("{object} is active, its processes are {process:?}"));
            }
        }
        let guests = self.rig.guests();
        if guests.len() != active.len() {
            return Some(format!("{} domains are active, of {guests:?}", active.len()));
        }
        let daemons = self.rig.daemons();
        let own = [u32::try_from(self.daemon.pid()).unwrap()];
        if daemons != own {
            return Some(format!("daemons {daemons:?} beside {own:?}"));
        }
        let mut uuids: Vec<_> = active.iter().map(|(_, facts)| of("uuid", facts)).collect();
        uuids.sort();
        let groups = self.rig.groups();
        // A host without cgroups has none.
        if groups != uuids && !groups.is_empty() {
            return Some(format!("cgroups {groups:?} of {uuids:?}"));
        }
        let runs = names(&self.rig.path("run/domains"));
        if runs != uuids {
            return Some(format!("run directories {runs:?} of {uuids:?}"));
        }
        let taps = self.rig.taps(self.daemon.pid());
        if taps.len() != active.len() {
            return Some(format!("interfaces {taps:?} of {} guests", active.len()));
        }
        // The next write of that list replaces it.
        let list = self.rig.path("state/images.json.tmp").display().to_string();
        let unfinished = walk(&self.rig.path("state")).into_iter().find(|name| {
            name.ends_with(".tmp") && *name != list
                || name.ends_with(".partial")
                || name.contains("quarantine/")
        });
        unfinished.map(|file| format!("unfinished: {file}"))
    }
}

/// Files below a directory, by their paths.
fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files.append(&mut walk(&entry.path()));
        } else {
            files.push(entry.path().display().to_string());
        }
    }
    files
}

/// Whether its object is as it makes it.
fn is_done(step: &Step, now: Option<&Facts>) -> bool {
    let (Some(done), Some(now)) = (&step.done, now) else {
        return step.done.is_none() && now.is_none();
    };
    done.iter().all(|(fact, wanted)| {
        let is = now.get(*fact).map_or("-", String::as_str);
        if wanted == "*" { !is.is_empty() } else { is == wanted }
    })
}

fn seen(step: &Step, before: Option<&Facts>, now: Option<&Facts>) -> Seen {
    let Some(done) = &step.done else {
        return match now {
            None => Seen::Done,
            Some(_) if before == now => Seen::Undone,
            Some(_) => Seen::Else(changes(before, now)),
        };
    };
    let but = |facts: &Facts, names: &[&str]| {
        let mut facts = facts.clone();
        facts.retain(|name, _| !names.contains(&name.as_str()));
        facts
    };
    let undone = |facts: Option<&Facts>| facts.map(|facts| but(facts, step.meanwhile));
    if undone(before) == undone(now) {
        return Seen::Undone;
    }
    let Some(now) = now else { return Seen::Else("it is gone".to_owned()) };
    for (fact, wanted) in done {
        let is = now.get(*fact).map_or("-", String::as_str);
        let good = match wanted.as_str() {
            "*" => {
                !is.is_empty() && before.is_none_or(|before| before.get(*fact) != now.get(*fact))
            }
            wanted => is == wanted,
        };
        if !good {
            return Seen::Else(format!("{fact} is {is:?}: {}", changes(before, Some(now))));
        }
    }
    let told = done.iter().map(|(fact, _)| *fact).chain(step.besides.iter().copied());
    let told: Vec<_> = told.collect();
    let rest = |facts: &Facts| but(facts, &told);
    match before {
        Some(before) if rest(before) != rest(now) => {
            Seen::Else(changes(Some(&rest(before)), Some(&rest(now))))
        }
        _ => Seen::Done,
    }
}
