//! Manor as a service of systemd, on a Debian of its own.

use std::collections::BTreeSet;
use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use manor_tests::{Testbed, debian, guest, manor_binary, paths};

const BINARY: &str = "/usr/local/sbin/manor";
const BOOTED: Duration = Duration::from_secs(120);

/// The host, and the right to have it alone: these tests stop services and reboot.
struct Debian {
    host: Testbed,
    _alone: File,
}

impl Debian {
    fn get() -> Result<Debian> {
        let alone = paths::lock(&paths::target().join("testbed/systemd.lock"))?;
        let host = debian::host()?;
        // Whoever was here before may have failed half way.
        host.sh(&format!(
            "if test -x {BINARY}; then
                 for scope in $(systemctl list-units --plain --no-legend 'manor-*.scope' | cut -d' ' -f1); do
                     systemctl kill --signal=KILL $scope || true
                 done
                 systemctl disable --now manor-guests.service || true
                 systemctl disable --now manor.service manor.socket manor-ro.socket || true
                 systemctl reset-failed || true
             fi
             rm -rf /etc/systemd/system/manor* /etc/manor /etc/sysusers.d/manor.conf
             rm -rf /var/lib/manor /var/log/manor /run/manor {BINARY}
             rm -f /usr/local/bin/virt-ssh-helper
             rmdir /etc/sysusers.d /var/lib/libvirt/boot /var/lib/libvirt 2>/dev/null || true
             userdel manor 2>/dev/null || true
             groupdel manor 2>/dev/null || true
             systemctl daemon-reload"
        ))?;
        Ok(Debian { host, _alone: alone })
    }

    /// With `manor setup` done and the daemon running.
    fn with_manor() -> Result<Debian> {
        let debian = Debian::get()?;
        debian.host.put(&manor_binary()?, BINARY)?;
        debian.host.sh("manor setup")?;
        Ok(debian)
    }

    fn sh(&self, script: &str) -> Result<String> {
        let result = self.host.sh(script);
        result.map_err(|error| {
            let journal = self.host.exec(&["journalctl", "--no-pager", "-n", "40", "-u", "manor*"]);
            let journal = journal.map(|output| output.stdout()).unwrap_or_default();
            error.context(format!("{script}\njournal:\n{journal}"))
        })
    }

    fn line(&self, script: &str) -> Result<String> {
        Ok(self.sh(script)?.trim().to_owned())
    }

    /// Defines a guest whose console goes to `/srv/NAME.log` and says a number each 200 ms.
    fn define(&self, name: &str) -> Result<()> {
        self.host.put(&guest::kernel()?, "/srv/vmlinuz")?;
        self.host.put(&guest::initrd()?, "/srv/initrd")?;
        let xml = format!(
            "<domain type='kvm'>
               <name>{name}</name>
               <memory unit='MiB'>128</memory>
               <os>
                 <type arch='x86_64' machine='q35'>hvm</type>
                 <kernel>/srv/vmlinuz</kernel>
                 <initrd>/srv/initrd</initrd>
                 <cmdline>console=ttyS0 quiet panic=-1 manor.tick=200</cmdline>
               </os>
               <features><acpi/></features>
               <devices>
                 <serial type='file'><source path='/srv/{name}.log' append='on'/></serial>
               </devices>
             </domain>"
        );
        self.host.write(&format!("/srv/{name}.xml"), xml.as_bytes())?;
        self.sh(&format!("rm -f /srv/{name}.log; manor define /srv/{name}.xml"))?;
        Ok(())
    }

    /// The guest's latest number, when it has said one above `least`.
    fn tick_after(&self, name: &str, least: u64) -> Result<u64> {
        let until = Instant::now() + BOOTED;
        loop {
            let log = self.line(&format!("tail -c 64 /srv/{name}.log"))?;
            // The last line may be half written.
            let last = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let tick = last.rsplit("MANOR-TICK ").next().and_then(|text| text.trim().parse().ok());
            if let Some(tick) = tick.filter(|tick| *tick > least) {
                return Ok(tick);
            }
            if Instant::now() >= until {
                bail!("no tick above {least} of {name}: {log:?}");
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// The number of the guest's VMM process.
    fn vmm(&self, name: &str) -> Result<String> {
        self.line(&format!("pgrep -f 'manor [g]uest={name}'"))
    }

    /// That the guest ran on, in the same process, and is managed.
    fn assert_ran_on(&self, name: &str, before: &Guest) -> Result<()> {
        assert_eq!(self.vmm(name)?, before.pid);
        let boots = self.line(&format!("grep -c MANOR-GUEST-UP /srv/{name}.log"))?;
        assert_eq!(boots, "1", "the guest started again");
        self.tick_after(name, before.tick)?;
        assert_eq!(self.line(&format!("manor domstate {name}"))?, "running");
        Ok(())
    }

    fn start(&self, name: &str) -> Result<Guest> {
        self.sh(&format!("manor start {name}"))?;
        let tick = self.tick_after(name, 0)?;
        Ok(Guest { pid: self.vmm(name)?, tick })
    }

    fn main_pid(&self) -> Result<String> {
        self.line("systemctl show --value --property MainPID manor.service")
    }

    fn wait_for(&self, what: &str, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        while self.host.exec(&["sh", "-c", what])?.success().is_err() {
            if Instant::now() >= until {
                let shown = self.sh("systemctl status manor.service || true")?;
                return Err(anyhow::anyhow!(shown)).with_context(|| format!("not so: {what}"));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

struct Guest {
    pid: String,
    tick: u64,
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

#[test]
fn setup_makes_a_service_and_remove_leaves_nothing() -> Result<()> {
    let debian = Debian::get()?;
    let files = "find /etc /usr /var /root /home /opt -xdev | \
                    grep -v -e '^/etc/group-$' -e '^/etc/gshadow' -e '^/etc/.pwd.lock' -e '^/var/log/journal' \
                        -e '^/etc/passwd-$' -e '^/etc/shadow-$' -e '^/etc/sub.id-$' | sort;
                    cat /etc/group /etc/passwd";
    debian.host.put(&manor_binary()?, BINARY)?;
    debian.sh("mkdir -p /usr/local/bin")?; // which installers make, and a bare tree has not
    let snapshot = || -> Result<BTreeSet<String>> {
        Ok(debian.sh(files)?.lines().map(str::to_owned).collect())
    };
    let before = snapshot()?;
    debian.sh("manor setup")?;
    debian.sh(
        "systemctl is-active manor.service manor-guests.service manor.socket manor-ro.socket
         systemctl is-enabled manor.service manor-guests.service manor.socket manor-ro.socket
         getent group manor
         test $(stat -c %G:%a /run/manor/api.sock) = manor:660
         test $(stat -c %a /run/manor/api-ro.sock) = 666
         manor config check /etc/manor/manor.toml
         manor list --all",
    )?;
    // Every key is known, every program and unit named is there.
    let units = "/etc/systemd/system/manor.service /etc/systemd/system/manor.socket \
                 /etc/systemd/system/manor-ro.socket /etc/systemd/system/manor-guests.service";
    let verified = debian.sh(&format!("systemd-analyze verify --man=no {units} 2>&1"))?;
    assert_eq!(verified, "");
    let started = debian.main_pid()?;
    let again = debian.sh("manor setup")?;
    assert!(!again.contains("written") && !again.contains("updated"), "{again}");
    assert_eq!(debian.main_pid()?, started, "a second setup restarted the daemon");
    debian.sh("manor setup --remove")?;
    let changed: Vec<_> = snapshot()?.symmetric_difference(&before).cloned().collect();
    assert_eq!(changed, Vec::<String>::new());
    debian.sh("test ! -e /run/manor; ! systemctl cat manor.service 2>/dev/null")?;
    debian.sh("manor setup --remove")?;
    Ok(())
}

#[test]
fn remove_keeps_definitions_and_refuses_while_guests_run() -> Result<()> {
    let debian = Debian::with_manor()?;
    debian.define("kept")?;
    debian.start("kept")?;
    let refused = debian.host.exec(&["manor", "setup", "--remove"])?;
    assert!(refused.success().is_err());
    assert!(refused.stderr().contains("kept"), "{}", refused.stderr());
    debian.sh("systemctl is-active manor.service; manor destroy kept; manor setup --remove")?;
    debian.sh("manor setup; manor dominfo kept; manor undefine kept")?;
    Ok(())
}

#[test]
fn guests_run_on_whatever_is_done_to_the_daemon() -> Result<()> {
    let debian = Debian::with_manor()?;
    debian.define("steady")?;
    let guest = debian.start("steady")?;
    let cgroup = debian.line(&format!("cat /proc/{}/cgroup", guest.pid))?;
    assert!(cgroup.starts_with("0::/manor.slice/manor-") && cgroup.ends_with(".scope"), "{cgroup}");
    let score = debian.line(&format!("cat /proc/{}/oom_score_adj", guest.pid))?;
    assert_eq!(score, "0", "the daemon's protection is not the guest's");

    let active = "systemctl is-active manor.service && manor domstate steady | grep -q running";
    for act in [
        "systemctl restart manor.service",
        "systemctl stop manor.service; systemctl start manor.service",
        "systemctl reload manor.service",
        "systemctl kill --signal=KILL manor.service",
        "systemctl kill --signal=TERM --kill-whom=all manor.service; sleep 1; systemctl start manor",
        "echo 1 >/sys/fs/cgroup/system.slice/manor.service/cgroup.kill",
        // An upgrade: packages replace files by renaming.
        "cp /usr/local/sbin/manor /usr/local/sbin/new; mv /usr/local/sbin/new /usr/local/sbin/manor
         systemctl daemon-reload; systemctl restart manor.service",
    ] {
        let daemon = debian.main_pid()?;
        debian.sh(act)?;
        debian.wait_for(active, Duration::from_secs(10)).context(act)?;
        debian.assert_ran_on("steady", &guest).context(act)?;
        assert_eq!(debian.main_pid()? == daemon, act.contains("reload manor"), "{act}");
        // What it did is no failure of the unit's that lasts.
        debian.sh("systemctl reset-failed manor.service")?;
    }

    debian.sh("manor destroy steady; manor undefine steady")?;
    debian.wait_for(
        "test -z \"$(systemctl list-units --all --plain --no-legend 'manor-*.scope')\"",
        Duration::from_secs(10),
    )?;
    Ok(())
}

#[test]
fn limits_are_properties_of_the_guests_scope_and_last_over_a_reload() -> Result<()> {
    let debian = Debian::with_manor()?;
    debian.define("limited")?;
    debian.sh("manor memtune limited --hard-limit 1G --config")?;
    let guest = debian.start("limited")?;
    let cgroup = debian.line(&format!("cat /proc/{}/cgroup", guest.pid))?;
    let cgroup = format!("/sys/fs/cgroup{}", cgroup.trim().trim_start_matches("0::"));
    let is = |file: &str, value: &str| -> Result<()> {
        let found = debian.line(&format!("cat {cgroup}/{file}"))?;
        assert_eq!(found, value, "{file}");
        Ok(())
    };
    is("memory.max", "1073741824")?;
    debian.sh("manor memtune limited --hard-limit 800M --live
         manor schedinfo limited --set cpu_shares=300 --set global_quota=150000 --live
         manor schedinfo limited --set vcpu_quota=90000 --live
         systemctl daemon-reload")?;
    is("memory.max", "838860800")?;
    is("cpu.weight", "300")?;
    is("cpu.max", "150000 100000")?;
    is("vcpu0/cpu.max", "90000 100000")?;
    debian.sh("manor memtune limited --hard-limit -1 --live")?;
    is("memory.max", "max")?;
    debian.sh("manor destroy limited; manor undefine limited")?;
    debian.wait_for(&format!("test ! -e {cgroup}"), Duration::from_secs(10))?;
    Ok(())
}

#[test]
fn a_guest_starts_again_at_once_after_it_ended() -> Result<()> {
    let debian = Debian::with_manor()?;
    debian.define("again")?;
    // systemd may not yet have forgotten the scope of the run before.
    for _ in 0..5 {
        debian.sh("manor start again; manor destroy again")?;
    }
    debian.sh("manor undefine again")?;
    Ok(())
}

#[test]
fn a_connection_starts_the_stopped_service_and_is_answered() -> Result<()> {
    let debian = Debian::with_manor()?;
    for socket in ["api.sock", "api-ro.sock"] {
        debian.sh("systemctl stop manor.service")?;
        assert_eq!(debian.host.exec(&["systemctl", "is-active", "manor"])?.stdout(), "inactive\n");
        debian.sh(&format!("manor --connect /run/manor/{socket} list --all"))?;
        debian.sh("systemctl is-active manor.service")?;
    }
    Ok(())
}

#[test]
fn a_host_reboot_ends_guests_in_order_and_starts_those_marked_once() -> Result<()> {
    let debian = Debian::with_manor()?;
    debian.define("always")?;
    debian.define("never")?;
    debian.sh("manor autostart always --order 10")?;
    // The journal of this host does not outlast its boot.
    debian.sh(
        "dir=/etc/systemd/system/manor-guests.service.d; mkdir -p $dir; rm -f /root/guests.log
         printf '[Service]\\nStandardOutput=append:/root/guests.log\\n' > $dir/log.conf
         systemctl daemon-reload",
    )?;
    debian.start("always")?;
    debian.start("never")?;
    let definitions =
        debian.sh("manor dumpxml --inactive always; manor dumpxml --inactive never")?;
    debian.host.reboot()?;

    debian.wait_for("manor domstate always | grep -q running", Duration::from_secs(60))?;
    debian.tick_after("always", 0)?;
    let text = debian.sh("cat /srv/always.log /srv/never.log")?;
    assert_eq!(text.matches("MANOR-BUTTON").count(), 2, "both were asked to power off");
    // The one that starts last, and then the one that does not start by itself.
    let said = debian.sh("cat /root/guests.log")?;
    let steps: Vec<_> = said.lines().filter(|line| line.contains(": off after ")).collect();
    let in_order = matches!(steps[..], [first, second]
        if first.starts_with("always:") && second.starts_with("never:"));
    assert!(in_order, "{said}");
    assert_eq!(debian.line("manor domstate never")?, "shut off");
    assert_eq!(
        debian.sh("manor dumpxml --inactive always; manor dumpxml --inactive never")?,
        definitions
    );
    let boots = debian.line("grep -c MANOR-GUEST-UP /srv/always.log")?;

    // Only the host's boot starts them: not the daemon's.
    debian.sh("manor destroy always; systemctl restart manor.service; sleep 2")?;
    assert_eq!(debian.line("manor domstate always")?, "shut off");
    assert_eq!(debian.line("grep -c MANOR-GUEST-UP /srv/always.log")?, boots);

    // After a power failure nobody can say how it ended.
    debian.sh("manor start never; sync")?;
    debian.host.power_cycle()?;
    debian.wait_for("manor domstate always | grep -q running", Duration::from_secs(60))?;
    assert_eq!(debian.line("manor domstate never --reason")?, "shut off (unknown)");
    debian.sh("manor destroy always; manor undefine always; manor undefine never")?;
    Ok(())
}
