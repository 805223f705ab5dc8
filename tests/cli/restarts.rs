//! Guests that start over without end, and who stops them meanwhile.

use super::guests::{self, ok, state};
use super::rig::{Rig, wait_for};

/// `echo` as a guest that resets itself as soon as it runs.
fn restless() -> Option<Rig> {
    let rig = guests::defined()?;
    let kernel = baremetal::pvh(|asm| {
        asm.print("again\n").reset();
    });
    rig.write("kernel", kernel);
    Some(rig)
}

#[test]
fn a_guest_that_starts_over_without_end_is_stopped_at_any_moment() {
    let Some(rig) = restless() else { return };
    for round in 0..6 {
        ok(&rig, &["start", "echo"]);
        std::thread::sleep(std::time::Duration::from_millis(30 * round));
        ok(&rig, &["reset", "echo"]);
        ok(&rig, &["destroy", "echo"]);
        assert_eq!(state(&rig), "shut off (destroyed)");
    }
    ok(&rig, &["start", "echo"]);
    ok(&rig, &["suspend", "echo"]);
    ok(&rig, &["reset", "echo"]);
    assert_eq!(state(&rig), "paused (user)", "a reset starts nobody");
    ok(&rig, &["resume", "echo"]);
    ok(&rig, &["destroy", "echo"]);
}

/// Who comes late is told so, and nothing is left of any of it.
#[test]
fn resets_and_a_destroy_at_the_same_time_end_the_guest_once() {
    let Some(rig) = restless() else { return };
    for _ in 0..3 {
        ok(&rig, &["start", "echo"]);
        std::thread::scope(|scope| {
            for verb in ["reset", "reboot", "reset", "destroy", "reset", "reboot"] {
                let rig = &rig;
                scope.spawn(move || {
                    let outcome = rig.manor([verb, "echo"]);
                    let late = ["is not running", "was destroyed meanwhile"];
                    let late = late.iter().any(|words| outcome.err.contains(words));
                    assert!(outcome.status == 0 || late, "{verb}: {}", outcome.err);
                });
            }
        });
        wait_for("the end", || state(&rig) == "shut off (destroyed)");
    }
    ok(&rig, &["start", "echo"]);
    ok(&rig, &["destroy", "echo"]);
}
