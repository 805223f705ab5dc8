//! libvirt's own clients from other hosts: by TLS, by plain TCP, through ssh.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use manor_tests::libvirt::Clients;
use manor_tests::tools;
use manor_tests::vencrypt::Certificates;

use super::display;
use super::rig::{MANOR, Outcome, Rig, UUID, definition, kill, wait_for};

/// A daemon with doors for other hosts.
pub(crate) struct Hosts {
    pub(crate) rig: Rig,
    pub(crate) clients: Clients,
    tls: u16,
    tcp: u16,
}

/// Free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Hosts {
    /// With more of the configuration's table `[libvirt]`, and of what stands behind it.
    pub(crate) fn new(more: &str) -> Self {
        let mut rig = Rig::without_daemon();
        let certificates = Certificates::new().unwrap();
        certificates.write_pki(&rig.path("pki"), &rig.path("client")).unwrap();
        let (tls, tcp) = (free_port(), free_port());
        let config = std::fs::read_to_string(rig.path("manor.toml")).unwrap();
        let doors = format!(
            "tls = \"127.0.0.1:{tls}\"\ntcp = \"127.0.0.1:{tcp}\"\npki = {:?}\n{more}",
            rig.path("pki")
        );
        rig.write("manor.toml", config + &doors);
        rig.start_daemon();
        Self { rig, clients: Clients::fetched().unwrap(), tls, tcp }
    }

    pub(crate) fn tls(&self) -> String {
        let pki = self.rig.path("client").display().to_string();
        format!("qemu+tls://127.0.0.1:{}/system?pkipath={pki}", self.tls)
    }

    fn tcp(&self) -> String {
        format!("qemu+tcp://127.0.0.1:{}/system", self.tcp)
    }

    pub(crate) fn virsh(&self, uri: &str, line: &str) -> Outcome {
        self.run(self.clients.virsh(self.rig.directory.path()), uri, line)
    }

    /// With passwords.
    fn with_password(&self, uri: &str, password: &str, line: &str) -> Outcome {
        let mut virsh = self.clients.virsh(self.rig.directory.path());
        Clients::with_sasl(&mut virsh).unwrap();
        let file = format!(
            "[credentials-own]\nauthname=alice\npassword={password}\n\
             [auth-libvirt-127.0.0.1]\ncredentials=own\n\
             [auth-libvirt-localhost]\ncredentials=own\n"
        );
        self.rig.write("auth.conf", file);
        let file = self.rig.path("auth.conf").display().to_string();
        self.run(virsh, &format!("{uri}&authfile={file}"), line)
    }

    fn socket(&self, name: &str) -> String {
        format!("qemu+unix:///system?socket={}", self.rig.path("run").join(name).display())
    }

    fn run(&self, mut virsh: Command, uri: &str, line: &str) -> Outcome {
        virsh.args(["-c", uri]).args(line.split_whitespace()).stdin(Stdio::null());
        let output = virsh.current_dir(self.rig.directory.path()).output().unwrap();
        Outcome {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code().unwrap_or(-1),
        }
    }

    pub(crate) fn ok(&self, uri: &str, line: &str) -> String {
        let outcome = self.virsh(uri, line);
        assert_eq!(outcome.status, 0, "{line}: {}", outcome.err);
        outcome.out.trim().to_owned()
    }

    pub(crate) fn refused(&self, uri: &str, line: &str) -> String {
        let outcome = self.virsh(uri, line);
        assert_ne!(outcome.status, 0, "{line}: {}", outcome.out);
        outcome.err
    }

    fn reconfigure(&self, from: &str, to: &str) {
        let config = std::fs::read_to_string(self.rig.path("manor.toml")).unwrap();
        self.rig.write("manor.toml", config.replace(from, to));
        let said = || self.rig.daemon_log().matches("reloaded certificates").count();
        let before = said();
        kill("HUP", &self.rig.daemon_pid().to_string());
        wait_for("the reload", || said() > before);
    }
}

const VIEWER: &str = "[[libvirt.client]]\nsubject = \"*CN=viewer\"\nrole = \"admin\"\n";

#[test]
fn virsh_comes_in_by_tls_as_what_its_certificate_says() {
    let hosts = Hosts::new(VIEWER);
    let uri = hosts.tls();
    hosts.rig.write("a.xml", definition("a", UUID));
    assert_eq!(hosts.ok(&uri, "define a.xml"), "Domain 'a' defined from a.xml");
    assert!(hosts.ok(&uri, "list --all").contains("a      shut off"));
    let audit = hosts.rig.manor(["--json", "audit"]).out;
    assert!(audit.contains("CN=viewer (127.0.0.1), by libvirt"), "{audit}");
    assert!(audit.contains("\"certificate\""), "{audit}");

    hosts.reconfigure("role = \"admin\"", "role = \"operator\"\ndomains = [\"b\"]");
    let denied = hosts.refused(&uri, "undefine a");
    assert!(denied.contains("failed to get domain 'a'"), "{denied}");
    assert_eq!(hosts.ok(&uri, "list --all --name"), "");
    let denied = hosts.refused(&uri, "net-start default");
    assert!(denied.contains("access denied"), "{denied}");

    hosts.reconfigure("*CN=viewer", "CN=other");
    let stranger = hosts.refused(&uri, "list");
    assert!(
        stranger.contains("verification (of our certificate or IP address) failed"),
        "{stranger}"
    );
    assert!(hosts.rig.daemon_log().contains("\"CN=viewer\" has no role here"));
}

#[test]
fn who_shows_no_certificate_or_one_of_another_authority_stays_outside() {
    let hosts = Hosts::new(VIEWER);
    let foreign = Certificates::new().unwrap();
    let client = hosts.rig.path("client");
    std::fs::write(client.join("clientcert.pem"), &foreign.viewer.certificate).unwrap();
    std::fs::write(client.join("clientkey.pem"), &foreign.viewer.key).unwrap();
    hosts.refused(&hosts.tls(), "list");
    std::fs::remove_file(client.join("clientcert.pem")).unwrap();
    std::fs::remove_file(client.join("clientkey.pem")).unwrap();
    hosts.refused(&hosts.tls(), "list");
    assert!(!hosts.rig.manor(["--json", "audit"]).out.contains("by libvirt"));
}

#[test]
fn plain_tcp_is_for_this_host_and_looks_only_unless_told_otherwise() {
    let hosts = Hosts::new("");
    let uri = hosts.tcp();
    assert_eq!(hosts.ok(&uri, "list --all --name"), "");
    let denied = hosts.refused(&uri, "net-start default");
    assert!(denied.contains("operation forbidden"), "{denied}");
    let other = Rig::without_daemon();
    let refused =
        other.manor(["daemon", "--config", "manor.toml", "--libvirt-tcp", "0.0.0.0:16509"]);
    assert_eq!(refused.status, 1, "{}", refused.err);
    assert!(refused.err.contains("0.0.0.0:16509 is not a loopback address"), "{}", refused.err);
    let nowhere = ["daemon", "--config", "/dev/null", "--libvirt-tls", "127.0.0.1:0", "--pkipath"];
    let refused = hosts.rig.manor(nowhere.into_iter().chain(["nowhere"]));
    assert_eq!(refused.status, 1, "{}", refused.err);
    assert!(refused.err.contains("nowhere/CA/cacert.pem"), "{}", refused.err);
}

const BY_PASSWORD: &str = "auth_tls = \"sasl\"\nauth_unix_rw = \"sasl\"\n";

#[test]
fn virsh_comes_in_by_a_password_over_tls_and_at_the_socket() {
    let hosts = Hosts::new(BY_PASSWORD);
    hosts.rig.write("password", "open sesame\n");
    let set = |role: &str| {
        let file = ["--password-file", "password"];
        let set = hosts.rig.manor(["user", "set", "alice", "--role", role].iter().chain(&file));
        assert_eq!(set.status, 0, "{}", set.err);
    };
    set("admin");
    let list = hosts.rig.manor(["user", "list"]).out;
    assert!(list.contains(" alice   admin   all "), "{list}");
    for uri in [hosts.tls(), hosts.socket("libvirt-sock")] {
        let wrong = hosts.with_password(&uri, "open barley", "list");
        assert_ne!(wrong.status, 0);
        assert!(wrong.err.contains("authentication failed"), "{}", wrong.err);
        let right = hosts.with_password(&uri, "open sesame", "net-start default");
        assert!(!right.err.contains("denied"), "{}", right.err);
        let list = hosts.with_password(&uri, "open sesame", "list --all --name");
        assert_eq!((list.status, list.out.trim()), (0, ""), "{}", list.err);
    }
    set("reader");
    let refused =
        hosts.with_password(&hosts.tls(), "open sesame", "pool-define-as x dir --target /x");
    assert!(refused.err.contains("operation forbidden"), "{}", refused.err);
    let audit = hosts.rig.manor(["--json", "audit"]).out;
    assert!(audit.contains("alice, 127.0.0.1, by libvirt"), "{audit}");
    assert!(audit.contains("\"password\"") && audit.contains("\"authenticate\""), "{audit}");
    assert!(!audit.contains("sesame"), "{audit}");
    // The socket that was left without is as before.
    assert_eq!(hosts.ok(&hosts.socket("libvirt-sock-ro"), "list --all --name"), "");
    assert_eq!(hosts.rig.manor(["user", "remove", "alice"]).status, 0);
    assert_eq!(hosts.rig.manor(["user", "remove", "alice"]).status, 3);
    let gone = hosts.with_password(&hosts.tls(), "open sesame", "list");
    assert!(gone.err.contains("authentication failed"), "{}", gone.err);
}

/// What a client does with the other host's shell, without the other host.
const SSH: &str = "#!/bin/sh
while [ \"$1\" != -- ]; do shift; done
shift 2
exec sh -c \"$*\"
";

#[test]
fn virsh_comes_in_through_ssh_by_the_helper_and_by_netcat() {
    let hosts = Hosts::new("");
    let rig = &hosts.rig;
    let bin = rig.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let script = |name: &str, text: &str| {
        std::fs::write(bin.join(name), text).unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(bin.join(name), open).unwrap();
    };
    script("ssh", SSH);
    let config = rig.path("manor.toml").display().to_string();
    script(
        "virt-ssh-helper",
        &format!("#!/bin/sh\nexec {MANOR} virt-ssh-helper --config {config} \"$@\"\n"),
    );
    let virsh = |uri: &str, line: &str| {
        let mut virsh = hosts.clients.virsh(rig.directory.path());
        virsh.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
        hosts.run(virsh, uri, line)
    };
    rig.write("a.xml", definition("a", UUID));
    let defined = virsh("qemu+ssh://elsewhere/system", "define a.xml");
    assert_eq!(defined.status, 0, "{}", defined.err);
    let list = virsh("qemu+ssh://elsewhere/system", "-r list --all --name");
    assert_eq!(list.out.trim(), "a", "{}", list.err);
    let refused = virsh("qemu+ssh://elsewhere/system", "-r undefine a");
    assert_ne!(refused.status, 0);

    let netcat = tools::netcat().unwrap();
    script("nc", &format!("#!/bin/sh\nexec {} \"$@\"\n", netcat.words().join(" ")));
    let socket = rig.path("run/libvirt-sock").display().to_string();
    let uri = format!("qemu+ssh://elsewhere/system?proxy=netcat&socket={socket}");
    let list = virsh(&uri, "list --all --name");
    assert_eq!(list.out.trim(), "a", "{}", list.err);

    // As setup links it.
    let link = rig.path("virt-ssh-helper");
    std::os::unix::fs::symlink(MANOR, &link).unwrap();
    let said = |uri: &str| {
        let output = Command::new(&link).arg(uri).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(said(&format!("qemu:///system?socket={socket}")), (Some(0), String::new()));
    assert!(said("xen:///system").1.contains("there is qemu:///system"));
    let nowhere = said("qemu:///system?socket=/nonexistent/sock");
    assert_eq!(nowhere.0, Some(6), "{}", nowhere.1);
    assert!(nowhere.1.contains("/nonexistent/sock"), "{}", nowhere.1);
}

const VIEWER_BY_DESCRIPTOR: &str = "
import libvirt, os, sys
d = libvirt.open(sys.argv[1]).lookupByName('show')
fds = [d.openGraphicsFD(0, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH) for _ in range(2)]
print([os.read(fd, 12) for fd in fds], d.isActive())
";

const DESCRIPTORS_OF_CLIENTS: &str = r#"
import libvirt, socket, sys
c = libvirt.open(sys.argv[1])
d = c.lookupByName('show')
ours, theirs = socket.socketpair()
d.openGraphics(0, theirs.fileno(), 0)
theirs.close()
print(ours.recv(12))
ours.close()
stream, datagrams = socket.socketpair()[0], socket.socketpair(type=socket.SOCK_DGRAM)[0]
for what in (
    lambda: d.openGraphics(0, datagrams.fileno(), 0),
    lambda: d.openGraphics(1, stream.fileno(), 0),
    lambda: d.createWithFiles([0, 1], 0),
    lambda: c.createXMLWithFiles('<domain/>', [0], 0),
    lambda: d.FDAssociate('disk', [0], 0),
):
    try:
        what()
        print('nothing is wrong with it')
    except libvirt.libvirtError as error:
        print(error.get_error_code(), error)
plain, migratable = d.XMLDesc(0), d.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)
print([text in shown for shown in (plain, migratable) for text in ('sesame', 'id=', 'pcie-root')], d.isActive())
"#;

#[test]
fn a_viewer_is_served_at_its_own_socket_and_other_descriptors_are_refused_by_name() {
    let Some(rig) = display::started("<graphics type='vnc' port='-1' passwd='sesame'/>") else {
        return;
    };
    let clients = Clients::fetched().unwrap();
    let mut python = clients.python(rig.directory.path());
    python.args(["-c", DESCRIPTORS_OF_CLIENTS]);
    python.arg(format!("qemu+unix:///system?socket={}", rig.path("run/libvirt-sock").display()));
    let output = python.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 7, "{said}{error}");
    assert_eq!(lines[0], "b'RFB 003.008\\n'");
    for (line, [code, words]) in lines[1..6].iter().zip([
        ["8 ", "one end of a stream socket"],
        ["8 ", "no screen 1"],
        ["3 ", "init of a container"],
        ["3 ", "init of a container"],
        ["84 ", "opened by their paths"],
    ]) {
        assert!(line.starts_with(code) && line.contains(words), "{words}: {said}");
    }
    assert_eq!(lines[6], "[False, True, True, True, True, True] 1", "{said}");
}

#[test]
fn a_viewer_gets_the_screen_as_a_descriptor() {
    let Some(rig) = display::started("<graphics type='vnc' port='-1' passwd='sesame'/>") else {
        return;
    };
    let clients = Clients::fetched().unwrap();
    let mut python = clients.python(rig.directory.path());
    let socket = rig.path("run/libvirt-sock");
    python.args(["-c", VIEWER_BY_DESCRIPTOR]);
    python.arg(format!("qemu+unix:///system?socket={}", socket.display()));
    let output = python.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "[b'RFB 003.008\\n', b'RFB 003.008\\n'] 1\n", "{error}");
}
