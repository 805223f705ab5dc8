//! `upgrade`: guests that a daemon of another version has started are taken over by ours, and the other
//! way round, with all that is stored; each does with them what it does with its own.

use std::path::{Path, PathBuf};

use api::types::{Affects, ListQuery, ManagedSave, StateName};
use manor_tests::torture::{Harm, PREVIOUS, Tally};

use crate::guest::Process;
use crate::objects::{define, disk, domain, image, network, start};
use crate::rig::{MANOR, Rig, Trouble};

#[test]
fn guests_of_another_version_are_taken_over_and_go_on() {
    let Some(previous) = std::env::var_os(PREVIOUS).map(PathBuf::from) else {
        return println!(
            "SKIP: no binary of another version ({PREVIOUS}); the long form builds one"
        );
    };
    let Some(mut rig) = Rig::new("upgrade") else { return };
    let mut tally = Tally::of("upgrade");
    for (from, to) in [(&*previous, Path::new(MANOR)), (Path::new(MANOR), &*previous)] {
        change_over(&mut rig, from, to, &mut tally);
    }
    tally.note = format!("acts on guests of the other version, from and to {}", previous.display());
    tally.tell();
    assert!(tally.is_clean(), "{tally}");
}

/// A daemon of `from` begins everything, one of `to` goes on with it and ends it.
fn change_over(rig: &mut Rig, from: &Path, to: &Path, tally: &mut Tally) {
    let name = format!("web-{}", rig.tag);
    rig.binary = from.to_owned();
    let daemon = rig.start_daemon();
    begin(rig, &name).expect("a version does what it does");
    let before: Vec<Process> = rig.processes_of(&name);
    assert_eq!(before.len(), 1);
    drop(daemon);
    rig.binary = to.to_owned();
    let daemon = rig.start_daemon();
    let mut check = |what: &str, harm: Harm, result: Result<bool, Trouble>| {
        let good = matches!(result, Ok(true));
        if !good {
            println!("from {} to {}: {what}: {result:?}", from.display(), to.display());
            println!("{}", rig.log());
        }
        tally.count((!good).then_some(harm));
    };
    let done = |result: Result<(), Trouble>| result.map(|()| true);
    let (client, name) = (&rig.client, &*name);
    let listed = rig.ask(client.list(&ListQuery::default()));
    check("all domains are there", Harm::Lost, listed.map(|list| list.len() == 3));
    let pools = rig.ask(client.volumes("pond"));
    check("the pool and its volume", Harm::Lost, pools.map(|volumes| volumes.len() == 1));
    let lab = rig.ask(client.network("lab"));
    check("the network", Harm::Lost, lab.map(|network| network.active));
    let snapshots = rig.ask(client.snapshots(&format!("off-{}", rig.tag)));
    check("the snapshot", Harm::Lost, snapshots.map(|all| all.len() == 1));
    check("the guest runs on", Harm::Escaped, Ok(rig.processes_of(name) == before));
    let state = |wanted: StateName| rig.ask(client.state(name)).map(|state| state.state == wanted);
    check("it is known to run", Harm::Lost, state(StateName::Running));
    check("suspend", Harm::Escaped, done(rig.ask(client.suspend(name))));
    check("it is suspended", Harm::Escaped, state(StateName::Paused));
    check("resume", Harm::Escaped, done(rig.ask(client.resume(name))));
    check("statistics", Harm::Escaped, rig.ask(client.stats(name)).map(|_| true));
    let live = Affects { live: true, config: false };
    let attached = rig.ask(client.attach_device(name, disk(rig, "second.qcow2", "vdb"), live));
    check("attach", Harm::Escaped, done(attached));
    check("destroy", Harm::Escaped, done(rig.ask(client.destroy(name, false))));
    check("no process is left", Harm::Escaped, Ok(rig.processes_of(name).is_empty()));
    let saved = format!("saved-{}", rig.tag);
    check("go on from a saved state of the other", Harm::Lost, done(start(rig, &saved)));
    check("end all", Harm::Escaped, done(end(rig, &[name, &saved])));
    drop(daemon);
}

fn begin(rig: &Rig, name: &str) -> Result<(), Trouble> {
    let off = format!("off-{}", rig.tag);
    for file in ["first.qcow2", "second.qcow2", "third.qcow2"] {
        image(rig, file);
    }
    rig.ask(rig.client.define_network(network("lab", "virbr7", 77), ""))?;
    rig.ask(rig.client.network_verb("lab", "start"))?;
    let path = rig.path("pond");
    let _ = std::fs::create_dir(&path);
    let path = path.display();
    let pool =
        format!("<pool type='dir'><name>pond</name><target><path>{path}</path></target></pool>");
    rig.ask(rig.client.define_pool(pool, ""))?;
    rig.ask(rig.client.pool_verb("pond", "start"))?;
    let volume = "<volume><name>one</name><capacity>1048576</capacity>\
                  <target><format type='qcow2'/></target></volume>";
    rig.ask(rig.client.create_volume("pond", volume.to_owned(), None))?;
    define(rig, domain(rig, &off, "resting", &disk(rig, "third.qcow2", "vda")))?;
    let how = api::types::CreateSnapshot {
        xml: "<domainsnapshot><name>inside</name></domainsnapshot>".to_owned(),
        ..api::types::CreateSnapshot::default()
    };
    let made = rig.ask(rig.client.create_snapshot(&off, &how))?;
    rig.finish(&made.job)?;
    let saved = format!("saved-{}", rig.tag);
    define(rig, domain(rig, &saved, "resting", ""))?;
    start(rig, &saved)?;
    let how = ManagedSave { running: None, bypass_cache: false, with_host: false, format: None };
    let job = rig.ask(rig.client.managed_save(&saved, &how))?;
    rig.finish(&job)?;
    define(rig, domain(rig, name, "resting", &disk(rig, "first.qcow2", "vda")))?;
    start(rig, name)
}

/// So that the next change-over finds nothing.
fn end(rig: &Rig, [name, saved]: &[&str; 2]) -> Result<(), Trouble> {
    rig.ask(rig.client.destroy(saved, false))?;
    for domain in [*name, *saved, &format!("off-{}", rig.tag)] {
        rig.ask(rig.client.undefine(domain, None, true, true))?;
    }
    rig.ask(rig.client.delete_volume("pond", "one"))?;
    rig.ask(rig.client.pool_verb("pond", "stop"))?;
    rig.ask(rig.client.undefine_pool("pond"))?;
    rig.ask(rig.client.network_verb("lab", "stop"))?;
    rig.ask(rig.client.undefine_network("lab"))
}
