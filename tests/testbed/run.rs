//! `manor run`: guests without a daemon, one device after the other.

use std::time::Duration;

use anyhow::{Context, Result};
use manor_tests::Testbed;
use manor_tests::testbed::Outcome;

use crate::rig::{LONG, Xml, host, refused};

/// Exit status of `manor run` when the guest crashed.
const CRASHED: i32 = 8;

pub(crate) fn run(host: &Testbed, xml: &Xml) -> Result<(Outcome, String)> {
    let mut run = start(host, xml)?;
    let outcome = run.wait(LONG)?;
    Ok((outcome, run.text().to_owned()))
}

fn start(host: &Testbed, xml: &Xml) -> Result<manor_tests::testbed::Running> {
    let file = format!("/run/e2e/{}.xml", xml.name);
    host.write(&file, xml.text().as_bytes())?;
    host.spawn(&["manor", "run", &file])
}

#[test]
fn the_kernel_log_appears_and_poweroff_ends_with_status_0() -> Result<()> {
    let mut xml = Xml::new("run-log", "manor.cpus manor.end=poweroff loglevel=7 ignore_loglevel");
    xml.vcpus = 4;
    let (outcome, text) = run(&host()?, &xml)?;
    assert_eq!(outcome, Outcome::Code(0), "{text}");
    for line in ["Linux version 6.1", "Hypervisor detected: KVM", "MANOR-GUEST-UP", "MANOR-CPUS 4"]
    {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    Ok(())
}

#[test]
fn a_pvh_kernel_runs_with_memory_on_both_sides_of_the_hole() -> Result<()> {
    let host = host()?;
    let mut xml = Xml::new("run-pvh", "manor.end=poweroff loglevel=7 ignore_loglevel");
    xml.kernel = "/guest/vmlinux".into();
    // As much as the host lets anybody have, of which the guest touches little.
    xml.memory_mib = 3 << 10;
    let (outcome, text) = run(&host, &xml)?;
    assert_eq!(outcome, Outcome::Code(0), "{text}");
    assert!(text.contains("[mem 0x0000000100000000-0x00000001"), "nothing above 4 GiB:\n{text}");
    Ok(())
}

#[test]
fn a_disk_keeps_what_was_written_in_every_cache_mode() -> Result<()> {
    let host = host()?;
    let file = "/mnt/scratch/run-disk.img";
    for cache in ["writeback", "none", "writethrough", "directsync", "unsafe"] {
        host.sh(&format!("rm -f {file}; truncate -s 8M {file}"))?;
        let mut xml = Xml::new("run-disk", "manor.disk=vda manor.blk=vda manor.end=poweroff").disk(
            file,
            "vda",
            "<serial>SERIAL-7</serial>",
        );
        xml.devices = xml.devices.replace("type='raw'", &format!("type='raw' cache='{cache}'"));
        let (outcome, text) = run(&host, &xml)?;
        assert_eq!(outcome, Outcome::Code(0), "cache={cache}: {text}");
        assert!(text.contains("MANOR-BLK vda sectors=16384 ro=0 serial=SERIAL-7"), "{text}");
        let hash = word_after(&text, "MANOR-DISK-OK vda ")?;
        let on_disk = host.sh(&format!("dd if={file} bs=4096 count=16 2>/dev/null | md5sum"))?;
        assert_eq!(on_disk.split(' ').next(), Some(hash), "cache={cache}");
    }
    Ok(())
}

#[test]
fn a_read_only_disk_cannot_be_written() -> Result<()> {
    let host = host()?;
    let file = "/mnt/scratch/run-ro.img";
    host.sh(&format!("dd if=/dev/urandom of={file} bs=1M count=4 2>/dev/null"))?;
    let before = host.sh(&format!("md5sum {file}"))?;
    let xml = Xml::new("run-ro", "manor.blk=vda manor.disk=vda manor.end=poweroff").disk(
        file,
        "vda",
        "<readonly/>",
    );
    let (outcome, text) = run(&host, &xml)?;
    assert_eq!(outcome, Outcome::Code(0), "{text}");
    assert!(text.contains("MANOR-FAIL cannot write /dev/vda"), "{text}");
    assert!(text.contains("MANOR-BLK vda sectors=8192 ro=1"), "{text}");
    assert_eq!(host.sh(&format!("md5sum {file}"))?, before);
    Ok(())
}

#[test]
fn an_image_in_use_is_refused_to_a_second_domain() -> Result<()> {
    let host = host()?;
    let file = "/mnt/scratch/run-lock.img";
    host.sh(&format!("rm -f {file}; truncate -s 4M {file}"))?;
    let mut first = start(&host, &Xml::new("run-lock-1", "").disk(file, "vda", ""))?;
    first.expect("MANOR-READY", LONG)?;
    let second = Xml::new("run-lock-2", "").disk(file, "vda", "");
    host.write("/run/e2e/run-lock-2.xml", second.text().as_bytes())?;
    let error = refused(&host, "manor run /run/e2e/run-lock-2.xml")?;
    assert!(error.contains(file) && error.contains("in use"), "{error}");
    Ok(())
}

#[test]
fn the_network_answers_both_ways_over_a_bridge() -> Result<()> {
    let host = host()?;
    host.sh("ip link del br-run 2>/dev/null || true
         ip link add br-run type bridge
         ip addr add 10.77.1.1/24 dev br-run
         ip link set br-run up")?;
    let words = "manor.ip=10.77.1.2/24 manor.ping=10.77.1.1 manor.rng manor.end=shell";
    let mut xml =
        Xml::new("run-net", words).bridge("br-run", "52:54:00:00:77:01", "<mtu size='1400'/>");
    xml.devices
        .push_str("<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>");
    let mut guest = start(&host, &xml)?;
    guest.expect("MANOR-NET-UP 10.77.1.2/24 52:54:00:00:77:01", LONG)?;
    guest.expect("MANOR-PING-OK 10.77.1.1", LONG)?;
    guest.expect("MANOR-RNG-OK", LONG)?;
    host.sh("ping -c 3 -W 5 10.77.1.2")?;
    guest.input(b"cat /sys/class/net/eth0/mtu | sed s/^/mtu-is-/\n")?;
    guest.expect("mtu-is-1400", LONG)?;
    guest.input(b"poweroff -f\n")?;
    assert_eq!(guest.wait(LONG)?, Outcome::Code(0), "{}", guest.text());
    // Its tap went with it.
    assert_eq!(host.sh("ls /sys/class/net/br-run/brif")?, "");
    host.sh("ip link del br-run")?;
    Ok(())
}

#[test]
fn a_reboot_starts_over_or_ends_as_the_definition_says() -> Result<()> {
    let host = host()?;
    let mut xml = Xml::new("run-reboot", "manor.end=shell");
    let mut guest = start(&host, &xml)?;
    guest.expect("MANOR-READY", LONG)?;
    guest.input(b"reboot -f\n")?;
    until_seen_twice(&mut guest, "MANOR-READY")?;
    guest.input(b"poweroff -f\n")?;
    assert_eq!(guest.wait(LONG)?, Outcome::Code(0), "{}", guest.text());

    xml.words = "manor.end=reboot".into();
    xml.domain = "<on_reboot>destroy</on_reboot>".into();
    let (outcome, text) = run(&host, &xml)?;
    assert_eq!(outcome, Outcome::Code(0), "{text}");
    assert_eq!(text.matches("MANOR-GUEST-UP").count(), 1, "{text}");
    Ok(())
}

#[test]
fn a_poweroff_restarts_where_the_definition_says_so() -> Result<()> {
    let host = host()?;
    let mut xml = Xml::new("run-again", "manor.end=poweroff");
    xml.domain = "<on_poweroff>restart</on_poweroff>".into();
    let mut guest = start(&host, &xml)?;
    until_seen_twice(&mut guest, "MANOR-READY")
}

#[test]
fn a_triple_fault_is_a_reported_crash_with_registers() -> Result<()> {
    let (outcome, text) = run(&host()?, &Xml::new("run-triple", "reboot=triple manor.end=reboot"))?;
    assert_eq!(outcome, Outcome::Code(CRASHED), "{text}");
    assert!(text.contains("the guest crashed"), "{text}");
    assert!(text.contains("rip"), "no registers in\n{text}");
    Ok(())
}

#[test]
fn a_panic_reaches_the_panic_device_and_counts_as_a_crash() -> Result<()> {
    let host = host()?;
    let mut xml = Xml::new("run-panic", "manor.end=panic");
    xml.devices = "<panic model='isa'/>".into();
    let (outcome, text) = run(&host, &xml)?;
    assert_eq!(outcome, Outcome::Code(CRASHED), "{text}");
    assert!(text.contains("panic"), "{text}");
    // Without the device the kernel's own reboot is all there is to see.
    xml.devices.clear();
    xml.domain = "<on_reboot>destroy</on_reboot>".into();
    let (outcome, text) = run(&host, &xml)?;
    assert_eq!(outcome, Outcome::Code(0), "{text}");
    Ok(())
}

fn until_seen_twice(guest: &mut manor_tests::testbed::Running, text: &str) -> Result<()> {
    let until = std::time::Instant::now() + LONG;
    while guest.text().matches(text).count() < 2 {
        anyhow::ensure!(std::time::Instant::now() < until, "once only: {}", guest.text());
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

pub(crate) fn word_after<'a>(text: &'a str, before: &str) -> Result<&'a str> {
    let (_, rest) = text.split_once(before).with_context(|| format!("no {before:?} in\n{text}"))?;
    rest.split_whitespace().next().context("nothing follows")
}
