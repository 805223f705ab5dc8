//! libvirt's own clients, as Debian ships them, against the daemon.

use std::path::Path;
use std::process::Command;

use manor_tests::libvirt::Clients;

use super::guests;
use super::rig::{Outcome, Rig, UUID, definition};

struct Libvirt {
    rig: Rig,
    clients: Clients,
}

impl Libvirt {
    /// With the guest `echo` defined; none where there is no KVM.
    fn with_guest() -> Option<Self> {
        Some(Self { rig: guests::defined()?, clients: Clients::fetched().unwrap() })
    }

    fn new() -> Self {
        Self { rig: Rig::new(), clients: Clients::fetched().unwrap() }
    }

    fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.rig.path("run/libvirt-sock").display())
    }

    fn run(&self, mut command: Command) -> Outcome {
        let output = command.current_dir(self.rig.path("")).output().unwrap();
        Outcome {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code().unwrap_or(-1),
        }
    }

    fn home(&self) -> &Path {
        self.rig.directory.path()
    }

    fn virsh(&self, line: &str) -> Outcome {
        let mut virsh = self.clients.virsh(self.home());
        virsh.args(["-c", &self.uri()]).args(line.split_whitespace());
        self.run(virsh)
    }

    fn ok(&self, line: &str) -> String {
        let outcome = self.virsh(line);
        assert_eq!(outcome.status, 0, "{line}: {}", outcome.err);
        outcome.out.trim().to_owned()
    }

    /// What it complains of.
    fn refused(&self, line: &str) -> String {
        let outcome = self.virsh(line);
        assert_ne!(outcome.status, 0, "{line}: {}", outcome.out);
        outcome.err
    }
}

#[test]
fn virsh_asks_the_host() {
    let libvirt = Libvirt::new();
    assert!(libvirt.ok("version --daemon").contains("Running against daemon: 9.0.0"));
    assert_eq!(libvirt.ok("hostname"), libvirt.rig.manor(["hostname"]).out.trim());
    let manor = libvirt.rig.manor(["nodeinfo"]).out;
    assert_eq!(libvirt.ok("nodeinfo"), manor.trim());
    assert!(libvirt.ok("capabilities").contains("<domain type='kvm'/>"));
    assert!(libvirt.ok("domcapabilities --machine q35").contains("<machine>q35</machine>"));
    assert!(libvirt.ok("nodememstats").contains("total"));
    assert!(libvirt.ok("nodecpustats").contains("iowait"));
    assert!(libvirt.ok("nodecpumap").contains("CPUs online"));
    assert_eq!(libvirt.ok("list --all --name"), "");
    assert_eq!(libvirt.ok("nodedev-list"), "");
    let sysinfo = libvirt.refused("sysinfo");
    assert!(sysinfo.contains("unknown procedure: 203 (CONNECT_GET_SYSINFO)"), "{sysinfo}");
}

#[test]
fn virsh_defines_shows_and_forgets_a_domain() {
    let libvirt = Libvirt::new();
    libvirt.rig.write("a.xml", definition("a", UUID));
    assert_eq!(libvirt.ok("define a.xml"), "Domain 'a' defined from a.xml");
    assert!(libvirt.ok("list --all").contains("a      shut off"));
    assert_eq!(libvirt.ok("domuuid a"), UUID);
    assert_eq!(libvirt.ok("domname 11111111-2222-3333-4444-555555555555"), "a");
    assert_eq!(libvirt.ok("domstate a"), "shut off");
    let info = libvirt.ok("dominfo a");
    for line in ["Max memory:     524288 KiB", "Persistent:     yes", "Autostart:      disable"] {
        assert!(info.contains(line), "{line}: {info}");
    }
    assert_eq!(libvirt.ok("dumpxml a"), libvirt.rig.manor(["dumpxml", "a"]).out.trim());
    libvirt.ok("autostart a");
    assert!(libvirt.ok("dominfo a").contains("Autostart:      enable"));
    assert!(libvirt.ok("list --all --autostart").contains(" a "));
    assert!(libvirt.ok("vcpucount a").contains("maximum      config         2"));
    libvirt.ok("setmaxmem a 1G --config");
    assert!(libvirt.ok("dominfo a").contains("Max memory:     1048576 KiB"));
    assert!(libvirt.ok("domblklist a").contains("/var/lib/x/disk.img"));
    assert!(libvirt.ok("domiflist a").contains("52:54:00:11:22:33"));
    assert!(libvirt.ok("desc a --title").contains("A title"));
    assert_eq!(libvirt.ok("domrename a b"), "Domain successfully renamed");
    assert!(libvirt.refused("domstate a").contains("Domain not found"));
    let twice = definition("b", "11111111-2222-3333-4444-555555555556");
    libvirt.rig.write("twice.xml", twice);
    assert!(libvirt.refused("define twice.xml").contains("operation failed"));
    libvirt.rig.write("wrong.xml", "<domain type='kvm'><nmae>x</nmae></domain>");
    let wrong = libvirt.refused("define wrong.xml");
    assert!(wrong.contains("XML error") && wrong.contains("did you mean name?"), "{wrong}");
    libvirt.ok("undefine b");
    assert_eq!(libvirt.ok("list --all --name"), "");
}

#[test]
fn virsh_drives_a_guest_through_its_life() {
    let Some(libvirt) = Libvirt::with_guest() else { return };
    assert_eq!(libvirt.ok("start echo"), "Domain 'echo' started");
    let again = libvirt.refused("start echo");
    assert!(again.contains("error: Domain is already active"), "{again}");
    assert_eq!(libvirt.ok("domstate echo --reason"), "running (booted)");
    assert!(libvirt.ok("list").contains("echo   running"));
    libvirt.ok("suspend echo");
    assert_eq!(libvirt.ok("domstate echo --reason"), "paused (user)");
    libvirt.ok("resume echo");
    let stats = libvirt.ok("domstats echo");
    for key in ["state.state=1", "cpu.time=", "vcpu.current=1", "vcpu.0.time=", "block.count=0"] {
        assert!(stats.contains(key), "{key}: {stats}");
    }
    assert!(libvirt.ok("vcpuinfo echo").contains("State:          running"));
    assert!(libvirt.ok("vcpupin echo").contains("VCPU"));
    assert!(libvirt.ok("cpu-stats echo --total").contains("cpu_time"));
    assert!(libvirt.ok("dommemstat echo").contains("rss"));
    assert!(libvirt.ok("domjobinfo echo").contains("None"));
    assert_eq!(libvirt.ok("domcontrol echo"), "ok");
    libvirt.ok("reset echo");
    libvirt.ok("destroy echo");
    assert_eq!(libvirt.ok("domstate echo --reason"), "shut off (destroyed)");
    assert!(libvirt.refused("destroy echo").contains("Requested operation is not valid"));
}
