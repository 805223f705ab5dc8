//! `crash-daemon`: a daemon that is killed, or its broker, at a system call by which it changes the world,
//! chosen by chance, in every operation there is; and the next one, perhaps while it takes over.
//!
//! Guests run on and none is started twice; what was acknowledged is there, what was not is there or is
//! not; nothing is left behind, and an operation that came to nothing succeeds the next time.

mod host;
mod steps;

use std::time::Duration;

use manor_tests::chance::Chance;
use manor_tests::torture::{Scale, Tally};

use host::{Host, Verdict};
use steps::cycles;

use super::rig::Rig;

/// How long the next daemon may take to know all domains again: ten times what is promised, on a
/// machine that is busy with other tests, of a debug build that is traced.
const CONVERGED: Duration = Duration::from_secs(20);

#[test]
fn a_daemon_may_be_killed_at_any_system_call() {
    let scale = Scale::of_environment();
    let Some(rig) = Rig::new("crash") else { return };
    let mut chance = Chance::new(scale.seed);
    let mut tally = Tally::of("crash-daemon");
    let mut host = Host::new(rig, scale.pick((12, 4), (50, 12)));
    let cycles = cycles(&host.rig);
    let mut cycle = 0;
    let wanted = scale.pick(100, 1000);
    'all: while tally.tried < wanted {
        for step in &cycles[cycle % cycles.len()] {
            // Until it has succeeded, however often it is cut short.
            loop {
                match host.attempt(step, &mut chance) {
                    Verdict::Done => break,
                    Verdict::Killed { done, harm } => {
                        if let Some((harm, why)) = harm {
                            println!("seed {}, point {}: {why}", scale.seed, tally.tried + 1);
                            println!("the daemon's log:\n{}", host.rig.log());
                            tally.count(Some(harm));
                            break 'all;
                        }
                        tally.count(None);
                        if done {
                            break;
                        }
                    }
                }
            }
            if tally.tried >= wanted {
                break 'all;
            }
        }
        cycle += 1;
    }
    host.describe(&mut tally);
    tally.tell();
    assert!(tally.is_clean(), "{tally}");
    assert!(host.slowest <= CONVERGED, "a restart took {:?}", host.slowest);
    assert!(host.brokers > 0, "no broker died: {tally}");
    assert!(host.kinds() >= 10, "only these calls were hit: {:?}", host.struck);
}
