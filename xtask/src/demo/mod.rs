//! `cargo xtask demo`: the main job from beginning to end, on this host's KVM or in the testbed.

mod console;
mod outside;
mod place;
mod story;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use manor_tests::{binaries, guest};

use outside::Outside;
use place::Place;

const FILES: &str = "/var/lib/manor/demo";
const RUN: &str = "/run/manor-demo";

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let clock = Clock(Instant::now());
    clock.say("building manor (the first time takes minutes)");
    let manor = binaries::build_manor()?;
    clock.say("looking at this host's KVM");
    let (place, why) = Place::choose(&manor)?;
    clock.say(&format!("running {}: {why}", place.name()));
    tell(&place, &manor, &clock)?;
    Ok(ExitCode::SUCCESS)
}

/// The same in an emulated host, whatever this one can.
pub(crate) fn run_emulated() -> anyhow::Result<()> {
    tell(&Place::emulated(), &binaries::build_manor()?, &Clock(Instant::now()))
}

fn tell(place: &Place, manor: &Path, clock: &Clock) -> anyhow::Result<()> {
    // Packages come on first use; say so before the silence.
    clock.say("preparing a guest: Debian's cloud kernel, a small initrd, an image");
    let result = place.begin().and_then(|()| {
        prepare(place, manor)?;
        story::tell(place, clock)
    });
    if result.is_err()
        && let Ok(log) = place.sh(&format!("tail -n 20 {RUN}/daemon.log"))
    {
        eprintln!("the end of the daemon's log:\n{log}");
    }
    clock.say("cleaning up");
    let swept = sweep(place);
    let ended = place.end();
    result.and(swept).and(ended)?;
    clock.say("done, and nothing is left behind");
    Ok(())
}

/// What `resources/examples/demo.xml` names, and the daemon's configuration.
fn prepare(place: &Place, manor: &Path) -> anyhow::Result<()> {
    // A run that was interrupted may have left things.
    sweep(place)?;
    place.sh(&format!("mkdir -p {FILES} {RUN}"))?;
    place.put(manor, &format!("{FILES}/manor"))?;
    place.put(&guest::kernel()?, &format!("{FILES}/vmlinuz"))?;
    place.put(&guest::initrd()?, &format!("{FILES}/initrd"))?;
    place.put(&guest::busybox()?, &format!("{FILES}/busybox"))?;
    place.write(&format!("{FILES}/manor.toml"), &config(place.daemon_port()))
}

/// Apart from a daemon that may run on this host already.
fn config(port: u16) -> String {
    format!(
        "state_dir = \"{FILES}/state\"
run_dir = \"{RUN}\"
log_dir = \"{FILES}/log\"
[api]
socket = \"{RUN}/api.sock\"
socket_group = \"\"
read_only_socket = \"\"
listen = \"127.0.0.1:{port}\"
listen_access = \"admin\"
"
    )
}

/// Also after a run that was cut off: whatever is there goes.
fn sweep(place: &Place) -> anyhow::Result<()> {
    let left = place.sh(&format!(
        "manor() {{ test -f {FILES}/manor && test -S {RUN}/api.sock && \
             {FILES}/manor --connect {RUN}/api.sock \"$@\" >/dev/null 2>&1 || true; }}
         manor destroy demo
         manor net-destroy default
         test -f {RUN}/daemon.pid && kill $(cat {RUN}/daemon.pid) || true
         for try in 1 2 3 4 5 6 7 8 9 10; do
             running=
             for exe in /proc/[0-9]*/exe; do
                 case $(readlink $exe) in {FILES}/manor*) running=\"$running ${{exe%/exe}}\" ;; esac
             done
             test -n \"$running\" || break
             sleep 1
         done
         for process in $running; do kill -9 ${{process#/proc/}}; echo \"${{process#/proc/}}\"; done"
    ));
    let gone = Outside::sweep(place).and_then(|()| {
        place.sh(&format!("rm -rf {FILES} {RUN}; rmdir /var/lib/manor 2>/dev/null || true"))
    });
    let left = left.and_then(|left| gone.map(|_| left)).context("cannot clean up")?;
    if left.lines().any(|line| line.parse::<u32>().is_ok()) {
        bail!("processes were left and had to be killed: {}", left.replace('\n', " "));
    }
    Ok(())
}

/// Progress with the time since the beginning.
struct Clock(Instant);

impl Clock {
    fn say(&self, what: &str) {
        println!("[{:6.1} s] {what}", self.0.elapsed().as_secs_f32());
        let _ = std::io::stdout().flush();
    }
}
