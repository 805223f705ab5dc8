//! What every test in the emulated host relies on.

#![allow(clippy::print_stdout, reason = "what a failed test shows")]

mod clocks;
mod costs;
mod disks;
mod documents;
mod faults;
mod filters;
mod guest_agent;
mod installed;
mod interfaces;
mod microvm;
mod networks;
mod plug;
mod pools;
mod processors;
mod refusals;
mod rig;
mod run;
mod side_by_side;
mod small_devices;
mod state;
mod state_costs;
mod storage;
mod systemd;
mod tuning;
mod uefi;
mod vcpus;

use std::time::Duration;

use anyhow::Result;
use manor_tests::Testbed;
use manor_tests::testbed::{HostCrash, Options, Outcome};

/// No `manor` binary needed: these are about the host itself.
fn host() -> Result<Testbed> {
    Testbed::up(&Options::shared())
}

#[test]
fn a_command_returns_its_output_and_status() -> Result<()> {
    let output = host()?.exec(&["sh", "-c", "echo out; echo err >&2; exit 7"])?;
    assert_eq!(output.outcome, Outcome::Code(7));
    assert_eq!((output.stdout().as_str(), output.stderr().as_str()), ("out\n", "err\n"));
    Ok(())
}

#[test]
fn a_command_reads_what_it_is_given() -> Result<()> {
    let output = host()?.command(&["md5sum"]).stdin(&b"hello"[..]).output()?;
    assert_eq!(output.success()?, "5d41402abc4b2a76b9719d911017c592  -\n");
    Ok(())
}

#[test]
fn a_command_that_hangs_is_ended_in_time() -> Result<()> {
    let host = host()?;
    let output = host.command(&["sleep", "1234"]).timeout(Duration::from_millis(300)).output()?;
    assert_eq!(output.outcome, Outcome::TimedOut);
    assert!(!host.sh("ps")?.contains("sleep 1234"));
    Ok(())
}

#[test]
fn a_measurement_that_runs_into_its_time_limit_takes_along_what_it_started() -> Result<()> {
    let host = host()?;
    let words = ["/init", "measure", "--until", "never said", "--"];
    let command = [words.as_slice(), &["sh", "-c", "sleep 2341; true"]].concat();
    let output = host.command(&command).timeout(Duration::from_secs(1)).output()?;
    assert_eq!(output.outcome, Outcome::TimedOut);
    assert!(!host.sh("ps")?.contains("sleep 2341"));
    Ok(())
}

#[test]
fn a_dropped_handle_ends_its_command() -> Result<()> {
    let host = host()?;
    let mut running = host.spawn(&["sh", "-c", "echo here; exec sleep 4321"])?;
    running.expect("here", Duration::from_secs(20))?;
    drop(running);
    for _ in 0..100 {
        if !host.sh("ps")?.contains("sleep 4321") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the command outlived its handle");
}

#[test]
fn a_daemon_outlives_the_command_that_started_it() -> Result<()> {
    let host = host()?;
    host.sh("sleep 30 >/dev/null 2>&1 & echo $! >/tmp/daemon")?;
    host.sh("kill -0 $(cat /tmp/daemon)")?;
    host.sh("kill $(cat /tmp/daemon)")?;
    Ok(())
}

#[test]
fn files_come_back_as_they_were_put() -> Result<()> {
    let host = host()?;
    let contents: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    host.write("/tmp/files/one", &contents)?;
    assert_eq!(host.read("/tmp/files/one")?, contents);
    // Changed inside since: the same contents must be sent again.
    host.sh("echo changed >/tmp/files/one")?;
    host.write("/tmp/files/one", &contents)?;
    assert_eq!(host.read("/tmp/files/one")?, contents);
    Ok(())
}

#[test]
fn the_host_has_what_a_virtual_machine_server_needs() -> Result<()> {
    host()?.sh("test -c /dev/kvm
         test -c /dev/net/tun
         test -c /dev/vhost-net
         test -d /sys/kernel/debug/kvm
         grep -q memory /sys/fs/cgroup/cgroup.subtree_control
         ip link add br-check type bridge
         ip link del br-check
         modprobe nft_masq")?;
    Ok(())
}

/// Disks with cache='none' need it.
#[test]
fn the_scratch_disk_takes_direct_io() -> Result<()> {
    host()?.sh("cd /mnt/scratch
         dd if=/dev/zero of=direct bs=4096 count=4 oflag=direct
         rm direct")?;
    Ok(())
}

/// Jails stand on it, and it does not work on an ordinary initramfs.
#[test]
fn a_process_can_leave_the_root_for_an_empty_one() -> Result<()> {
    let text = host()?.sh("mkdir -p /tmp/jail
         unshare -m sh -euc '
            mount -t tmpfs jail /tmp/jail
            mkdir /tmp/jail/old /tmp/jail/bin
            cp /bin/busybox /tmp/jail/bin
            cd /tmp/jail
            pivot_root . old
            exec /bin/busybox ls /'")?;
    assert_eq!(text, "bin\nold\n");
    Ok(())
}

#[test]
fn a_host_that_panics_is_reported_as_a_host_crash() -> Result<()> {
    let name = "crash";
    let host = Testbed::up(&Options { memory_mib: 512, ..Options::named(name) })?;
    let error = host.exec(&["sh", "-c", "echo c >/proc/sysrq-trigger"]).unwrap_err();
    let crash = error.downcast_ref::<HostCrash>().expect("a host crash");
    assert!(crash.reason.starts_with("Kernel panic"), "{}", crash.reason);
    let error = Testbed::running(name).unwrap_err();
    assert!(error.is::<HostCrash>(), "{error:#}");
    // Someone else starts it again: who held the first must not take the second for it.
    let second = Testbed::up(&Options { memory_mib: 512, ..Options::named(name) })?;
    assert!(host.exec(&["true"]).unwrap_err().is::<HostCrash>());
    second.sh("true")?;
    Testbed::down(name)
}
