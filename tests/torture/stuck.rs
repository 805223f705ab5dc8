//! `stuck`: a VMM that is stopped costs nobody but those who speak to it, and can be destroyed.

use std::process::Command;
use std::time::{Duration, Instant};

use manor_tests::torture::{Harm, Scale, Tally};

use crate::objects::{define, domain, network, start};
use crate::rig::Rig;

/// What a call on another guest may take, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(5);
/// A destroy asks first, and waits some seconds for the answer.
const DESTROYED: Duration = Duration::from_secs(60);

#[test]
fn a_stopped_vmm_delays_nobody_else_and_can_be_destroyed() {
    let scale = Scale::of_environment();
    let Some(rig) = Rig::new("stuck") else { return };
    let _daemon = rig.start_daemon();
    rig.ask(rig.client.define_network(network("lab", "virbr7", 77), "")).unwrap();
    rig.ask(rig.client.network_verb("lab", "start")).unwrap();
    let [stuck, well] = ["stuck", "well"].map(|name| format!("{name}-{}", rig.tag));
    for name in [&stuck, &well] {
        define(&rig, domain(&rig, name, "resting", "")).unwrap();
    }
    start(&rig, &well).unwrap();
    let other = rig.processes_of(&well);
    let mut tally = Tally::of("stuck");
    let mut longest = Duration::ZERO;
    for _ in 0..scale.pick(3, 50) {
        start(&rig, &stuck).unwrap();
        let [process] = &rig.processes_of(&stuck)[..] else { panic!("one process") };
        let stopped = Command::new("kill").args(["-s", "STOP", &process.pid.to_string()]).status();
        assert!(stopped.unwrap().success());
        // One who waits for it, as long as that takes.
        let (client, name) = (rig.client.clone(), stuck.clone());
        let waiting = rig.spawn(async move { client.suspend(&name).await });
        let calls: [(&str, &dyn Fn() -> bool); 5] = [
            ("list", &|| rig.ask(rig.client.list(&api::types::ListQuery::default())).is_ok()),
            ("stats of all", &|| rig.ask(rig.client.all_stats()).is_ok()),
            ("suspend", &|| rig.ask(rig.client.suspend(&well)).is_ok()),
            ("resume", &|| rig.ask(rig.client.resume(&well)).is_ok()),
            ("destroy", &|| rig.ask(rig.client.destroy(&stuck, false)).is_ok()),
        ];
        for (what, call) in calls {
            let begun = Instant::now();
            let answered = call();
            let took = begun.elapsed();
            let limit = if what == "destroy" { DESTROYED } else { SOON };
            if what != "destroy" {
                longest = longest.max(took);
            }
            let good = answered && took < limit;
            if !good {
                println!("{what} took {took:?}, answered: {answered}");
            }
            tally.count((!good).then_some(Harm::Escaped));
        }
        assert!(rig.wait(waiting).unwrap().is_err(), "whoever waited was told");
        assert!(rig.processes_of(&stuck).is_empty(), "it is gone");
    }
    tally.count((rig.processes_of(&well) != other).then_some(Harm::Escaped));
    tally.note = format!("calls beside a stopped VMM; the longest took {} ms", longest.as_millis());
    tally.tell();
    assert!(tally.is_clean(), "{tally}");
}
