//! `storm`: starts and stops of many guests at once. Every call is answered, reads are answered soon, and
//! afterwards as many processes are there as guests.

use std::time::{Duration, Instant};

use api::client::ClientError;
use api::types::{ListQuery, Start};
use futures_util::future::join_all;
use manor_tests::torture::{Harm, Scale, Tally};

use crate::objects::{define, domain, network};
use crate::rig::Rig;

/// Ten times what is promised, on a machine that is busy with other tests.
const READ: Duration = Duration::from_secs(1);
/// A storm that has not passed by then never will.
const DEADLOCK: Duration = Duration::from_secs(900);

#[test]
fn a_storm_of_starts_and_stops_is_answered_to_the_last_call() {
    let scale = Scale::of_environment();
    let Some(rig) = Rig::new("storm") else { return };
    let (guests, calls) = scale.pick((12, 60), (100, 500));
    let _daemon = rig.start_daemon();
    rig.ask(rig.client.define_network(network("lab", "virbr7", 77), "")).unwrap();
    rig.ask(rig.client.network_verb("lab", "start")).unwrap();
    let names: Vec<_> = (0..guests).map(|number| format!("g{number}-{}", rig.tag)).collect();
    for name in &names {
        define(&rig, domain(&rig, name, "resting", "")).unwrap();
    }
    let begun = Instant::now();
    let client = &rig.client;
    let how = || Start { paused: false, reset_nvram: false, force_boot: false, force: false };
    let call = async |number: usize| {
        let name = &names[number % guests];
        if (number / guests).is_multiple_of(2) {
            client.start(name, how()).await
        } else {
            client.destroy(name, false).await
        }
    };
    // All guests at once, but each of them one call after the other: none is refused.
    let in_turn = join_all((0..guests).map(async |guest| {
        let mut answers = Vec::new();
        for number in (guest..calls).step_by(guests) {
            answers.push(call(number).await);
        }
        // So that the next wave finds it off.
        let _ = client.destroy(&names[guest], false).await;
        answers
    }));
    let storm = async {
        let in_turn: Vec<_> = in_turn.await.into_iter().flatten().collect();
        let refused = in_turn.iter().filter(|answer| answer.is_err()).count();
        // And all calls on all guests at once: whoever comes too early, or too late, is refused.
        (refused, [in_turn, join_all((0..calls).map(call)).await])
    };
    let mut reads = Vec::new();
    let mut missed = 0;
    let (refused, answers) = rig.wait(async {
        let mut storm = std::pin::pin!(tokio::time::timeout(DEADLOCK, storm));
        loop {
            let reading = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let asked = Instant::now();
                (client.list(&ListQuery::default()).await.is_ok(), asked.elapsed())
            };
            tokio::select! {
                answers = &mut storm => break answers.expect("the storm passes"),
                (answered, took) = reading => {
                    missed += u64::from(!answered);
                    reads.push(took);
                }
            }
        }
    });
    let took = begun.elapsed();
    let mut tally = Tally::of("storm");
    let answers: Vec<_> = answers.into_iter().flatten().collect();
    for answer in &answers {
        // A start of what runs, a stop of what is off: refused by name is answered, too.
        let answered = matches!(answer, Ok(()) | Err(ClientError::Refused(_)));
        if !answered {
            println!("{answer:?}");
        }
        tally.count((!answered).then_some(Harm::Escaped));
    }
    let done = answers.iter().filter(|answer| answer.is_ok()).count();
    let active = ListQuery { active: Some(true), ..ListQuery::default() };
    let running = rig.ask(rig.client.list(&active)).unwrap();
    let mut running: Vec<_> = running.into_iter().map(|domain| domain.name).collect();
    running.sort();
    let processes: Vec<_> = rig.guests().into_iter().map(|(name, _)| name).collect();
    tally.count((running != processes || missed > 0).then_some(Harm::Escaped));
    reads.sort();
    let slow = reads.get(reads.len() * 99 / 100).copied().unwrap_or_default();
    tally.note = format!(
        "calls on {guests} guests, {done} done and the others refused, in {} s; p99 of {} reads {} ms",
        took.as_secs(),
        reads.len(),
        slow.as_millis()
    );
    tally.tell();
    assert!(tally.is_clean(), "{tally}: {running:?} of {processes:?}");
    assert!(slow <= READ, "reads took {slow:?}");
    assert_eq!(refused, 0, "{tally}");
}
