//! Where libvirt's clients come in, and what goes over one connection.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use manor_tests::libvirt::Clients;

use super::super::rig::{MANOR, Rig, UUID, definition, kill, wait_for};
use super::Libvirt;

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
