//! The board with hardware-reduced ACPI: its guest lacks nothing that it would use.

use anyhow::{Result, ensure};

use crate::rig::{Daemon, LONG, Xml};

const NAME: &str = "micro";

#[test]
fn a_microvm_types_reboots_and_hears_its_power_button() -> Result<()> {
    let daemon = Daemon::start("microvm")?;
    daemon.host.sh("truncate -s 8M /run/e2e/microvm.img")?;
    let words = "manor.disk=vda manor.end=shell";
    let mut xml = Xml::new(NAME, words).disk("/run/e2e/microvm.img", "vda", "");
    xml.machine = "microvm".into();
    xml.vcpus = 2;
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell(NAME)?;
    ensure!(shell.console.text().contains("MANOR-DISK-OK"), "{}", shell.console.text());

    // The serial line's interrupt, and the event device's; no PIT, and no clock but kvmclock.
    let interrupts = shell.run("cat /proc/interrupts")?;
    ensure!(interrupts.contains("ttyS0") && interrupts.contains("ACPI:Ged"), "{interrupts}");
    ensure!(!interrupts.contains("timer\n"), "a PIT:\n{interrupts}");
    let clocks =
        shell.run("cat /sys/devices/system/clocksource/clocksource0/available_clocksource")?;
    ensure!(clocks.contains("kvm-clock") && !clocks.contains("acpi_pm"), "{clocks}");
    // kvmclock told the date, though there is no clock in CMOS to be seen.
    let year = shell.run("date +%Y; ls /sys/class/rtc")?;
    let host = daemon.host.sh("date +%Y")?;
    ensure!(year.contains(host.trim()) && !year.contains("rtc0"), "{year}, the host has {host}");
    ensure!(shell.run("nproc")?.contains('2'), "one vCPU");

    shell.last("reboot -f")?;
    shell.await_prompt()?;
    daemon.post(NAME, "shutdown")?;
    let off = daemon.api.await_state(NAME, "shut-off", LONG)?;
    assert_eq!(off["reason"], "shutdown", "{off}");
    Ok(())
}
