//! libvirt's own clients, as Debian ships them, against the daemon.

mod connections;
mod disks;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use manor_tests::libvirt::Clients;

use super::guests;
use super::rig::{Outcome, Rig, UUID, definition, wait_for};
use super::terminal::Terminal;

pub(crate) struct Libvirt {
    pub(crate) rig: Rig,
    pub(crate) clients: Clients,
}

impl Libvirt {
    /// With the guest `echo` defined; none where there is no KVM.
    fn with_guest() -> Option<Self> {
        Some(Self { rig: guests::defined()?, clients: Clients::fetched().unwrap() })
    }

    pub(crate) fn new() -> Self {
        Self { rig: Rig::new(), clients: Clients::fetched().unwrap() }
    }

    pub(crate) fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.rig.path("run/libvirt-sock").display())
    }

    pub(crate) fn run(&self, mut command: Command) -> Outcome {
        let output = command.current_dir(self.rig.path("")).output().unwrap();
        Outcome {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code().unwrap_or(-1),
        }
    }

    pub(crate) fn home(&self) -> &Path {
        self.rig.directory.path()
    }

    fn virsh(&self, line: &str) -> Outcome {
        let mut virsh = self.clients.virsh(self.home());
        virsh.args(["-c", &self.uri()]).args(line.split_whitespace());
        self.run(virsh)
    }

    pub(crate) fn ok(&self, line: &str) -> String {
        let outcome = self.virsh(line);
        assert_eq!(outcome.status, 0, "{line}: {}", outcome.err);
        outcome.out.trim().to_owned()
    }

    pub(crate) fn edit(&self, words: &[&str], editor: &str) -> Outcome {
        let mut virsh = self.clients.virsh(self.home());
        virsh.args(["-c", &self.uri()]).args(words).env("EDITOR", editor);
        self.run(virsh)
    }

    /// A script of resources/examples.
    fn example(&self, name: &str) -> Command {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("resources/examples").join(name);
        let mut python = self.clients.python(self.home());
        python.arg(path).arg(self.uri());
        python
    }

    fn virtinst(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let mut tool = self.clients.virtinst(words.next().unwrap(), self.home());
        tool.args(["--connect", &self.uri()]).args(words);
        let outcome = self.run(tool);
        assert_eq!(outcome.status, 0, "{line}: {}{}", outcome.out, outcome.err);
        outcome.out
    }

    /// An active pool in `images/`.
    fn make_pool(&self) {
        let path = self.rig.path("images").display().to_string();
        self.ok(&format!("pool-define-as images dir --target {path}"));
        self.ok("pool-build images");
        assert_eq!(self.ok("pool-start images"), "Pool images started");
    }

    /// What it complains of.
    pub(crate) fn refused(&self, line: &str) -> String {
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
    assert!(libvirt.ok("freecell --all").contains("Total:"));
    assert!(libvirt.ok("freepages --all").contains("4KiB:"));
    let capabilities = libvirt.ok("capabilities");
    assert!(capabilities.contains("<cell id='0'>") && capabilities.contains("siblings="));
    // Where the kernel shows no SMBIOS, that is said.
    let sysinfo = libvirt.virsh("sysinfo");
    let told = sysinfo.out.contains("<sysinfo type='smbios'>") || sysinfo.err.contains("no SMBIOS");
    assert!(told, "{} {}", sysinfo.out, sysinfo.err);
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
    assert!(libvirt.refused("domstate a").contains("failed to get domain 'a'"));
    let twice = definition("b", "11111111-2222-3333-4444-555555555556");
    libvirt.rig.write("twice.xml", twice);
    assert!(libvirt.refused("define twice.xml").contains("operation failed"));
    libvirt.rig.write("wrong.xml", "<domain type='kvm'><nmae>x</nmae></domain>");
    let wrong = libvirt.refused("define wrong.xml");
    assert!(wrong.contains("XML error") && wrong.contains("did you mean <name>?"), "{wrong}");
    libvirt.ok("undefine b");
    assert_eq!(libvirt.ok("list --all --name"), "");
}

#[test]
fn virsh_tunes_a_domain() {
    let libvirt = Libvirt::new();
    libvirt.rig.write("a.xml", definition("a", UUID));
    libvirt.ok("define a.xml");
    libvirt.ok("schedinfo a --config --set cpu_shares=512 --set vcpu_quota=20000");
    let shown = libvirt.ok("schedinfo a");
    assert!(shown.contains("cpu_shares     : 512"), "{shown}");
    assert!(shown.contains("vcpu_quota     : 20000"), "{shown}");
    libvirt.ok("memtune a --hard-limit 1048576 --config");
    let shown = libvirt.ok("memtune a");
    assert!(shown.contains("hard_limit     : 1048576"), "{shown}");
    assert!(shown.contains("swap_hard_limit: unlimited"), "{shown}");
    libvirt.ok("memtune a --hard-limit -1 --config");
    assert!(libvirt.ok("memtune a").contains("hard_limit     : unlimited"));
    libvirt.ok("blkiotune a --weight 300 --config");
    assert!(libvirt.ok("blkiotune a").contains("weight         : 300"));
    libvirt.ok("blkdeviotune a vda --total-iops-sec 100 --config");
    assert!(libvirt.ok("blkdeviotune a vda").contains("total_iops_sec : 100"));
    libvirt.ok("domiftune a 52:54:00:11:22:33 --inbound 1000,2000 --config");
    let shown = libvirt.ok("domiftune a 52:54:00:11:22:33");
    assert!(shown.contains("inbound.average: 1000"), "{shown}");
    libvirt.ok("vcpupin a 0 0 --config");
    assert!(libvirt.ok("dumpxml a").contains("<vcpupin vcpu='0' cpuset='0'/>"));
}

#[test]
fn virsh_drives_a_guest_through_its_life() {
    let Some(libvirt) = Libvirt::with_guest() else { return };
    libvirt.ok("setvcpus echo 2 --maximum --config");
    let off = libvirt.ok("domstats echo");
    assert!(off.contains("state.state=5") && !off.contains(".count="), "{off}");
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
    assert!(stats.contains("vcpu.maximum=2") && !stats.contains("vcpu.1."), "{stats}");
    let id = libvirt.ok("domid echo");
    assert!(libvirt.ok("dumpxml echo").contains(&format!("<domain type='kvm' id='{id}'>")));
    assert!(libvirt.ok("dumpxml echo --inactive").contains("<domain type='kvm'>"));
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

#[test]
fn virsh_saves_a_guest_goes_on_with_it_and_dumps_its_memory() {
    let Some(libvirt) = Libvirt::with_guest() else { return };
    let not_running = libvirt.refused("save echo echo.save");
    assert!(not_running.contains("Requested operation is not valid"), "{not_running}");
    libvirt.ok("start echo");
    // What is there already is what a job finds, and the caller hears of it.
    libvirt.rig.write("there", "");
    let there = libvirt.refused("dump echo there --memory-only");
    assert!(there.contains("operation failed: domain-dump of \"echo\""), "{there}");
    assert!(there.contains("is there already"), "{there}");
    let dumped = libvirt.ok("dump echo core --memory-only --live");
    assert_eq!(dumped, "Domain 'echo' dumped to core");
    assert!(std::fs::read(libvirt.rig.path("core")).unwrap().starts_with(b"\x7fELF"));
    let packed = libvirt.refused("dump echo packed --memory-only --format kdump-zlib");
    assert!(packed.contains("not compressed"), "{packed}");
    assert_eq!(libvirt.ok("domstate echo"), "running");

    assert_eq!(libvirt.ok("save echo echo.save"), "Domain 'echo' saved to echo.save");
    assert_eq!(libvirt.ok("domstate echo --reason"), "shut off (saved)");
    let stats = libvirt.ok("domjobinfo echo --completed");
    assert!(stats.contains("Completed") && stats.contains("Save"), "{stats}");
    let idle = libvirt.refused("domjobabort echo");
    assert!(idle.contains("no job is active on the domain"), "{idle}");
    let xml = libvirt.ok("save-image-dumpxml echo.save");
    libvirt.rig.write("titled.xml", xml.replace("</name>", "</name><title>Another</title>"));
    libvirt.ok("save-image-define echo.save titled.xml");
    assert_eq!(libvirt.ok("restore echo.save --paused"), "Domain restored from echo.save");
    assert!(libvirt.ok("domstate echo").starts_with("paused"));
    assert!(libvirt.ok("desc echo --title").contains("Another"));
    libvirt.ok("resume echo");

    libvirt.ok("managedsave echo");
    assert!(libvirt.ok("dominfo echo").contains("Managed save:   yes"));
    assert_eq!(libvirt.ok("list --all --with-managed-save --name"), "echo");
    assert_eq!(libvirt.ok("list --all --without-managed-save --name"), "");
    assert!(libvirt.ok("managedsave-dumpxml echo").contains("<name>echo</name>"));
    libvirt.ok("start echo");
    assert_eq!(libvirt.ok("domstate echo --reason"), "running (restored)");
    assert!(libvirt.ok("dominfo echo").contains("Managed save:   no"));
    libvirt.ok("managedsave echo --paused");
    libvirt.ok("managedsave-remove echo");
    assert!(libvirt.ok("dominfo echo").contains("Managed save:   no"));
    libvirt.ok("start echo");
    libvirt.ok("managedsave echo");
    libvirt.refused("undefine echo");
    libvirt.ok("undefine echo --managed-save");
    assert_eq!(libvirt.ok("list --all --name"), "");
}

#[test]
fn virsh_console_types_at_the_guest_and_lets_go() {
    let Some(libvirt) = Libvirt::with_guest() else { return };
    libvirt.ok("start echo");
    let console = || {
        let mut virsh = libvirt.clients.virsh(libvirt.home());
        virsh.args(["-c", &libvirt.uri(), "console", "echo", "--force"]);
        Terminal::on(virsh)
    };
    let mut first = console();
    first.wait_for("ready");
    first.type_in(b"hello");
    first.wait_for("hello");
    // The escape key of virsh.
    first.type_in(b"\x1d");
    assert!(first.wait_for_the_end().success());
    let mut second = console();
    second.wait_for("hello");
    // The guest ends, and with it the console.
    second.type_in(b"q");
    second.wait_for("bye");
    assert!(second.wait_for_the_end().success());
    wait_for("the guest to go", || libvirt.ok("domstate echo") == "shut off");
}

#[test]
fn python_tours_the_host_and_hears_of_what_happens() {
    let Some(libvirt) = Libvirt::with_guest() else { return };
    let mut listening = libvirt.example("libvirt-events.py");
    let mut listening = listening.arg("7").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(listening.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "listening");
    libvirt.ok("start echo");
    let tour = libvirt.run(libvirt.example("libvirt-tour.py"));
    assert_eq!(tour.status, 0, "{}", tour.err);
    for line in ["runs QEMU, 1 guests", "suspended: True", "resumed: True", "destroyed: True"] {
        assert!(tour.out.contains(line), "{}", tour.out);
    }
    libvirt.rig.write("net.xml", "<network><name>lab</name></network>");
    libvirt.ok("net-define net.xml");
    libvirt.ok("net-undefine lab");
    libvirt.ok("undefine echo");
    let heard: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(
        heard,
        [
            "echo started 0",
            "echo suspended 0",
            "echo resumed 0",
            "echo stopped 1",
            "network lab 0 0",
            "network lab 1 0",
            "echo undefined 0",
        ]
    );
    assert!(listening.wait().unwrap().success());
}

#[test]
fn virt_install_imports_a_disk_and_its_sisters_change_and_copy_the_guest() {
    let Some(libvirt) = Libvirt::with_guest() else { return };
    libvirt.make_pool();
    libvirt.ok("vol-create-as images web.qcow2 16M --format qcow2");
    let path = |name: &str| libvirt.rig.path(name).display().to_string();
    let (disk, kernel) = (path("images/web.qcow2"), path("kernel"));
    libvirt.virtinst(&format!(
        "virt-install --name web --memory 64 --vcpus 1 --import --disk {disk} \
         --boot kernel={kernel} --osinfo detect=off,require=off --network none --graphics none \
         --noautoconsole"
    ));
    assert_eq!(libvirt.ok("domstate web --reason"), "running (booted)");
    assert!(libvirt.ok("dominfo web").contains("Persistent:     yes"));
    libvirt.ok("destroy web");
    libvirt.virtinst("virt-xml web --edit --memory 512 --define");
    assert!(libvirt.ok("dominfo web").contains("Max memory:     524288 KiB"));
    libvirt.virtinst("virt-clone --original web --name copy --auto-clone");
    let copy = libvirt.ok("dumpxml copy");
    assert!(copy.contains("<name>copy</name>") && copy.contains("images/copy.qcow2"), "{copy}");
    assert!(libvirt.ok("vol-list images").contains("copy.qcow2"));
}

#[test]
fn virsh_edit_stores_what_the_editor_left() {
    let libvirt = Libvirt::new();
    libvirt.rig.write("a.xml", definition("a", UUID));
    libvirt.ok("define a.xml");
    let outcome = libvirt.edit(&["edit", "a"], "sed -i s/524288/655360/");
    assert_eq!(outcome.status, 0, "{}", outcome.err);
    assert!(libvirt.ok("dominfo a").contains("Max memory:     655360 KiB"));
}
