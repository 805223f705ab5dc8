//! libvirt's own clients from other hosts: by TLS, by plain TCP, through ssh.

use std::process::Stdio;

use manor_tests::libvirt::Clients;
use manor_tests::vencrypt::Certificates;

use super::rig::{Outcome, Rig, UUID, definition, kill, wait_for};

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
        let mut virsh = self.clients.virsh(self.rig.directory.path());
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
    assert!(refused.err.contains("0.0.0.0:0 is not a loopback address"), "{}", refused.err);
    let nowhere = ["daemon", "--config", "/dev/null", "--libvirt-tls", "127.0.0.1:0", "--pkipath"];
    let refused = hosts.rig.manor(nowhere.into_iter().chain(["nowhere"]));
    assert_eq!(refused.status, 1, "{}", refused.err);
    assert!(refused.err.contains("nowhere/CA/cacert.pem"), "{}", refused.err);
}
