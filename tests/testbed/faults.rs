//! A disk of the host that fails under a running guest, by the device mapper's own faults: the guest waits
//! for it, goes on when it is mended, and has lost nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use manor_tests::{Testbed, qemu};

use crate::rig::{Daemon, LONG, Xml};

const DIR: &str = "/mnt/scratch/faults";
const DEVICE: &str = "/dev/mapper/flaky";
/// Bytes of the device, and sectors.
const SIZE: &str = "24M";
const SECTORS: u32 = 24 << 11;
const DM: &str = "dmsetup --noudevsync --noudevrules";

#[test]
fn a_guest_waits_for_a_disk_that_fails_and_loses_nothing() -> Result<()> {
    let daemon = &crate::pools::daemon("faults")?;
    let host = &daemon.host;
    host.sh(&format!(
        "modprobe dm-flakey; rm -rf {DIR}; mkdir {DIR}; cd {DIR}
         manor image create -f qcow2 disk.qcow2 16M
         truncate -s {SIZE} device; dd if=disk.qcow2 of=device conv=notrunc 2>/dev/null
         losetup /dev/loop2 device
         {DM} create flaky --table '{}'
         test -e {DEVICE} || mknod {DEVICE} b $(dmsetup info -c --noheadings --separator ' ' -o major,minor flaky)",
        good()
    ))?;
    let mut xml = Xml::new("flaky", "manor.end=shell");
    xml.devices.push_str(&disk("stop"));
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell("flaky")?;
    let data = "dd if=/dev/urandom of=/tmp/data bs=64k count=64 2>/dev/null; md5sum </tmp/data";
    // The terminal shows what was typed as well.
    let said = shell.run(data)?;
    let is_hash = |word: &&str| word.len() == 32 && word.bytes().all(|it| it.is_ascii_hexdigit());
    let hash = said.split_whitespace().find(is_hash).context("no hash")?;

    // It fails while the guest writes: nothing of it reaches the guest.
    swap(daemon, &bad())?;
    write_later(&mut shell)?;
    await_state(daemon, "paused (I/O error)")?;
    let errors = daemon.manor("domblkerror flaky")?;
    ensure!(errors.contains("vda: unspecified error"), "{errors}");
    // A disk that is not mended yet: the same again.
    daemon.manor("resume flaky")?;
    await_state(daemon, "paused (I/O error)")?;
    swap(daemon, &good())?;
    daemon.manor("resume flaky")?;
    let end = shell.run_within("until grep end= /tmp/end; do sleep 1; done", LONG)?;
    ensure!(end.contains("end=0"), "the guest saw it: {end}");
    ensure!(daemon.manor("domblkerror flaky")?.contains("No errors found"), "it is mended");
    let read =
        "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda bs=64k count=64 2>/dev/null | md5sum";
    let seen = shell.run(read)?;
    ensure!(seen.contains(hash), "the guest wrote {hash}, and reads {seen}");

    // Another policy from now on, in the running guest.
    host.write("/run/flaky.xml", disk("report").as_bytes())?;
    daemon.manor("update-device flaky /run/flaky.xml --live")?;
    ensure!(daemon.manor("dumpxml flaky")?.contains("error_policy='report'"), "not in dumpxml");
    swap(daemon, &bad())?;
    write_later(&mut shell)?;
    let end = shell.run_within("until grep end= /tmp/end; do sleep 1; done", LONG)?;
    ensure!(end.contains("end=1"), "the guest saw nothing: {end}");
    ensure!(daemon.manor("domstate flaky")?.contains("running"), "it was paused");
    swap(daemon, &good())?;
    daemon.manor("destroy flaky")?;

    host.sh(&format!("{DM} remove flaky; losetup -d /dev/loop2"))?;
    let image = tempfile::NamedTempFile::new()?;
    std::fs::write(image.path(), host.read(&format!("{DIR}/device"))?)?;
    let checked = qemu::image_tools()?
        .img
        .command()
        .args(["check", "-f", "qcow2"])
        .arg(image.path())
        .output()?;
    let text = String::from_utf8_lossy(&checked.stdout);
    ensure!(checked.status.success() && text.contains("No errors were found"), "{text}");
    Testbed::down("faults")
}

fn good() -> String {
    format!("0 {SECTORS} linear /dev/loop2 0")
}

/// Never up, and down for an hour: all that comes fails.
fn bad() -> String {
    format!("0 {SECTORS} flakey /dev/loop2 0 0 3600")
}

fn disk(policy: &str) -> String {
    format!(
        "<disk type='block' device='disk'>\
         <driver name='qemu' type='qcow2' cache='none' error_policy='{policy}'/>\
         <source dev='{DEVICE}'/><target dev='vda' bus='virtio'/></disk>"
    )
}

/// The device is open, and stays the same one.
fn swap(daemon: &Daemon, table: &str) -> Result<()> {
    let script = format!(
        "{DM} suspend --noflush --nolockfs flaky && {DM} load flaky --table '{table}' && {DM} resume flaky"
    );
    daemon.host.sh(&script).map(drop)
}

/// In a moment: a guest that is paused does not give the prompt back.
fn write_later(shell: &mut crate::rig::Shell) -> Result<()> {
    let write = "dd if=/tmp/data of=/dev/vda bs=64k count=64 conv=fsync";
    let command =
        format!("rm -f /tmp/end; (sleep 2; {write}; echo end=$? >/tmp/end) >/dev/null 2>&1 & true");
    shell.run(&command).map(drop)
}

fn await_state(daemon: &Daemon, wanted: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let state = daemon.manor("domstate flaky --reason")?;
        if state.trim() == wanted {
            return Ok(());
        }
        ensure!(start.elapsed() < LONG, "it is {state}, not {wanted}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
