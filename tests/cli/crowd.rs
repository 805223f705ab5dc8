//! Ten thousand connections that say nothing: what the daemon admits of them, and what is left for others.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use manor_tests::tries::{Tries, resident_bytes_of};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::rig::{NOBODY, PATIENCE, Rig};

/// For a command, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(10);
/// What a daemon keeps open for one user of its sockets for everybody, and for itself.
const MOST_FILES: usize = 400;
/// Memory that connections may take together.
const MOST_MEMORY: u64 = 64 << 20;
/// And each of them; half of these have half of a request in them.
const MOST_OF_ONE: u64 = 64 << 10;
const SHORT: usize = 2_000;
/// Connections of one user to a socket for everybody, and to one for those who may change things.
const READERS: usize = 64;
const ADMINS: usize = 1024;

/// Where a process of a crowd finds its sockets, one a line.
const SOCKETS: &str = "MANOR_TEST_CROWD";
const READY: &str = "crowd: there";

fn files_of(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// As many connections as these, some half closed, some with half of a request in them.
fn crowd(sockets: &[&Path], count: usize) -> Vec<UnixStream> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    (0..count)
        .filter_map(|number| {
            let mut stream = UnixStream::connect(sockets[number % sockets.len()]).ok()?;
            match number / sockets.len() % 4 {
                0 => drop(stream.shutdown(std::net::Shutdown::Write)),
                1 => drop(stream.write(b"GET /v1/domains HTTP/1.1\r\nHost: loc")),
                2 => drop(stream.write(&[0, 0, 0, 28, 0x20, 0])),
                _ => {}
            }
            Some(stream)
        })
        .collect()
}

/// How many the daemon keeps, once it has come to all of them: `most`, or more if it does so for long.
fn kept(streams: &[UnixStream], most: usize) -> usize {
    let begun = Instant::now();
    loop {
        let kept = admitted(streams);
        if kept <= most || begun.elapsed() > 4 * PATIENCE {
            return kept;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Those of them that the daemon has not closed; some may still wait in the queue of the socket.
fn admitted(streams: &[UnixStream]) -> usize {
    let is_open = |stream: &&UnixStream| {
        stream.set_nonblocking(true).unwrap();
        let mut stream = *stream;
        matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    };
    streams.iter().filter(is_open).count()
}

/// The role of a process of another user: it comes, says so, and stays until its stdin ends.
#[test]
#[ignore = "a role in another test"]
fn a_crowd_of_another_user() {
    let Some(sockets) = std::env::var_os(SOCKETS) else { return };
    let sockets = sockets.into_string().unwrap();
    let sockets: Vec<&Path> = sockets.lines().map(Path::new).collect();
    let streams = crowd(&sockets, Tries::asked_or(SHORT).count);
    println!("{READY} {}", kept(&streams, 2 * READERS));
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_crowd_of_one_user_takes_nothing_from_others() {
    if !rustix::process::geteuid().is_root() {
        return println!("SKIP: only root is several users");
    }
    let torture = Tries::asked_or(SHORT);
    let rig = Rig::new();
    // Where another user may run it and reach the sockets.
    let program = rig.path("crowd");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(rig.directory.path(), open).unwrap();
    let before = (files_of(rig.daemon_pid()), resident_bytes_of(rig.daemon_pid() as u32));
    let sockets = ["run/api-ro.sock", "run/libvirt-sock-ro"].map(|name| rig.path(name));
    let sockets = sockets.map(|path| path.display().to_string()).join("\n");
    let mut other = rig.command(&program);
    std::os::unix::process::CommandExt::uid(&mut other, NOBODY);
    let mut other = Guard(
        other
            .args(["--ignored", "--exact", "--nocapture", "crowd::a_crowd_of_another_user"])
            .env(SOCKETS, sockets)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut said = String::new();
    let mut out = other.0.stdout.take().unwrap();
    while !said.lines().any(|line| line.starts_with(READY) && said.ends_with('\n')) {
        let mut byte = [0];
        assert_ne!(out.read(&mut byte).unwrap(), 0, "the crowd did not come: {said}");
        said.push(byte[0].into());
    }
    let there = said.lines().find_map(|line| line.strip_prefix(READY)).unwrap();
    let there: usize = there.trim().parse().unwrap();
    assert!(there > 0 && there <= 2 * READERS, "{there} are admitted");
    let read_only = rig.path("run/api-ro.sock").display().to_string();
    let mut slowest = Duration::ZERO;
    for words in [&["list"][..], &["-c", &read_only, "list"], &["version"]] {
        let begun = Instant::now();
        let outcome = rig.manor(words);
        assert_eq!(outcome.status, 0, "{words:?}: {}", outcome.err);
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < SOON, "{slowest:?}");
    let files = files_of(rig.daemon_pid());
    assert!(files < before.0 + MOST_FILES, "{} files became {files}", before.0);
    let memory = resident_bytes_of(rig.daemon_pid() as u32);
    assert!(memory < before.1 + MOST_MEMORY, "{} bytes became {memory}", before.1);
    torture.report(
        "idle connections of another user",
        format!("{there} admitted, {files} files open, commands took {slowest:?} at most"),
    );
    drop(other);
    super::rig::wait_for("their files to be closed", || files_of(rig.daemon_pid()) <= before.0 + 8);
}

/// Killed with the test.
struct Guard(std::process::Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who may do everything may do this as well; it ends when it ends, and half of the places are for others.
#[test]
fn a_crowd_of_an_admins_is_bounded_and_leaves_no_trace() {
    let torture = Tries::asked_or(SHORT);
    let rig = Rig::new();
    let before = (files_of(rig.daemon_pid()), resident_bytes_of(rig.daemon_pid() as u32));
    let sockets = ["run/api.sock", "run/libvirt-sock"].map(|name| rig.path(name));
    let streams = crowd(&sockets.each_ref().map(PathBuf::as_path), torture.count);
    let read_only = rig.path("run/api-ro.sock").display().to_string();
    let begun = Instant::now();
    let outcome = rig.manor(["-c", &read_only, "list"]);
    assert_eq!(outcome.status, 0, "{}", outcome.err);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let there = kept(&streams, 2 * ADMINS);
    let files = files_of(rig.daemon_pid());
    assert!(there <= 2 * ADMINS, "{there} are admitted");
    assert!(files < before.0 + 2 * ADMINS + MOST_FILES, "{} files became {files}", before.0);
    let memory = resident_bytes_of(rig.daemon_pid() as u32);
    let each = memory.saturating_sub(before.1) / there.max(1) as u64;
    assert!(each < MOST_OF_ONE, "{} bytes became {memory}, {each} for each", before.1);
    drop(streams);
    super::rig::wait_for("their files to be closed", || files_of(rig.daemon_pid()) <= before.0 + 8);
    assert_eq!(rig.manor(["list"]).status, 0);
    torture.report(
        "idle connections of an admin",
        format!(
            "{there} left open, {files} files open, {} MiB became {}, {} KiB for each",
            before.1 >> 20,
            memory >> 20,
            each >> 10
        ),
    );
}

/// `max_clients` says how many places there are; of those for everybody, one user leaves half to the others.
#[test]
fn a_user_has_half_of_the_places_that_the_configuration_names() {
    let mut rig = Rig::without_daemon();
    let config = std::fs::read_to_string(rig.path("manor.toml")).unwrap();
    let config = config.replace("socket_group", "max_clients = 8\nsocket_group");
    rig.write("manor.toml", config.replace("[libvirt]", "[libvirt]\nmax_clients = 8"));
    rig.start_daemon();
    let names = ["api.sock", "libvirt-sock", "libvirt-sock-ro", "api-ro.sock"];
    let sockets = names.map(|name| rig.path("run").join(name));
    let crowds = sockets.each_ref().map(|socket| {
        let all = (0..20).map(|_| UnixStream::connect(socket).unwrap());
        all.collect::<Vec<_>>()
    });
    for (name, crowd) in names.iter().zip(&crowds) {
        assert_eq!(kept(crowd, 4), 4, "{name}");
    }
    let mine = rig.manor(["list"]);
    assert!(mine.err.contains("this user has too many connections"), "{}", mine.err);
    if !rustix::process::geteuid().is_root() {
        return println!("SKIP: only root is several users");
    }
    let mut copy = std::process::Command::new("cp");
    assert!(copy.arg(&rig.binary).arg(rig.path("manor")).status().unwrap().success());
    let mut other = rig.command(&rig.path("manor"));
    std::os::unix::process::CommandExt::uid(&mut other, NOBODY);
    let outcome = other.arg("-c").arg(&sockets[3]).arg("list").output().unwrap();
    assert!(outcome.status.success(), "{outcome:?}");
}

/// What a shell of few files starts raises its limit before it takes a connection.
#[test]
fn a_daemon_with_few_files_leaves_some_for_its_own_work() {
    let mut rig = Rig::without_daemon();
    let script = rig.path("few");
    let binary = rig.binary.display();
    std::fs::write(&script, format!("#!/bin/sh\nulimit -n 512\nexec {binary} \"$@\"\n")).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, open).unwrap();
    let manor = std::mem::replace(&mut rig.binary, script);
    rig.start_daemon();
    rig.binary = manor;
    assert!(rig.daemon_log().contains("may have 512 files open"), "{}", rig.daemon_log());
    let sockets = ["api.sock", "api-ro.sock", "libvirt-sock", "libvirt-sock-ro"];
    let sockets = sockets.map(|name| rig.path("run").join(name));
    let streams = crowd(&sockets.each_ref().map(PathBuf::as_path), 400);
    std::thread::sleep(Duration::from_millis(500));
    let files = files_of(rig.daemon_pid());
    assert!(files < 256, "{files} of 512 files are open");
    drop(streams);
    // Whoever waited in the queue is gone.
    super::rig::wait_for("an answer", || rig.manor(["list"]).status == 0);
    assert!(!rig.daemon_log().contains("cannot accept"), "{}", rig.daemon_log());
}
