//! What a guest's clocks say after it was saved, and in its twin: they go on where they stopped, on all
//! vCPUs, and a timer that was set before goes off when as much time has passed for the guest.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::rig::{Daemon, LONG, Shell, Xml};

/// Of a timer, in the guest.
const SLEEP: u64 = 8;
/// How long nothing of the guest is there.
const OFF: Duration = Duration::from_secs(12);
/// For a timer of a guest whose host is slow, and for a reading over a console: hundredths.
const SLACK: u64 = 300;

/// Readings of one moment, hundredths of a second.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// Since the guest booted (`CLOCK_BOOTTIME`), to the hundredth.
    up: u64,
    /// Time of day, to the second.
    date: u64,
}

#[test]
fn clocks_stand_still_while_a_guest_is_saved_and_timers_go_off_after_it() -> Result<()> {
    let daemon = Daemon::start("clocks")?;
    let mut shell = begin(&daemon, "clocks")?;
    let (before, begun) = (read(&mut shell)?, Instant::now());
    set_timer(&mut shell)?;
    drop(shell);
    daemon.manor("managedsave clocks")?;
    std::thread::sleep(OFF);
    daemon.manor("start clocks")?;
    let mut shell = daemon.shell_again("clocks")?;
    let after = read(&mut shell)?;
    let on = hundredths(begun.elapsed() - OFF);
    let passed = passed(before, after)?;
    ensure!(passed <= on + 50, "{passed} passed for the guest, which was there for {on}");
    check_timer(&mut shell)?;
    check_rate(&mut shell)?;
    check_quiet(&mut shell)?;
    daemon.manor("destroy clocks")?;
    daemon.manor("undefine clocks")?;
    Ok(())
}

#[test]
fn a_guest_and_its_twin_have_the_same_time_and_each_its_timer() -> Result<()> {
    let daemon = Daemon::start("twins")?;
    let mut shell = begin(&daemon, "one")?;
    let before = read(&mut shell)?;
    set_timer(&mut shell)?;
    daemon.manor("clone one two")?;
    let mut other = daemon.shell_again("two")?;
    for shell in [&mut shell, &mut other] {
        let after = read(shell)?;
        passed(before, after)?;
        check_timer(shell)?;
        check_quiet(shell)?;
    }
    for name in ["one", "two"] {
        daemon.manor(&format!("destroy {name}"))?;
        daemon.manor(&format!("undefine {name}"))?;
    }
    Ok(())
}

/// A guest of two vCPUs that looks at its clock all the time, and notes when it went back.
fn begin(daemon: &Daemon, name: &str) -> Result<Shell> {
    let mut xml = Xml::new(name, "manor.cpus manor.end=shell");
    xml.vcpus = 2;
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell(name)?;
    let source =
        shell.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    ensure!(source.contains("kvm-clock"), "the guest's clock is {source:?}");
    // What it says of the hardware's clocks while it boots is not of interest.
    shell.run(
        "dmesg -c >/dev/null
         (last=0; while :; do
             for cpu in 1 2; do
                 now=$(taskset $cpu sh -c 'read -r up _ </proc/uptime; echo ${up%.*}${up#*.}')
                 test $now -ge $last || echo $now after $last >>/tmp/back
                 last=$now
             done
         done) & true",
    )?;
    Ok(shell)
}

fn read(shell: &mut Shell) -> Result<Reading> {
    let text =
        shell.run("read -r up _ </proc/uptime; echo up=${up%.*}${up#*.} date=$(date +%s)")?;
    let reading = Reading { up: number(&text, "up=")?, date: number(&text, "date=")? * 100 };
    Ok(reading)
}

/// By both clocks, which agree.
fn passed(before: Reading, after: Reading) -> Result<u64> {
    let up = after.up.checked_sub(before.up);
    let date = after.date.checked_sub(before.date);
    let (up, date) = up.zip(date).with_context(|| format!("{after:?} is before {before:?}"))?;
    // The time of day is cut off, at both ends, and read a moment later.
    ensure!(up.abs_diff(date) <= 100 + SLACK, "{up} passed, {date} by the time of day");
    Ok(up)
}

fn set_timer(shell: &mut Shell) -> Result<()> {
    shell.run(&format!(
        "(read -r from _ </proc/uptime; sleep {SLEEP}; read -r to _ </proc/uptime
          echo from=${{from%.*}}${{from#*.}} to=${{to%.*}}${{to#*.}} >/tmp/slept) & true"
    ))?;
    Ok(())
}

fn check_timer(shell: &mut Shell) -> Result<()> {
    let text = shell
        .run_within("until test -s /tmp/slept; do usleep 100000; done; cat /tmp/slept", LONG)?;
    let (from, to) = (number(&text, "from=")?, number(&text, "to=")?);
    let slept = to.checked_sub(from).context("the timer went off before it was set")?;
    let wanted = SLEEP * 100;
    ensure!((wanted..wanted + SLACK).contains(&slept), "{slept} instead of {wanted}");
    println!("a timer of {wanted} went off after {slept}");
    Ok(())
}

/// That a second of the guest is one of ours.
fn check_rate(shell: &mut Shell) -> Result<()> {
    let (first, begun) = (read(shell)?, Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    let (second, ours) = (read(shell)?, hundredths(begun.elapsed()));
    let passed = passed(first, second)?;
    ensure!(passed.abs_diff(ours) <= SLACK, "{passed} passed for the guest, {ours} for us");
    Ok(())
}

/// Nothing that a kernel says of a clock it does not trust, or of time that it cannot explain.
fn check_quiet(shell: &mut Shell) -> Result<()> {
    let back = shell.run("cat /tmp/back 2>/dev/null || true")?;
    ensure!(!back.contains(" after "), "the clock went back: {back}");
    let said = shell.run("dmesg | grep -iE 'stall|unstable|lockup|blocked for|skew' || true")?;
    for word in
        ["stalls", "stalled", "self-detected", "as unstable", "soft lockup", "blocked for more"]
    {
        ensure!(!said.contains(word), "the kernel says: {said}");
    }
    Ok(())
}

fn number(text: &str, before: &str) -> Result<u64> {
    let at = text.rfind(before).with_context(|| format!("no {before} in {text:?}"))?;
    let digits = text[at + before.len()..].chars().take_while(char::is_ascii_digit);
    digits.collect::<String>().parse().with_context(|| format!("{before} in {text:?}"))
}

fn hundredths(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / 10).unwrap_or(u64::MAX)
}
