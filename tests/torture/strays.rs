//! What a rig has started is gone when the rig is, also where nobody had the time to end it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use manor_tests::warden::inmates;

use crate::objects::{define, domain, network, start};
use crate::rig::{Daemon, PATIENCE, Rig};

const ROLE: &str = "MANOR_TEST_ABANDONED";
const READY: &str = "abandoned: ";

/// A rig with one of each: a daemon and its broker, a network's process, a guest.
fn begun() -> Option<(Rig, Daemon)> {
    let rig = Rig::new("strays")?;
    let daemon = rig.start_daemon();
    rig.ask(rig.client.define_network(network("lab", "virbr7", 77), "")).unwrap();
    rig.ask(rig.client.network_verb("lab", "start")).unwrap();
    let name = format!("web-{}", rig.tag);
    define(&rig, domain(&rig, &name, "resting", "")).unwrap();
    start(&rig, &name).unwrap();
    Some((rig, daemon))
}

/// A test that looks for nobody finds nobody.
fn all_are_there(directory: &Path) {
    let there = inmates(directory);
    for kind in ["daemon --config", "run-broker", "manor guest=web", "manor network=lab"] {
        assert!(there.iter().any(|(_, line)| line.contains(kind)), "{kind}: {there:?}");
    }
}

#[test]
fn nothing_outlives_a_rig() {
    let Some((rig, daemon)) = begun() else { return };
    let directory = rig.directory.path().to_owned();
    all_are_there(&directory);
    drop(daemon);
    drop(rig);
    assert_eq!(inmates(&directory), []);
    assert!(!directory.exists());
}

#[test]
#[ignore = "a role in another test"]
fn a_rig_that_is_abandoned() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let Some((rig, _daemon)) = begun() else { return };
    println!("{READY}{}", rig.directory.path().display());
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn nothing_outlives_a_test_that_is_killed() {
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "strays::a_rig_that_is_abandoned"])
        .env(ROLE, "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(test.stdout.take().unwrap()).lines().map_while(Result::ok);
    let directory = lines.inspect(|line| println!("{line}")).find_map(|line| {
        // libtest may have begun the line with the test's name.
        line.split_once(READY).map(|(_, path)| PathBuf::from(path))
    });
    let found =
        directory.as_deref().map(|directory| std::panic::catch_unwind(|| all_are_there(directory)));
    test.kill().unwrap();
    test.wait().unwrap();
    // It has said why it cannot be.
    let Some(directory) = directory else { return };
    found.unwrap().unwrap();
    let until = Instant::now() + PATIENCE;
    while directory.exists() || !inmates(&directory).is_empty() {
        assert!(Instant::now() < until, "left behind: {:?}", inmates(&directory));
        std::thread::sleep(Duration::from_millis(20));
    }
}
