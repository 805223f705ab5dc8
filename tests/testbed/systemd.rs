//! Manor as a service of systemd, on a Debian of its own.

use std::fs::File;

use anyhow::Result;
use manor_tests::{Testbed, debian, paths};

/// The host, and the right to have it alone: these tests stop services and reboot.
struct Debian {
    host: Testbed,
    _alone: File,
}

impl Debian {
    fn get() -> Result<Debian> {
        let alone = paths::lock(&paths::target().join("testbed/systemd.lock"))?;
        let host = debian::host()?;
        Ok(Debian { host, _alone: alone })
    }
}

#[test]
fn the_host_runs_systemd_and_keeps_its_disk_over_reboots() -> Result<()> {
    let Debian { host, .. } = &Debian::get()?;
    let state = host.exec(&["systemctl", "is-system-running", "--wait"])?.stdout();
    let failed = host.sh("systemctl --failed --no-legend --plain")?;
    assert_eq!((state.as_str(), failed.as_str()), ("running\n", ""));
    let boot = host.sh("echo kept >/root/file; cat /proc/sys/kernel/random/boot_id")?;
    host.reboot()?;
    let second = host.sh("cat /root/file /proc/sys/kernel/random/boot_id")?;
    assert!(second.starts_with("kept\n") && !second.contains(&boot), "{second}");
    host.sh("sync")?;
    host.power_cycle()?;
    let third = host.sh("cat /root/file /proc/sys/kernel/random/boot_id")?;
    assert!(third.starts_with("kept\n") && third != second, "{third}");
    Ok(())
}
