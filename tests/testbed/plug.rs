//! Devices that come to a stock kernel and leave it: behind root ports by native hotplug, on the root bus
//! by ACPI, with I/O on the disk, and with addresses of a network on the interface.

use anyhow::{Result, ensure};

use crate::rig::{Daemon, Shell, Xml};

const PORTS: &str = "<controller type='pci' index='1' model='pcie-root-port'/>
    <controller type='pci' index='2' model='pcie-root-port'/>
    <controller type='pci' index='3' model='pcie-root-port'/>
    <controller type='pci' index='4' model='pcie-root-port'/>";

/// Waits in the guest until a file is there, or gone.
fn wait(shell: &mut Shell, path: &str, there: bool) -> Result<()> {
    let not = if there { "!" } else { "" };
    let text = shell.run(&format!(
        "n=0; while [ {not} -e {path} ] && [ $n -lt 150 ]; do usleep 200000; n=$((n+1)); done; \
         [ {not} -e {path} ] && dmesg | tail -20; [ {} -e {path} ] && echo as-wanted",
        if there { "" } else { "!" }
    ))?;
    ensure!(text.contains("as-wanted"), "{path} there={there}: {text}");
    Ok(())
}

fn come_and_go(name: &str, machine: &str, controllers: &str) -> Result<()> {
    let daemon = Daemon::start(name)?;
    let host = &daemon.host;
    let images = format!("{}/images", daemon.dir);
    host.sh(&format!("mkdir -p {images}; truncate -s 64M {images}/b.img"))?;
    host.sh(&format!(
        "manor image create -f qcow2 -b {images}/b.img -F raw {images}/c.qcow2 >/dev/null"
    ))?;
    let mut xml = Xml::new(name, "manor.end=shell");
    xml.machine = machine.to_owned();
    xml.devices = controllers.to_owned();
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell(name)?;

    for round in 0..3 {
        daemon.manor(&format!("attach-disk {name} {images}/b.img vdb --serial round{round}"))?;
        wait(&mut shell, "/sys/block/vda", true)?;
        let text = shell.run(&format!(
            "cat /sys/block/vda/serial; echo round {round} >/tmp/text; \
             dd if=/tmp/text of=/dev/vda bs=512 seek=$((100 + {round})) conv=sync,fsync 2>&1; \
             dd if=/dev/vda bs=512 skip=$((100 + {round})) count=1 2>/dev/null | head -c 8"
        ))?;
        ensure!(text.contains(&format!("round{round}")), "its serial: {text}");
        let gone = daemon.manor(&format!("detach-disk {name} vdb"))?;
        ensure!(gone.contains("detached successfully"), "{gone}");
        wait(&mut shell, "/sys/block/vda", false)?;
        let written = host.sh(&format!(
            "dd if={images}/b.img bs=512 skip=$((100 + {round})) count=1 2>/dev/null | head -c 7"
        ))?;
        ensure!(written.contains("round "), "what the guest wrote: {written:?}");
    }

    // An overlay, and an interface beside it; the daemon dies meanwhile.
    daemon.manor(&format!("attach-disk {name} {images}/c.qcow2 vdc --subdriver qcow2"))?;
    wait(&mut shell, "/sys/block/vda", true)?;
    let bridge = format!("br-{machine}{}", controllers.len() % 10);
    host.sh(&format!(
        "ip link add {bridge} type bridge 2>/dev/null || true; ip link set {bridge} up"
    ))?;
    daemon.manor(&format!("attach-interface {name} bridge {bridge} --mac 52:54:00:00:99:01"))?;
    wait(&mut shell, "/sys/class/net/eth0", true)?;
    let text =
        shell.run("cat /sys/class/net/eth0/address; ip link set eth0 up; ip link show eth0")?;
    ensure!(text.contains("52:54:00:00:99:01") && text.contains("LOWER_UP"), "{text}");
    daemon.kill_9()?;
    daemon.launch()?;
    daemon.api.await_ready(crate::rig::SHORT)?;
    let live = daemon.manor(&format!("dumpxml {name}"))?;
    ensure!(live.contains("52:54:00:00:99:01") && live.contains("c.qcow2"), "{live}");
    let mut shell = daemon.shell_again(name)?;
    let gone = daemon.manor(&format!("detach-interface {name} bridge"))?;
    ensure!(gone.contains("detached successfully"), "{gone}");
    wait(&mut shell, "/sys/class/net/eth0", false)?;

    // A reboot of the guest keeps what it has.
    shell.last("echo b >/proc/sysrq-trigger")?;
    shell.await_prompt()?;
    wait(&mut shell, "/sys/block/vda", true)?;
    let gone = daemon.manor(&format!("detach-disk {name} vdc"))?;
    ensure!(gone.contains("detached successfully"), "{gone}");
    daemon.manor(&format!("destroy {name}"))?;
    host.sh(&format!("ip link del {bridge}"))?;
    let check = host.sh(&format!("manor image check {images}/c.qcow2"))?;
    ensure!(check.contains("No errors"), "{check}");
    Ok(())
}

#[test]
fn devices_come_and_go_behind_root_ports() -> Result<()> {
    come_and_go("plug-ports", "q35", PORTS)
}

#[test]
fn devices_come_to_the_root_bus_of_q35_and_go() -> Result<()> {
    come_and_go("plug-root", "q35", "")
}

#[test]
fn devices_come_to_a_pc_and_go() -> Result<()> {
    come_and_go("plug-pc", "pc", "")
}

#[test]
fn scsi_disks_and_drives_come_and_go() -> Result<()> {
    let daemon = Daemon::start("plug-scsi")?;
    let host = &daemon.host;
    let images = format!("{}/images", daemon.dir);
    host.sh(&format!("mkdir -p {images}; truncate -s 64M {images}/s.img"))?;
    let mut xml = Xml::new("plug-scsi", "manor.end=shell");
    xml.devices = "<controller type='scsi' index='0' model='virtio-scsi'/>".to_owned();
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell("plug-scsi")?;
    shell.run("modprobe -a virtio_scsi sd_mod sr_mod 2>/dev/null; echo")?;
    for round in 0..2 {
        daemon.manor(&format!("attach-disk plug-scsi {images}/s.img sda --targetbus scsi"))?;
        wait(&mut shell, "/sys/block/sda", true)?;
        let text = shell.run(&format!(
            "echo round {round} >/tmp/text; \
             dd if=/tmp/text of=/dev/sda bs=512 seek=$((100 + {round})) conv=sync,fsync 2>&1"
        ))?;
        ensure!(text.contains("1+0 records out") || text.contains("512 bytes"), "{text}");
        daemon.manor("detach-disk plug-scsi sda")?;
        wait(&mut shell, "/sys/block/sda", false)?;
        let written = host.sh(&format!(
            "dd if={images}/s.img bs=512 skip=$((100 + {round})) count=1 2>/dev/null | head -c 7"
        ))?;
        ensure!(written.contains("round "), "what the guest wrote: {written:?}");
    }
    daemon.manor("destroy plug-scsi")?;
    Ok(())
}
