//! `manor daemon --driver test` and libvirt's own clients, where no guest needs to run.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::qcow2::{CreateOptions, OpenOptions, Qcow2};
use image::{FileStorage, Image, Raw, Reference, Storage as _};
use manor_tests::libvirt::Clients;

use super::rig::{MANOR, NOBODY, Outcome, kill, wait_for};
use super::terminal::Terminal;

/// A daemon, and what talks to it.
pub(crate) struct Driver {
    directory: tempfile::TempDir,
    clients: Clients,
    daemon: Child,
    pub(crate) uri: String,
    /// Of the API.
    socket: String,
}

impl Driver {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    fn with(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::within(directory, options)
    }

    fn within(directory: tempfile::TempDir, options: &[&str]) -> Self {
        let mut daemon = Command::new(MANOR);
        daemon
            .args(["daemon", "--driver", "test"])
            .args(options)
            .current_dir(directory.path())
            .env("TMPDIR", directory.path())
            .stdin(Stdio::null());
        Self::started(directory, daemon)
    }

    pub(crate) fn started(directory: tempfile::TempDir, mut daemon: Command) -> Self {
        let log = std::fs::File::create(directory.path().join("daemon.log")).unwrap();
        let mut daemon = daemon.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        // Connections wait from then on: nothing is to be waited for here.
        let mut said = BufReader::new(daemon.stdout.take().unwrap()).lines().map(Result::unwrap);
        let (uri, socket) = (said.next().unwrap(), said.next().unwrap());
        Self { directory, clients: Clients::fetched().unwrap(), daemon, uri, socket }
    }

    pub(crate) fn home(&self) -> &Path {
        self.directory.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("daemon.log")).unwrap()
    }

    fn run(&self, command: &mut Command) -> Outcome {
        let output = command.current_dir(self.home()).stdin(Stdio::null()).output().unwrap();
        Outcome {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code().unwrap_or(-1),
        }
    }

    fn virsh_at(&self, uri: &str, line: &str) -> Outcome {
        let mut virsh = self.clients.virsh(self.home());
        self.run(virsh.args(["-c", uri]).args(line.split_whitespace()))
    }

    pub(crate) fn virsh(&self, line: &str) -> Outcome {
        self.virsh_at(&self.uri, line)
    }

    fn ok(&self, line: &str) -> String {
        let outcome = self.virsh(line);
        assert_eq!(outcome.status, 0, "{line}: {}", outcome.err);
        outcome.out.trim().to_owned()
    }

    fn refused(&self, line: &str) -> String {
        let outcome = self.virsh(line);
        assert_ne!(outcome.status, 0, "{line}: {}", outcome.out);
        outcome.err
    }

    fn virtinst(&self, line: &str) -> Outcome {
        let mut words = line.split_whitespace();
        let mut tool = self.clients.virtinst(words.next().unwrap(), self.home());
        self.run(tool.args(["--connect", &self.uri]).args(words))
    }

    fn made(&self, line: &str) {
        let outcome = self.virtinst(line);
        assert_eq!(outcome.status, 0, "{line}: {}{}", outcome.out, outcome.err);
    }

    pub(crate) fn python(&self, script: &Path) -> Outcome {
        self.run(self.clients.python(self.home()).arg(script).arg(&self.uri))
    }

    pub(crate) fn manor(&self, line: &str) -> Outcome {
        let mut manor = Command::new(MANOR);
        self.run(manor.args(["-c", &self.socket]).args(line.split_whitespace()))
    }

    fn end(&mut self, signal: &str) {
        kill(signal, &self.daemon.id().to_string());
        self.daemon.wait().unwrap();
    }

    /// The directories and the processes that are left of it.
    fn remains(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.home()).unwrap().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut left: Vec<_> = names.filter(|name| name.starts_with("manor-test-")).collect();
        let daemon = format!(" {} ", self.daemon.id());
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains("run-test-") && line.contains(&daemon) {
                left.push(line);
            }
        }
        left
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.daemon.try_wait().unwrap().is_none() {
            self.end("TERM");
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

#[test]
fn there_is_what_libvirts_test_driver_has() {
    let driver = Driver::new();
    assert_eq!(driver.ok("list --all --name"), "test");
    assert_eq!(driver.ok("domid test"), "1");
    assert_eq!(driver.ok("domuuid test"), "6695eb01-f6a4-8304-79aa-97f2502e193f");
    assert_eq!(driver.ok("domstate test --reason"), "running (booted)");
    assert!(driver.ok("dominfo test").contains("Max memory:     8388608 KiB"));
    assert!(driver.ok("net-list").contains("default   active"));
    assert!(driver.ok("pool-info default-pool").contains("Capacity:       100.00 GiB"));
    assert!(driver.ok("vol-list default-pool").contains("test.qcow2"));
    assert!(driver.ok("iface-list").contains("eth1   active   aa:bb:cc:dd:ee:ff"));
    assert!(driver.ok("nodedev-list").contains("net_eth1_aa_bb_cc_dd_ee_ff"));
    assert_eq!(driver.ok("hostname"), "test");
    let node = driver.ok("nodeinfo");
    for line in ["CPU(s):              16", "Memory size:         16777216 KiB"] {
        assert!(node.contains(line), "{node}");
    }
    let version = driver.ok("version");
    assert!(version.contains("Using API: TEST") && version.contains("Running hypervisor: TEST"));
    assert_eq!(driver.ok("uri"), driver.uri);
    let capabilities = driver.ok("capabilities");
    for kind in ["kvm", "test"] {
        assert!(capabilities.contains(&format!("<domain type='{kind}'/>")), "{capabilities}");
    }
    assert!(driver.ok("domcapabilities --virttype test").contains("<domain>test</domain>"));
    assert!(driver.ok("domifaddr test").contains("192.168.122.2/24"));
    assert!(driver.ok("domfsinfo test").contains("vda1"));
    assert_eq!(driver.ok("vncdisplay test"), "127.0.0.1:0");
    driver.ok("screenshot test screen.png");
    assert!(std::fs::read(driver.path("screen.png")).unwrap().starts_with(b"\x89PNG"));
    assert!(driver.manor("list").out.contains("test"));
    assert_eq!(driver.log(), "", "it complains of something");
}

#[test]
fn a_client_that_wants_qemu_finds_it() {
    let driver = Driver::new();
    let uri = driver.uri.replace("test+unix:///default", "qemu+unix:///system");
    assert!(driver.virsh_at(&uri, "version").out.contains("Using API: QEMU"));
    let uri = driver.uri.replace("test+unix:///default", "xen+unix:///system");
    assert!(driver.virsh_at(&uri, "uri").err.contains("there is test:///default"));
}

#[test]
fn a_guest_lives_without_a_machine() {
    let driver = Driver::new();
    driver.ok("suspend test");
    assert_eq!(driver.ok("domstate test --reason"), "paused (user)");
    driver.ok("resume test");
    driver.ok("reboot test");
    driver.ok("save test test.save");
    assert_eq!(driver.ok("domstate test --reason"), "shut off (saved)");
    driver.ok("restore test.save");
    driver.ok("managedsave test");
    driver.ok("start test");
    assert_eq!(driver.ok("domstate test --reason"), "running (restored)");
    driver.ok("dump test test.core --memory-only");
    assert!(std::fs::read(driver.path("test.core")).unwrap().starts_with(b"\x7fELF"));
    driver.ok("snapshot-create-as test one");
    driver.ok("destroy test");
    driver.ok("snapshot-create-as test two");
    driver.ok("snapshot-revert test one");
    assert_eq!(driver.ok("domstate test"), "running");
    driver.ok("snapshot-create-as test three --disk-only");
    assert_eq!(driver.ok("snapshot-list test --name"), "one\nthree\ntwo");
    driver.ok("attach-interface test network default --model virtio --live");
    assert_eq!(driver.ok("domiflist test").lines().count(), 4);
    driver.ok("vol-create-as default-pool more.qcow2 1G --format qcow2");
    driver.ok("attach-disk test more.qcow2 vdb --sourcetype file --live");
    driver.ok("detach-disk test vdb --live");
    driver.ok("shutdown test");
    wait_for("the guest to shut down", || driver.ok("domstate test") == "shut off");
    driver.ok("start test");
    let mut virsh = driver.clients.virsh(driver.home());
    virsh.args(["-c", &driver.uri, "console", "test"]);
    let mut console = Terminal::on(virsh);
    console.wait_for("boot 1");
    console.type_in(b"hello\n");
    console.wait_for("hello");
    console.type_in(b"poweroff\n");
    assert!(console.wait_for_the_end().success());
    wait_for("the guest to end", || driver.ok("domstate test") == "shut off");
}

#[test]
fn a_guest_that_was_started_so_ends_with_its_client() {
    let driver = Driver::new();
    driver.write("guest.xml", &definition("guest", ""));
    // virsh's connection ends with the command.
    driver.ok("create guest.xml --autodestroy");
    wait_for("the guest to go", || driver.ok("list --all --name") == "test");
    driver.ok("define guest.xml");
    driver.ok("start guest --autodestroy");
    wait_for("the guest to end", || driver.ok("domstate guest") == "shut off");
    // Another run of it is nobody's.
    driver.ok("start guest");
    assert_eq!(driver.ok("domstate guest"), "running");
}

#[test]
fn two_daemons_tell_the_same() {
    let said = || {
        let driver = Driver::new();
        driver.write("new.xml", &definition("new", ""));
        driver.ok("define new.xml");
        let all = ["dumpxml new", "dumpxml test --inactive", "net-dumpxml default", "domstats new"];
        all.map(|line| driver.ok(line))
    };
    assert_eq!(said(), said());
}

fn definition(name: &str, metadata: &str) -> String {
    format!(
        "<domain type='kvm'><name>{name}</name><metadata>{metadata}</metadata>\
         <memory unit='MiB'>512</memory><vcpu>2</vcpu><os><type>hvm</type></os><devices>\
         <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>\
         <source file='/nowhere/{name}.qcow2'/><target dev='vda' bus='virtio'/></disk>\
         <interface type='bridge'><source bridge='no-such-bridge'/><model type='virtio'/></interface>\
         <serial type='pty'/></devices></domain>"
    )
}

#[test]
fn guests_do_what_their_definitions_say_of_them() {
    let driver = Driver::new();
    let guest = |name: &str, attributes: &str| {
        let metadata = format!("<t:guest xmlns:t='urn:manor:test' {attributes}/>");
        driver.write("guest.xml", &definition(name, &metadata));
        driver.ok("define guest.xml");
    };
    guest("broken", "start='the moon is full'");
    let refused = driver.refused("start broken");
    assert!(refused.contains("the moon is full"), "{refused}");
    guest("deaf", "power-button='ignored'");
    driver.ok("start deaf");
    driver.ok("shutdown deaf");
    guest("doomed", "then='crash' after-ms='200'");
    driver.ok("start doomed");
    wait_for("the crash", || driver.ok("domstate doomed --reason") == "shut off (crashed)");
    guest("large", "save-ms='600000'");
    driver.ok("start large");
    let mut virsh = driver.clients.virsh(driver.home());
    virsh.args(["-c", &driver.uri, "save", "large", "large.save"]).current_dir(driver.home());
    let mut saving = virsh.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the save to begin", || !driver.ok("domjobinfo large").contains("None"));
    driver.ok("domjobabort large");
    assert!(!saving.wait().unwrap().success());
    assert!(driver.ok("domstate deaf").contains("shutdown"), "it is still asked to");
}

#[test]
fn nothing_outlives_the_daemon() {
    for signal in ["TERM", "KILL"] {
        let mut driver = Driver::new();
        assert_eq!(driver.ok("list --name"), "test");
        // Its directory, the guest, the network.
        assert_eq!(driver.remains().len(), 3, "{:?}", driver.remains());
        driver.end(signal);
        // A daemon that is killed cannot remove its directory.
        let left = usize::from(signal == "KILL");
        wait_for("processes to end", || driver.remains().len() == left);
    }
}

#[test]
fn definitions_stay_where_they_are_told_to() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path().join("state").display().to_string();
    {
        let driver = Driver::with(&["--state-dir", &place]);
        driver.write("kept.xml", &definition("kept", ""));
        driver.ok("define kept.xml");
    }
    let driver = Driver::with(&["--state-dir", &place]);
    assert_eq!(driver.ok("list --all --name"), "kept\ntest");
    assert_eq!(driver.ok("domstate test"), "shut off");
    driver.ok("start kept");
}

#[test]
fn a_file_says_what_there_is_at_the_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let node = format!(
        "<node><network><name>lab</name><ip address='10.9.0.1' prefix='24'/></network>{}\
         <domain file='second.xml'/></node>",
        definition("first", "")
    );
    std::fs::write(directory.path().join("node.xml"), node).unwrap();
    std::fs::write(directory.path().join("second.xml"), definition("second", "")).unwrap();
    let driver = Driver::within(directory, &["--fixture", "node.xml"]);
    assert_eq!(driver.ok("list --name"), "first\nsecond");
    assert!(driver.ok("net-info lab").contains("Active:         yes"));
    assert_eq!(driver.ok("pool-list --all --name"), "");
}

#[test]
fn options_of_the_test_driver_are_for_the_test_driver() {
    let output = Command::new(MANOR).args(["daemon", "--fixture", "x"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--fixture is for --driver test"), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn nobody_can_run_it_and_it_changes_nothing_of_the_host() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: only root can become nobody");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Where nobody can reach it, wherever it was built.
    let binary = directory.path().join("manor");
    assert!(Command::new("cp").arg(MANOR).arg(&binary).status().unwrap().success());
    std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let interfaces = || {
        let names = std::fs::read_dir("/sys/class/net").unwrap().flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    let before = interfaces();
    let mut daemon = Command::new(&binary);
    use std::os::unix::process::CommandExt as _;
    daemon
        .args(["daemon", "--driver", "test"])
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir(directory.path())
        .env("TMPDIR", directory.path());
    let driver = Driver::started(directory, daemon);
    assert_eq!(driver.ok("domstate test"), "running");
    assert!(driver.ok("net-list").contains("default   active"));
    let made = interfaces().into_iter().filter(|name| !before.contains(name));
    let ours = made.filter(|name| name == "virbr0" || name == "vnet0").count();
    assert_eq!(ours, 0);
    assert_eq!(driver.log(), "", "it complains of something");
}

#[test]
fn it_is_there_at_once() {
    let begun = Instant::now();
    let driver = Driver::new();
    assert_eq!(driver.manor("list --name").out.trim(), "test");
    let took = begun.elapsed();
    // Generous: other tests run meanwhile, and the program was built to be debugged.
    assert!(took < Duration::from_secs(30), "{took:?}");
    println!("the first answer came after {took:?}");
}

#[test]
fn virt_install_and_its_sisters_work_on_it() {
    let driver = Driver::new();
    driver.made(
        "virt-install --name web --memory 512 --import --disk size=1 --network \
         network=default,model=virtio --osinfo detect=off,require=off --graphics none \
         --noautoconsole",
    );
    assert_eq!(driver.ok("domstate web"), "running");
    assert!(driver.ok("vol-list default").contains("web.qcow2"));
    driver.made("virt-xml web --edit --memory 1024 --define");
    assert!(driver.ok("dumpxml web --inactive").contains("<memory unit='KiB'>1048576</memory>"));
    driver.ok("destroy web");
    driver.made("virt-clone --original web --name copy --auto-clone");
    assert!(driver.ok("domblklist copy").contains("images/default/copy.qcow2"));
    driver.ok("start copy");
    assert_eq!(driver.ok("list --name"), "test\ncopy");
}

#[test]
fn the_example_for_pytest_passes() {
    let driver = Driver::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("resources/examples/test_guests.py");
    let outcome = driver.python(&script);
    assert_eq!(outcome.status, 0, "{}{}", outcome.out, outcome.err);
    assert!(outcome.err.contains("Ran 3 tests"), "{}", outcome.err);
}

/// What virsh has no command for.
const CALLS: &str = "\
import libvirt, os, sys
libvirt.virEventRegisterDefaultImpl()
connection = libvirt.open(sys.argv[1])
domain = connection.lookupByName('test')
assert domain.memoryPeek(4096, 16, libvirt.VIR_MEMORY_PHYSICAL) == bytes(16)
assert domain.memoryPeek(4096, 16, libvirt.VIR_MEMORY_VIRTUAL) == bytes(16)
for place, size, flags in [(4096, 65537, 2), (1 << 60, 16, 2), (4096, 16, 3)]:
    try:
        domain.memoryPeek(place, size, flags)
        sys.exit('a look that is none: %r' % place)
    except libvirt.libvirtError as error:
        assert error.get_error_code() == libvirt.VIR_ERR_INVALID_ARG, error
assert domain.blockPeek('vda', 1 << 30, 16) == bytes(16)
off = connection.defineXML(open('off.xml').read())
assert off.blockPeek('vda', 0, 4) == b'over'
assert off.blockPeek('vda', 65532, 8) == b'\\0\\0\\0\\0base'
assert len(off.blockPeek(os.path.abspath('over.qcow2'), 1 << 20, 65536)) == 65536
off.create()
assert off.blockPeek('vda', 0, 4) == b'over', 'it runs'
for disk, place, size in [('vda', 0, 65537), ('vda', (4 << 20) - 1, 2), ('vda', 1 << 63, 1), ('vdz', 0, 1)]:
    try:
        off.blockPeek(disk, place, size)
        sys.exit('a look that is none: %r' % ((disk, place, size),))
    except libvirt.libvirtError as error:
        assert error.get_error_code() in [libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_DOMAIN], error
off.destroy()
assert domain.securityLabelList() == []
seen = []
domain_event = libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE
connection.domainEventRegisterAny(domain, domain_event, lambda *told: seen.append(told[2:4]), None)
domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, 'a title', None, None)
domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, '<a/>', 'x', 'urn:x')
while len(seen) < 2:
    libvirt.virEventRunDefaultImpl()
assert seen == [(1, None), (2, 'urn:x')], seen
passed = []
event = libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD
connection.domainEventRegisterAny(domain, event, lambda *told: passed.append(told[2:6]), None)
domain.setBlockThreshold('vda', 2000000)
while not passed:
    libvirt.virEventRunDefaultImpl()
dev, path, threshold, excess = passed[0]
assert (dev, threshold, excess) == ('vda', 2000000, 48000) and path.startswith('/'), passed
assert domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, 'urn:x') == '<a/>'
print('ok')
";

/// A domain with an overlay that has something of its own, on a raw image that has something, too.
fn write_overlay(driver: &Driver) {
    const SIZE: u64 = 4 << 20;
    let file = |name: &str| {
        let options = std::fs::File::options().read(true).write(true).create_new(true).clone();
        Arc::new(FileStorage::new(options.open(driver.path(name)).unwrap()).unwrap())
    };
    let (base, over) = (file("base.raw"), file("over.qcow2"));
    base.set_len(SIZE).unwrap();
    base.write(b"base", 65536).unwrap();
    let backing = Reference { name: "base.raw".to_owned(), format: Some("raw".to_owned()) };
    let options = CreateOptions { backing: Some(backing), ..CreateOptions::new(SIZE) };
    image::qcow2::create(&*over, &options).unwrap();
    let below: Arc<dyn Image> = Arc::new(Raw::open(base, true).unwrap());
    let options = OpenOptions { backing: Some(below), ..OpenOptions::default() };
    let image = Qcow2::open(over, options).unwrap();
    image.write(b"over", 0).unwrap();
    image.flush().unwrap();
    let path = driver.path("over.qcow2");
    driver.write(
        "off.xml",
        &format!(
            "<domain type='test'><name>off</name><memory unit='MiB'>64</memory><os><type>hvm</type></os>\
             <devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/>\
             <source file='{}'/><target dev='vda' bus='virtio'/></disk></devices></domain>",
            path.display()
        ),
    );
}

#[test]
fn programs_look_into_memory_and_disks_and_hear_of_notes() {
    let driver = Driver::new();
    write_overlay(&driver);
    driver.write("calls.py", CALLS);
    let outcome = driver.python(&driver.home().join("calls.py"));
    assert_eq!((outcome.status, outcome.out.as_str()), (0, "ok\n"), "{}", outcome.err);
}

#[test]
fn manors_own_verbs_note_tune_and_ask_as_virsh_does() {
    let driver = Driver::new();
    driver.write("keys", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 a@b\n");
    for (verb, said) in [
        ("desc test what-it-is-for --config", "Domain description updated successfully"),
        ("desc test --config", "what-it-is-for"),
        ("desc test", "No description for domain: test"),
        ("metadata test urn:x --prefix x --set <a/> --live", "Metadata modified"),
        ("metadata test urn:x", "<a/>"),
        ("metadata test urn:x --remove", "Metadata removed"),
        ("set-lifecycle-action test crash restart --live", ""),
        ("inject-nmi test", ""),
        ("guestvcpus test", "vcpus          : 0-1"),
        ("guestvcpus test --cpulist 1 --disable", ""),
        ("get-user-sshkeys test root", "ssh-ed25519 AAAA"),
        ("set-user-sshkeys test root --file keys", ""),
        ("dompmsuspend test disk", "Domain 'test' successfully suspended"),
        ("iothreadadd test 1 --config", ""),
        ("iothreadinfo test --config", "1"),
        ("iothreaddel test 1 --config", ""),
        ("numatune test --mode strict --nodeset 0 --config", ""),
        ("numatune test --config", "numa_nodeset   : 0"),
    ] {
        let outcome = driver.manor(verb);
        assert_eq!(outcome.status, 0, "{verb}: {}{}", outcome.out, outcome.err);
        assert!(outcome.out.contains(said), "{verb}: {}", outcome.out);
    }
    for (verb, status, complaint) in [
        ("metadata test urn:x", 3, "no element of the namespace urn:x"),
        ("metadata test urn:x --prefix x --set <a>", 1, "the element cannot be kept"),
        ("guestvcpus test --cpulist 1", 2, "--enable or --disable"),
        ("iothreadadd test 2 --live", 4, "those that it was started with"),
        ("set-lifecycle-action test sleep restart", 1, "there is no event"),
    ] {
        let outcome = driver.manor(verb);
        assert!(outcome.err.contains(complaint), "{verb}: {}", outcome.err);
        assert_eq!(outcome.status, status, "{verb}: {}", outcome.err);
    }
}

#[test]
fn the_example_for_asyncio_hears_of_a_guest_that_comes_and_goes() {
    let driver = Driver::new();
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("resources/examples/libvirt-asyncio.py");
    let outcome = driver.python(&script);
    assert_eq!(outcome.status, 0, "{}{}", outcome.out, outcome.err);
    assert_eq!(outcome.out, "started\nsuspended\nresumed\nstopped\n");
    assert_eq!(driver.ok("list --all --name"), "test");
}
