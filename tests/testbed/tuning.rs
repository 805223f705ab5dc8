//! Limits of guests in a real cgroup hierarchy, and rates of a real tap and disk.

use anyhow::{Result, ensure};

use manor_tests::Xml;

use crate::rig::Daemon;

#[test]
fn a_guest_gets_what_its_tuning_says_and_what_is_said_while_it_runs() -> Result<()> {
    let daemon = Daemon::start("tuning")?;
    daemon.host.sh(
        "ip link show tunebr >/dev/null 2>&1 || ip link add tunebr type bridge; ip link set tunebr up",
    )?;
    daemon.host.sh("truncate -s 64M /mnt/scratch/tuning.img")?;
    let mut xml = Xml::new("tuning", "manor.end=shell")
        .disk(
            "/mnt/scratch/tuning.img",
            "vda",
            "<iotune><read_bytes_sec>1048576</read_bytes_sec></iotune>",
        )
        .bridge("tunebr", "52:54:00:aa:00:01", "<bandwidth><inbound average='1000'/></bandwidth>");
    xml.domain = "<cputune><shares>300</shares><global_quota>180000</global_quota>\
                  <period>50000</period><quota>45000</quota></cputune>\
                  <memtune><hard_limit unit='MiB'>1024</hard_limit></memtune>"
        .into();
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell("tuning")?;
    // Its own: guests of other suites may still have theirs on this host.
    let uuid = daemon.manor("domuuid tuning")?;
    let cgroup = format!("/sys/fs/cgroup/manor/domains/{}", uuid.trim());
    let read = |file: &str| -> Result<String> {
        Ok(daemon.host.sh(&format!("cat {cgroup}/{file}"))?.trim().to_owned())
    };
    let is = |file: &str, value: &str| -> Result<()> {
        let found = read(file)?;
        ensure!(found == value, "{file} is {found:?}, not {value:?}");
        Ok(())
    };
    is("cpu.weight", "300")?;
    is("cpu.max", "180000 100000")?;
    is("memory.max", "1073741824")?;
    is("vcpu0/cpu.max", "45000 50000")?;
    ensure!(read("vcpu0/cgroup.threads")?.lines().count() == 1, "vCPU 0 is one thread");

    daemon.manor("memtune tuning --hard-limit 800M --soft-limit 700M --live")?;
    is("memory.max", "838860800")?;
    is("memory.high", "734003200")?;
    daemon.manor("schedinfo tuning --set vcpu_quota=-1 --live")?;
    is("vcpu0/cpu.max", "max 100000")?;
    daemon.manor("schedinfo tuning --set emulator_quota=90000 --set global_quota=-1 --live")?;
    is("emulator/cpu.max", "90000 100000")?;
    is("cpu.max", "max 100000")?;
    daemon.manor("vcpupin tuning 0 0 --live")?;

    // 3 MiB at 1 MiB each second.
    let timed = "dd if=/dev/vda of=/dev/null bs=64k count=48 iflag=direct 2>&1 | tail -1";
    let start = std::time::Instant::now();
    shell.run(timed)?;
    let took = start.elapsed();
    ensure!(took.as_millis() >= 2_000, "the disk was read in {took:?}");
    daemon.manor("blkdeviotune tuning vda --read-bytes-sec 0 --live")?;
    ensure!(daemon.manor("blkdeviotune tuning vda")?.contains("read_bytes_sec : 0\n"));
    daemon.manor("domiftune tuning 52:54:00:aa:00:01 --inbound 0 --live")?;

    // Whoever takes over finds all of it, and nothing is left at the end.
    daemon.kill_9()?;
    daemon.launch()?;
    daemon.api.await_ready(crate::rig::SHORT)?;
    ensure!(daemon.manor("memtune tuning")?.contains("hard_limit     : 819200\n"));
    daemon.manor("destroy tuning")?;
    let left = daemon.host.sh(&format!("ls -d {cgroup} 2>/dev/null || true"))?;
    ensure!(left.trim().is_empty(), "{left}");
    daemon.manor("start tuning")?;
    is("memory.max", "1073741824")?;
    Ok(())
}
