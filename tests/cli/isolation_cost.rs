//! What a VMM's isolation costs its start.

use std::time::{Duration, Instant};

use super::guests::{ok, write_echo};
use super::rig::Rig;

/// Of a start, by the median; ten times the aim, since the host may be busy with other tests.
const MOST: Duration = Duration::from_millis(100);
const ROUNDS: usize = 15;

fn daemon(isolation: &str) -> Rig {
    let mut rig = Rig::without_daemon();
    let config = std::fs::read_to_string(rig.path("manor.toml")).unwrap();
    rig.write("manor.toml", format!("{config}[domains]\nisolation = \"{isolation}\"\n"));
    rig.start_daemon();
    write_echo(&rig);
    ok(&rig, &["define", "echo.xml"]);
    rig
}

fn start(rig: &Rig) -> Duration {
    let begun = Instant::now();
    ok(rig, &["start", "echo"]);
    let time = begun.elapsed();
    ok(rig, &["destroy", "echo"]);
    time
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn isolation_costs_a_start_little() {
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        println!("SKIP: /dev/kvm cannot be opened");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: all layers of it take root");
        return;
    }
    let (with, without) = (daemon("possible"), daemon("off"));
    for (rig, is_isolated) in [(&with, true), (&without, false)] {
        ok(rig, &["start", "echo"]);
        let said = ok(rig, &["security", "echo"]);
        assert_eq!(said.contains("empty, read-only"), is_isolated, "{said}");
        ok(rig, &["destroy", "echo"]);
    }
    // In turn, so that what else the host does hits both.
    let times = (0..ROUNDS).map(|_| (start(&with), start(&without)));
    let (with, without): (Vec<_>, Vec<_>) = times.unzip();
    let (with, without) = (median(with), median(without));
    println!("isolation: a start takes {with:?} with it, {without:?} without");
    assert!(with < without + MOST, "{with:?} with isolation, {without:?} without");
}
