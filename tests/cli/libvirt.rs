//! libvirt's own clients, as Debian ships them, against the daemon.

use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use manor_tests::libvirt::Clients;

use super::guests;
use super::rig::{MANOR, Outcome, Rig, UUID, definition, kill, wait_for};
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
fn virsh_keeps_pools_and_volumes() {
    let libvirt = Libvirt::new();
    libvirt.make_pool();
    assert!(libvirt.ok("pool-list --all").contains("images   active   no"));
    assert!(libvirt.ok("pool-info images").contains("State:          running"));
    libvirt.ok("pool-autostart images");
    assert_eq!(libvirt.ok("vol-create-as images a.img 1M"), "Vol a.img created");
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    libvirt.rig.write("content", &content[..1 << 20]);
    libvirt.ok("vol-upload a.img content --pool images");
    libvirt.ok("vol-download a.img back --pool images");
    assert!(std::fs::read(libvirt.rig.path("back")).unwrap() == content[..1 << 20]);
    libvirt.ok("vol-download a.img part --pool images --offset 4096 --length 10");
    assert_eq!(std::fs::read(libvirt.rig.path("part")).unwrap(), content[4096..4106]);
    // A file with a hole in it, by way of holes.
    let holed = std::fs::File::create(libvirt.rig.path("holed")).unwrap();
    holed.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holed, b"end", (1 << 20) - 3).unwrap();
    libvirt.ok("vol-upload a.img holed --pool images --sparse");
    libvirt.ok("vol-download a.img back --pool images --sparse");
    let back = std::fs::read(libvirt.rig.path("back")).unwrap();
    assert!(back == std::fs::read(libvirt.rig.path("holed")).unwrap());
    libvirt.ok("vol-clone a.img b.img --pool images");
    libvirt.ok("vol-resize b.img 2M --pool images");
    assert!(libvirt.ok("vol-info b.img --pool images").contains("Capacity:       2.00 MiB"));
    libvirt.ok("vol-wipe b.img --pool images");
    assert!(libvirt.ok("vol-list images").contains("b.img"));
    let exists = libvirt.refused("vol-create-as images a.img 1M");
    assert!(exists.contains("storage volume exists already"), "{exists}");
    libvirt.ok("vol-delete a.img --pool images");
    let gone = libvirt.refused("vol-info a.img --pool images");
    assert!(gone.contains("Storage volume not found"), "{gone}");
    libvirt.ok("pool-destroy images");
    libvirt.ok("pool-undefine images");
    assert!(libvirt.refused("pool-info images").contains("Storage pool not found"));
}

/// Calls between the pieces of a stream, streams that are given up, and many clients.
const INTERLEAVED: &str = r#"
import libvirt, os, sys, threading
uri = sys.argv[1]
c = libvirt.open(uri)
v = c.storagePoolLookupByName("images").createXML(
    "<volume><name>v</name><capacity unit='M'>8</capacity><allocation>0</allocation></volume>", 0)
s = c.newStream(0)
v.upload(s, 0, 0, 0)
s.send(b"x" * 100000)
s.abort()
print("given up,", c.getType())
while True:
    try:
        s = c.newStream(0)
        v.upload(s, 0, 8 << 20, 0)
        break
    except libvirt.libvirtError as error:
        assert error.get_error_code() == libvirt.VIR_ERR_RESOURCE_BUSY, error
data = os.urandom(8 << 20)
sent = 0
while sent < len(data):
    sent += s.send(data[sent:sent + 262120])
    c.listAllDomains()
s.finish()
s = c.newStream(0)
v.download(s, 0, 0, 0)
s.recv(1000)
s.abort()
s, back = c.newStream(0), b""
v.download(s, 0, 0, 0)
while piece := s.recv(262120):
    back += piece
    c.getLibVersion()
s.finish()
print("came back whole:", back == data)
kept = []
for _ in range(40):
    kept.append(c.newStream(0))
    v.download(kept[-1], 0, 4096, 0)
    while kept[-1].recv(262120):
        pass
kept[0].finish(), kept[39].abort()
print("without a last word:", len(kept) - 2)
def ask():
    own = libvirt.open(uri)
    for _ in range(20):
        own.listAllDomains(), own.getAllDomainStats(), own.getInfo()
    done.append(own.close())
done = []
threads = [threading.Thread(target=ask) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("clients:", len(done))
"#;

#[test]
fn streams_and_calls_share_a_connection() {
    let libvirt = Libvirt::new();
    libvirt.make_pool();
    let mut python = libvirt.clients.python(libvirt.home());
    python.args(["-c", INTERLEAVED, &libvirt.uri()]);
    let outcome = libvirt.run(python);
    assert_eq!(outcome.status, 0, "{}{}", outcome.out, outcome.err);
    assert_eq!(
        outcome.out,
        "given up, QEMU\ncame back whole: True\nwithout a last word: 38\nclients: 8\n"
    );
}

#[test]
fn the_socket_can_be_named_on_the_command_line() {
    let rig = Rig::without_daemon();
    let config = std::fs::read_to_string(rig.path("manor.toml")).unwrap();
    let (without, _) = config.split_once("[libvirt]").unwrap();
    rig.write("manor.toml", without);
    let mut daemon = rig.command(&rig.binary);
    daemon.args(["daemon", "--config", "manor.toml", "--libvirt-socket", "elsewhere/sock"]);
    let mut daemon = daemon.stderr(Stdio::null()).spawn().unwrap();
    let clients = Clients::fetched().unwrap();
    let uri = format!("qemu+unix:///system?socket={}", rig.path("elsewhere/sock").display());
    let answers = || {
        let mut virsh = clients.virsh(rig.directory.path());
        virsh.args(["-c", &uri, "uri"]).stderr(Stdio::null()).stdout(Stdio::null());
        virsh.status().unwrap().success()
    };
    wait_for("the daemon to answer virsh", answers);
    // It watched for signals before it served: however early it is told to, it ends as it should.
    kill("TERM", &daemon.id().to_string());
    let ended = daemon.wait().unwrap();
    assert!(ended.success(), "{ended}");
}

#[test]
fn a_socket_of_systemd_is_served_by_its_name() {
    let rig = Rig::without_daemon();
    let path = rig.path("activated.sock");
    let socket = UnixListener::bind(&path).unwrap();
    // The shell puts the socket where systemd would, and knows the process id in advance.
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=libvirt-ro \
                  exec \"$0\" \"$@\"";
    let mut daemon = Command::new("sh")
        .args(["-c", script, MANOR, "daemon", "--config"])
        .arg(rig.path("manor.toml"))
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let clients = Clients::fetched().unwrap();
    let virsh = |line: &str| {
        let mut virsh = clients.virsh(rig.directory.path());
        virsh.arg("-c").arg(format!("qemu+unix:///system?socket={}", path.display()));
        let output = virsh.args(line.split(' ')).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let list = virsh("list --all");
    let define = virsh("net-start default");
    kill("TERM", &daemon.id().to_string());
    daemon.wait().unwrap();
    assert!(list.0, "{}", list.1);
    assert!(define.1.contains("operation forbidden"), "{}", define.1);
    assert!(!rig.path("run/libvirt-sock-ro").exists(), "the configured one is opened as well");
}

#[test]
fn the_read_only_socket_shows_everything_and_changes_nothing() {
    let libvirt = Libvirt::new();
    libvirt.rig.write("a.xml", definition("a", UUID));
    libvirt.ok("define a.xml");
    let socket = libvirt.rig.path("run/libvirt-sock-ro");
    let virsh = |line: &str| {
        let uri = format!("qemu+unix:///system?socket={}", socket.display());
        let mut virsh = libvirt.clients.virsh(libvirt.home());
        virsh.args(["-c", &uri]).args(line.split_whitespace());
        libvirt.run(virsh)
    };
    assert!(virsh("list --all").out.contains(" a "));
    for line in ["start a", "undefine a", "autostart a", "define a.xml", "setmaxmem a 1G --config"]
    {
        let outcome = virsh(line);
        assert!(outcome.err.contains("operation forbidden"), "{line}: {}", outcome.err);
    }
    // By the ordinary socket, a client that says that it only looks is held to its word.
    assert!(libvirt.refused("-r start a").contains("read only access prevents"));
    let audit = libvirt.rig.manor(["--json", "audit"]).out;
    assert!(audit.contains("domain.undefine") && audit.contains("by libvirt"), "{audit}");
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
fn virsh_commits_pulls_and_copies_and_hears_of_it() {
    use super::block_jobs::{content, define, overlay, path};
    let Some(libvirt) = Libvirt::with_guest() else { return };
    libvirt.rig.write("base.img", content());
    overlay(&libvirt.rig, "top.qcow2", "base.img", "raw");
    define(&libvirt.rig, "top.qcow2");
    libvirt.ok("start echo");
    let copy = path(&libvirt.rig, "copy.qcow2");
    // Both ways that a copy can be asked for.
    let left = format!("blockcopy echo vda {copy} --wait --finish --transient-job");
    assert!(libvirt.ok(&left).contains("Successfully copied"));
    std::fs::remove_file(&copy).unwrap();
    libvirt.ok(&format!("blockcopy echo vda {copy} --shallow --bandwidth 1000"));
    // It has the words for people on both streams.
    let info = || {
        let Outcome { out, err, .. } = libvirt.virsh("blockjob echo vda");
        out + &err
    };
    assert!(info().contains("Block Copy: ["), "{}", info());
    assert!(info().contains("1000.000 MiB/s"), "{}", info());
    libvirt.ok("blockjob echo vda --abort");
    assert!(info().contains("No current block job"), "{}", info());
    let done = libvirt.ok("blockcommit echo vda --active --wait --pivot --verbose");
    assert!(done.contains("Successfully pivoted"), "{done}");
    assert!(libvirt.ok("domblklist echo").contains("base.img"));
    libvirt.ok("destroy echo");

    define(&libvirt.rig, "top.qcow2");
    libvirt.ok("start echo");
    assert!(libvirt.ok("blockpull echo vda --wait").contains("Pull complete"));
    assert!(!libvirt.ok("dumpxml echo").contains("base.img"));
    libvirt.ok("destroy echo");
}

#[test]
fn virsh_moves_a_disk_onto_an_nbd_server() {
    use super::block_jobs::{content, define, overlay};
    use manor_tests::nbd::{NbdServer, Place};
    let Some(libvirt) = Libvirt::with_guest() else { return };
    libvirt.rig.write("base.img", content());
    overlay(&libvirt.rig, "top.qcow2", "base.img", "raw");
    define(&libvirt.rig, "top.qcow2");
    libvirt.ok("start echo");
    libvirt.rig.write("there", vec![0xff; content().len()]);
    let (image, socket) = (libvirt.rig.path("there"), libvirt.rig.path("nbd.sock"));
    let disk = format!(
        "<disk type='network' device='disk'><driver name='qemu' type='raw'/>\
         <source protocol='nbd' name='disk'><host transport='unix' socket='{}'/></source>\
         <target dev='vda' bus='virtio'/></disk>",
        socket.display()
    );
    libvirt.rig.write("to.xml", disk);
    let copy = "blockcopy echo vda --xml to.xml --reuse-external --wait --pivot --transient-job";
    let unreachable = libvirt.refused(copy);
    assert!(unreachable.contains("cannot be reached"), "{unreachable}");
    let _server = NbdServer::start(&image, &Place::Unix(socket), None).unwrap();
    assert!(libvirt.ok(copy).contains("Successfully pivoted"));
    let live = libvirt.ok("dumpxml echo");
    assert!(live.contains("protocol='nbd' name='disk'") && !live.contains("top.qcow2"), "{live}");
    assert!(std::fs::read(&image).unwrap() == content());
    libvirt.ok("destroy echo");
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

#[test]
fn virsh_keeps_a_guest_as_it_was_and_goes_back_to_it() {
    let Some(libvirt) = Libvirt::with_guest() else { return };
    let image = libvirt.rig.path("web.qcow2").display().to_string();
    let made = libvirt.rig.manor(["image", "create", "-f", "qcow2", &image, "1M"]);
    assert_eq!(made.status, 0, "{}", made.err);
    libvirt.ok(&format!("attach-disk echo {image} vdb --subdriver qcow2 --config"));
    assert_eq!(libvirt.ok("snapshot-list echo --name"), "");
    let made = libvirt.ok("snapshot-create-as echo s1 --disk-only --atomic");
    assert_eq!(made, "Domain snapshot s1 created");
    libvirt.rig.write("s2.xml", "<domainsnapshot><name>s2</name></domainsnapshot>");
    let made = libvirt.ok("snapshot-create echo s2.xml --disk-only");
    assert!(made.starts_with("Domain snapshot s2 created from"), "{made}");
    assert!(libvirt.ok("domblklist echo").contains("web.s2"));
    assert_eq!(libvirt.ok("snapshot-list echo --tree"), "s1\n  |\n  +- s2");
    assert!(libvirt.ok("snapshot-list echo --parent").contains("shutoff   s1"));
    assert_eq!(libvirt.ok("snapshot-list echo --leaves --name"), "s2");
    assert_eq!(libvirt.ok("snapshot-list echo --from s1 --name"), "s2");
    assert_eq!(libvirt.ok("snapshot-parent echo s2"), "s1");
    assert_eq!(libvirt.ok("snapshot-current echo --name"), "s2");
    let info = libvirt.ok("snapshot-info echo s1");
    for line in ["Current:        no", "Location:       external", "Descendants:    1"] {
        assert!(info.contains(line), "{info}");
    }
    assert!(libvirt.ok("snapshot-dumpxml echo s1").contains("<domainsnapshot>"));
    assert_eq!(libvirt.ok("list --all --name --with-snapshot"), "echo");
    let refused = libvirt.refused("undefine echo");
    assert!(refused.contains("snapshots"), "{refused}");

    libvirt.ok("start echo");
    // virsh asks a second time with force, when the first answer says that it takes that.
    let risky = libvirt.refused("snapshot-revert echo s1 --running");
    assert!(risky.contains("revert requires force"), "{risky}");
    libvirt.ok("snapshot-revert echo s1 --running --force");
    assert_eq!(libvirt.ok("domstate echo"), "running");
    assert_eq!(libvirt.ok("snapshot-current echo --name"), "s1");
    libvirt.ok(
        "snapshot-create-as echo mem --memspec file=/nonexistent/mem --no-metadata --print-xml",
    );
    let file = libvirt.rig.path("mem").display().to_string();
    libvirt.ok(&format!("snapshot-create-as echo mem --memspec {file},snapshot=external"));
    libvirt.ok("snapshot-revert echo mem --paused");
    assert_eq!(libvirt.ok("domstate echo"), "paused");
    libvirt.ok("destroy echo");
    assert!(libvirt.refused("snapshot-info echo none").contains("snapshot"));
    assert_eq!(libvirt.ok("snapshot-delete echo s1 --children"), "Domain snapshot s1 deleted");
    assert_eq!(libvirt.ok("snapshot-list echo --name"), "");
    libvirt.ok("undefine echo");
}

#[test]
fn virsh_has_a_backup_pulled_and_keeps_checkpoints() {
    let Some(bench) = super::backup::Bench::new() else { return };
    bench.rig.write("pull.xml", bench.pull(""));
    let one =
        "<domaincheckpoint><name>one</name><disks><disk name='vda'/></disks></domaincheckpoint>";
    bench.rig.write("one.xml", one);
    let libvirt = Libvirt { rig: bench.rig, clients: Clients::fetched().unwrap() };
    assert_eq!(libvirt.ok("backup-begin echo pull.xml one.xml"), "Backup started");
    assert!(libvirt.ok("backup-dumpxml echo").contains("mode='pull'"));
    let info = libvirt.ok("domjobinfo echo");
    assert!(info.contains("Unbounded") && info.contains("Backup"), "{info}");
    assert_eq!(libvirt.ok("domjobabort echo"), "");
    wait_for("its end", || {
        libvirt.virsh("backup-dumpxml echo").err.contains("no backup under way")
    });
    let made = libvirt.ok("checkpoint-create-as echo two --diskspec vda");
    assert_eq!(made, "Domain checkpoint two created");
    let list = libvirt.ok("checkpoint-list echo --parent");
    assert!(list.contains("one") && list.contains("two"), "{list}");
    assert_eq!(libvirt.ok("checkpoint-list echo --leaves --name"), "two");
    assert_eq!(libvirt.ok("checkpoint-parent echo two"), "one");
    assert!(libvirt.ok("checkpoint-info echo one").contains("Descendants:    1"));
    assert!(libvirt.ok("checkpoint-dumpxml echo two").contains("<domain type='kvm'>"));
    assert_eq!(libvirt.ok("checkpoint-delete echo two"), "Domain checkpoint two deleted");
    let gone = libvirt.refused("checkpoint-info echo two");
    assert!(gone.contains("Domain checkpoint not found"), "{gone}");
    libvirt.ok("destroy echo");
}
