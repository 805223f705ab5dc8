//! `cargo xtask demo`: the main job from beginning to end, on this host's KVM or in the testbed.

mod place;

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use manor_tests::http::Reply;
use manor_tests::{Api, binaries, guest, paths};

use place::Place;

const DOMAIN: &str = "demo";
const FILES: &str = "/var/lib/manor/demo";
const RUN: &str = "/run/manor-demo";
const BRIDGE: &str = "manor-demo";
const BRIDGE_ADDRESS: &str = "192.168.77.1/24";
const WANTED: [&str; 2] = ["MANOR-DISK-OK", "MANOR-PING-OK"];
const FAILED: &str = "MANOR-FAIL";
/// Seconds on hardware; the emulated host may have to share its processors with a build.
const GUEST_LIMIT: Duration = Duration::from_secs(180);
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(90);

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let clock = Clock(Instant::now());
    clock.say("building manor (the first time takes minutes)");
    let manor = binaries::build_manor()?;
    clock.say("looking at this host's KVM");
    let (place, why) = Place::choose(&manor)?;
    clock.say(&format!("running {}: {why}", place.name()));
    // Packages come on first use; say so before the silence.
    clock.say("preparing a guest: Debian's cloud kernel, a small initrd, a disk");
    let result = place.begin().and_then(|()| {
        prepare(&place, &manor)?;
        main_job(&place, &clock)
    });
    if result.is_err()
        && let Ok(log) = place.sh(&format!("tail -n 20 {RUN}/daemon.log"))
    {
        eprintln!("the end of the daemon's log:\n{log}");
    }
    clock.say("cleaning up");
    let swept = sweep(&place);
    let ended = place.end();
    result.and(swept).and(ended)?;
    clock.say("done: defined, started, watched, listed and shut down, and nothing is left behind");
    Ok(ExitCode::SUCCESS)
}

/// What `resources/examples/demo.xml` names, and the daemon's configuration.
fn prepare(place: &Place, manor: &std::path::Path) -> anyhow::Result<()> {
    // A run that was interrupted may have left things.
    sweep(place)?;
    place.sh(&format!("mkdir -p {FILES} {RUN}"))?;
    place.put(manor, &format!("{FILES}/manor"))?;
    place.put(&guest::kernel()?, &format!("{FILES}/vmlinuz"))?;
    place.put(&guest::initrd()?, &format!("{FILES}/initrd"))?;
    place.put(&guest::busybox()?, &format!("{FILES}/busybox"))?;
    place.write(&format!("{FILES}/manor.toml"), &config(place.daemon_port()))?;
    let ip = format!("{FILES}/busybox ip");
    place.sh(&format!(
        "truncate -s 64M {FILES}/disk.img
         {ip} link add {BRIDGE} type bridge
         {ip} addr add {BRIDGE_ADDRESS} dev {BRIDGE}
         {ip} link set {BRIDGE} up"
    ))?;
    Ok(())
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

fn main_job(place: &Place, clock: &Clock) -> anyhow::Result<()> {
    let cli = |words: &str| -> anyhow::Result<()> {
        let command = format!("{FILES}/manor --connect {RUN}/api.sock {words}");
        println!("$ manor {words}\n{}", place.sh(&command)?.trim_end());
        Ok(())
    };
    clock.say("starting the daemon");
    place.sh(&format!(
        "{FILES}/manor daemon --config {FILES}/manor.toml >{RUN}/daemon.log 2>&1 </dev/null &
         echo $! >{RUN}/daemon.pid"
    ))?;
    let api = Api::on(place.port_here());
    api.await_ready(Duration::from_secs(30))?;

    let request = |what: &str, answer: anyhow::Result<Reply>| -> anyhow::Result<()> {
        let reply = answer.and_then(Reply::success).with_context(|| what.to_owned())?;
        clock.say(&format!("{what}: HTTP {}", reply.status));
        Ok(())
    };
    let file = paths::workspace().join("resources/examples/demo.xml");
    let xml = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file:?}"))?;
    request(
        "POST /v1/domains with resources/examples/demo.xml",
        api.post_xml("/v1/domains", &xml),
    )?;
    request("POST /v1/domains/demo/start", api.post("/v1/domains/demo/start"))?;
    clock.say("the guest's console, until it has used its disk and its network:");
    watch(&api)?;
    cli("list")?;
    cli("dominfo demo")?;
    request("POST /v1/domains/demo/shutdown", api.post("/v1/domains/demo/shutdown"))?;
    let state = api.await_state(DOMAIN, "shut-off", SHUTDOWN_LIMIT)?;
    clock.say(&format!(
        "the guest is shut off (reason: {})",
        state["reason"].as_str().unwrap_or("?")
    ));
    cli("list --all")?;
    request("DELETE /v1/domains/demo", api.delete("/v1/domains/demo"))
}

fn watch(api: &Api) -> anyhow::Result<()> {
    let mut console = api.console(DOMAIN)?;
    let until = Instant::now() + GUEST_LIMIT;
    let mut shown = 0;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let new = console.read(left)?;
        let lines_end = console.text().rfind('\n').map_or(0, |at| at + 1);
        for line in console.text()[shown..lines_end.max(shown)].lines() {
            println!("  | {}", plain(line));
        }
        shown = shown.max(lines_end);
        let text = &console.text()[..shown];
        if let Some(line) = text.lines().find(|line| line.contains(FAILED)) {
            bail!("the guest says: {}", plain(line));
        }
        if WANTED.iter().all(|word| text.contains(word)) {
            return Ok(());
        }
        if new.is_empty() {
            let missing: Vec<_> = WANTED.iter().filter(|word| !text.contains(**word)).collect();
            let how = if console.is_closed() { "has ended" } else { "is silent" };
            bail!("the guest {how} and did not say {missing:?}");
        }
    }
}

/// A guest's bytes are its own; a terminal should not obey them.
fn plain(line: &str) -> String {
    line.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

/// Also after a run that was cut off: whatever is there goes.
fn sweep(place: &Place) -> anyhow::Result<()> {
    let left = place.sh(&format!(
        "manor={FILES}/manor
         test -f $manor && test -S {RUN}/api.sock && $manor --connect {RUN}/api.sock destroy demo || true
         test -f {RUN}/daemon.pid && kill $(cat {RUN}/daemon.pid) || true
         for try in 1 2 3 4 5 6 7 8 9 10; do
             running=
             for exe in /proc/[0-9]*/exe; do
                 case $(readlink $exe) in $manor*) running=\"$running ${{exe%/exe}}\" ;; esac
             done
             test -n \"$running\" || break
             sleep 1
         done
         for process in $running; do kill -9 ${{process#/proc/}}; echo \"${{process#/proc/}}\"; done
         test ! -e /sys/class/net/{BRIDGE} || {FILES}/busybox ip link del {BRIDGE}
         rm -rf {FILES} {RUN}
         rmdir /var/lib/manor 2>/dev/null || true"
    ));
    let left = left.context("cannot clean up")?;
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
