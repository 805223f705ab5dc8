//! `manor run` without a machine: its own process, as a shell would start it.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rig::{Host, TestBroker};
use crate::cloud_init::CloudInit;
use crate::foreground::{Options, run_with};

const ROLE: &str = "MANOR_TEST_RUN";

#[tokio::test]
async fn plays_manor_run_when_it_is_started_as_such() {
    let Some(place) = std::env::var_os(ROLE) else { return };
    let place = std::path::PathBuf::from(place);
    let xml = std::fs::read_to_string(place.join("web.xml")).unwrap();
    let cloud_init =
        Some(CloudInit { user_data: "#cloud-config\n".to_owned(), ..CloudInit::default() });
    let options = Options { xml, cloud_init, run_dir: place.join("run"), seccomp: false };
    let mut warnings = 0;
    let ended = run_with(options, |_| warnings += 1, Arc::new(TestBroker::new())).await;
    std::fs::write(place.join("ended"), format!("{ended:?}")).unwrap();
    std::process::exit(0);
}

struct Session {
    host: Host,
    child: std::process::Child,
}

impl Session {
    fn start(script: &str) -> Self {
        let host = Host::new();
        std::fs::write(host.path("web.xml"), host.xml("web", script)).unwrap();
        let test = "tests::foreground::plays_manor_run_when_it_is_started_as_such";
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(ROLE, host.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { host, child }
    }

    fn read_until(&mut self, words: &str) {
        let stdout = self.child.stdout.as_mut().unwrap();
        let (mut seen, mut byte) = (String::new(), [0]);
        while !seen.ends_with(words) {
            assert_eq!(stdout.read(&mut byte).unwrap(), 1, "ended after {seen:?}");
            seen.push(char::from(byte[0]));
        }
    }

    fn type_in(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// How the guest ended, when nothing is left of it.
    fn end(mut self) -> String {
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let left = std::fs::read_dir(self.host.path("run/run"));
        assert_eq!(left.map_or(0, Iterator::count), 0);
        std::fs::read_to_string(self.host.path("ended")).unwrap()
    }
}

#[test]
fn the_console_is_on_the_terminal_until_the_guest_ends() {
    let mut session = Session::start("");
    session.read_until("boot 1\n");
    let beside = std::fs::read_dir(session.host.path("run/run")).unwrap();
    let mut names = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.any(|name| name.ends_with(".iso")), "it has its seed");
    session.type_in("hello\n");
    session.read_until("hello: not found\n");
    session.type_in("poweroff\n");
    assert_eq!(session.end(), "Ok(Shutdown)");
}

#[test]
fn the_escape_character_destroys_the_guest() {
    let mut session = Session::start("");
    session.read_until("boot 1\n");
    session.type_in("\u{1d}");
    assert_eq!(session.end(), "Ok(Destroyed)");
}

#[test]
fn the_end_of_input_is_not_the_end_of_the_guest() {
    let mut session = Session::start("");
    session.read_until("boot 1\n");
    session.type_in("crash\n");
    drop(session.child.stdin.take());
    let ended = session.end();
    assert!(ended.starts_with("Ok(Crashed(") && ended.contains("triple fault"), "{ended}");
}

#[test]
fn a_guest_that_cannot_be_built_is_told_with_its_reason() {
    let ended = Session::start("cannot-build").end();
    assert!(ended.contains("Failed { message: \"kernel is not one\" }"), "{ended}");
}

#[test]
fn a_signal_ends_the_guest_in_order() {
    let mut session = Session::start("");
    session.read_until("boot 1\n");
    let pid = session.child.id();
    super::rig::signal(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(session.end(), "Ok(Destroyed)");
}

#[test]
fn the_guest_does_not_outlive_a_killed_manor_run() {
    let mut session = Session::start("");
    session.read_until("boot 1\n");
    let entries = std::fs::read_dir(session.host.path("run/run")).unwrap();
    let dir = entries.map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let record = crate::domain::record::Record::read(&dir).unwrap();
    session.child.kill().unwrap();
    session.child.wait().unwrap();
    let start = Instant::now();
    while record.process.unwrap().open().is_some_and(|_| !is_zombie(record.process.unwrap().pid)) {
        assert!(start.elapsed() < Duration::from_secs(10), "the guest lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Nobody here reaps it; what counts is that it does not run.
fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.contains(") Z ")
}
