//! [`View`]: all that a client and the host can tell of a daemon's objects, to be compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use api::types;

use super::rig::{Rig, Trouble, names};

/// What is known of one object.
pub(crate) type Facts = BTreeMap<String, String>;

/// Objects by kind and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View(pub(crate) BTreeMap<String, Facts>);

fn fact(facts: &mut Facts, name: &str, value: impl ToString) {
    facts.insert(name.to_owned(), value.to_string());
}

impl View {
    /// `closely`: the domain of which everything is asked; of the others what a list has.
    pub(crate) fn of(rig: &Rig, closely: &str) -> Result<Self, Trouble> {
        let mut view = BTreeMap::new();
        let processes = rig.guests();
        for domain in rig.ask(rig.client.list(&types::ListQuery::default()))? {
            let mut facts = Facts::new();
            fact(&mut facts, "uuid", domain.uuid);
            fact(&mut facts, "title", domain.title.clone().unwrap_or_default());
            fact(&mut facts, "state", domain.state.state.words());
            fact(&mut facts, "autostart", domain.autostart);
            fact(&mut facts, "saved", domain.managed_save);
            let mine = processes.iter().filter(|(name, _)| *name == domain.name);
            let mine: Vec<_> = mine.map(|(_, process)| process.to_string()).collect();
            fact(&mut facts, "process", mine.join(" "));
            if domain.name == closely {
                look_closely(rig, &domain, &mut facts)?;
            }
            view.insert(format!("domain {}", domain.name), facts);
        }
        for pool in rig.ask(rig.client.pools())? {
            let mut facts = Facts::new();
            fact(&mut facts, "active", pool.active);
            fact(&mut facts, "autostart", pool.autostart);
            if pool.active {
                for volume in rig.ask(rig.client.volumes(&pool.name))? {
                    let state = volume.damaged.unwrap_or_else(|| volume.capacity_bytes.to_string());
                    fact(&mut facts, &format!("volume {}", volume.name), state);
                }
            }
            view.insert(format!("pool {}", pool.name), facts);
        }
        for network in rig.ask(rig.client.networks())? {
            let mut facts = Facts::new();
            fact(&mut facts, "active", network.active);
            fact(&mut facts, "autostart", network.autostart);
            fact(&mut facts, "problems", network.problems.join("; "));
            view.insert(format!("network {}", network.name), facts);
        }
        Ok(Self(view))
    }

    pub(crate) fn facts(&self, object: &str) -> Option<&Facts> {
        self.0.get(object)
    }

    /// What differs, in words, but for the object `except`.
    pub(crate) fn difference(&self, other: &Self, except: &str) -> String {
        let mut text = String::new();
        for object in self.0.keys().chain(other.0.keys().filter(|key| !self.0.contains_key(*key))) {
            let (before, now) = (self.0.get(object), other.0.get(object));
            if object != except && before != now {
                let _ = writeln!(text, "{object}: {}", changes(before, now));
            }
        }
        text
    }
}

/// What became of an object.
pub(crate) fn changes(before: Option<&Facts>, now: Option<&Facts>) -> String {
    match (before, now) {
        (Some(before), Some(now)) => {
            let names = before.keys().chain(now.keys().filter(|name| !before.contains_key(*name)));
            let differing = names.filter(|name| before.get(*name) != now.get(*name));
            let told = differing.map(|name| {
                let of = |facts: &Facts| facts.get(name).cloned().unwrap_or_else(|| "-".to_owned());
                format!("{name} {:?} is {:?}", of(before), of(now))
            });
            told.collect::<Vec<_>>().join(", ")
        }
        (Some(_), None) => "it is gone".to_owned(),
        (None, Some(now)) => format!("it is new: {now:?}"),
        (None, None) => String::new(),
    }
}

fn look_closely(
    rig: &Rig,
    domain: &types::DomainSummary,
    facts: &mut Facts,
) -> Result<(), Trouble> {
    let name = &domain.name;
    let snapshots = rig.ask(rig.client.snapshots(name))?;
    let snapshots: Vec<_> = snapshots.into_iter().map(|snapshot| snapshot.name).collect();
    fact(facts, "snapshots", snapshots.join(" "));
    for (fact_name, inactive) in [("disks", true), ("live disks", false)] {
        let disks = rig.ask(rig.client.disks(name, inactive))?;
        let all = disks.into_iter().map(|disk| {
            let source = disk.source.unwrap_or_default();
            format!("{}={}", disk.target, source.rsplit('/').next().unwrap_or_default())
        });
        fact(facts, fact_name, all.collect::<Vec<_>>().join(" "));
    }
    // Of a domain that is off nobody can ask.
    let jobs = match domain.id {
        Some(_) => rig.ask(rig.client.block_jobs(name))?.len(),
        None => 0,
    };
    fact(facts, "block jobs", jobs);
    fact(facts, "files", names(&rig.path("disks")).join(" "));
    Ok(())
}
