//! Who may do what, and who did.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Stdio;

use manor_tests::vencrypt::Certificates;

use super::guests::{defined, ok};
use super::rig::{MANOR, Outcome, Rig, UUID, definition, kill, wait_for};

/// A daemon that other hosts can reach, by `authority.pem` and what is told to it.
struct Remote {
    rig: Rig,
    port: u16,
}

impl Remote {
    /// `rig` has a daemon, which is started anew.
    fn new(mut rig: Rig) -> Self {
        let certificates = Certificates::new().unwrap();
        rig.write("authority.pem", &certificates.authority);
        rig.write("server-cert.pem", &certificates.server.certificate);
        rig.write("server-key.pem", &certificates.server.key);
        rig.write("client-cert.pem", &certificates.viewer.certificate);
        rig.write("client-key.pem", &certificates.viewer.key);
        let path = |name: &str| rig.path(name).display().to_string();
        let listen = format!(
            "[listen]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n\
             [[listen.client]]\ncommon_name = \"viewer\"\nrole = \"reader\"\n",
            path("server-cert.pem"),
            path("server-key.pem"),
            path("authority.pem")
        );
        // Free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = std::fs::read_to_string(rig.path("manor.toml")).unwrap();
        let tcp = format!("[listen]\ntcp = \"127.0.0.1:{port}\"");
        rig.write("manor.toml", config + &listen.replace("[listen]", &tcp));
        rig.end_daemon("TERM");
        rig.start_daemon();
        Self { rig, port }
    }

    fn uri(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn token(&self, name: &str, role: &str) -> String {
        let secret = ok(&self.rig, &["-q", "token", "create", name, "--role", role]);
        let file = format!("{name}.token");
        self.rig.write(&file, secret);
        file
    }

    fn manor(&self, args: &[&str]) -> Outcome {
        let uri = self.uri();
        self.rig.manor([&["-c", &uri, "--ca", "authority.pem"], args].concat())
    }
}

#[test]
fn the_audit_log_tells_who_did_what_also_of_a_daemon_that_was_killed() {
    let mut rig = Rig::new();
    rig.write("d.xml", definition("demo", UUID));
    assert_eq!(rig.manor(["define", "d.xml"]).status, 0);
    rig.manor(["-r", "-c", rig.path("run/api-ro.sock").to_str().unwrap(), "destroy", "demo"]);
    assert_eq!(rig.manor(["start", "demo"]).status, 1);
    rig.end_daemon("KILL");
    rig.start_daemon();
    let log = rig.manor(["--json", "audit"]);
    assert_eq!(log.status, 0, "{}", log.err);
    let records: serde_json::Value = serde_json::from_str(&log.out).unwrap();
    let rows: Vec<_> = records
        .as_array()
        .unwrap()
        .iter()
        .map(|record| ["operation", "result", "via"].map(|name| record[name].as_str().unwrap()))
        .collect();
    assert_eq!(
        rows,
        [
            ["domain.define", "ok", "unix"],
            ["domain.destroy", "denied", "unix"],
            ["domain.start", "resource-missing", "unix"],
        ]
    );
    assert_eq!(records[2]["target"]["name"], "demo");
    let uid = rustix::process::geteuid().as_raw();
    assert!(records[0]["caller"].as_str().unwrap().starts_with(&format!("uid {uid} (pid ")));
    let table = rig.manor(["audit", "-n", "1"]).out;
    assert!(table.contains("audit.get"), "{table}");
    let read_only = rig.path("run/api-ro.sock").display().to_string();
    assert_eq!(rig.manor(["-c", &read_only, "audit"]).status, 5);
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let rig = Rig::new();
    let made = rig.manor(["token", "create", "ci", "--role", "operator", "--domain", "web"]);
    assert_eq!(made.status, 0, "{}", made.err);
    assert!(made.out.starts_with("manor_") && made.out.trim().len() == 103, "{}", made.out);
    rig.manor(["token", "create", "eye", "--role", "reader", "--expires", "30d"]);
    let again = rig.manor(["token", "create", "ci", "--role", "admin"]);
    assert_eq!(again.status, 4, "{}", again.err);
    let list = rig.manor(["token", "list"]).out;
    assert!(list.contains(" ci     operator   web ") && list.contains(" eye    reader     all "));
    assert!(!list.contains("manor_"), "{list}");
    assert_eq!(rig.manor(["token", "revoke", "ci"]).out, "Token 'ci' revoked\n\n");
    assert_eq!(rig.manor(["token", "revoke", "ci"]).status, 3);
    assert!(!rig.manor(["token", "list"]).out.contains(" ci "));
    let wrong = rig.manor(["token", "create", "x", "--role", "reader", "--expires", "30"]);
    assert_eq!(wrong.status, 2, "{}", wrong.err);
}

#[test]
fn other_hosts_come_in_over_tls_by_a_token_or_a_certificate() {
    let remote = Remote::new(Rig::new());
    let stranger = remote.manor(&["list"]);
    assert_eq!(stranger.status, 5, "{}", stranger.err);
    assert!(stranger.err.contains("say who you are") && stranger.err.contains("MANOR_TOKEN"));
    let reader = remote.token("eye", "reader");
    assert_eq!(remote.manor(&["--token-file", &reader, "list", "--all"]).status, 0);
    let refused = remote.manor(&["--token-file", &reader, "undefine", "x"]);
    assert_eq!(refused.status, 5, "{}", refused.err);
    let admin = remote.token("boss", "admin");
    remote.rig.write("d.xml", definition("demo", UUID));
    assert_eq!(remote.manor(&["--token-file", &admin, "define", "d.xml"]).status, 0);
    let own = ["--cert", "client-cert.pem", "--key", "client-key.pem"];
    let list = remote.manor(&[&own[..], &["list", "--all", "--name"]].concat());
    assert_eq!((list.out.as_str(), list.status), ("demo\n\n", 0), "{}", list.err);
    let log = remote.manor(&["--token-file", &admin, "--json", "audit"]).out;
    assert!(log.contains("\"boss (127.0.0.1)\"") && log.contains("\"eye (127.0.0.1)\""), "{log}");

    // Without the authority nobody knows whom he talks to.
    let uri = remote.uri();
    let unknown = remote.rig.manor(["-c", &uri, "--ca", "client-cert.pem", "list"]);
    assert_eq!(unknown.status, 6, "{}", unknown.err);
    assert!(unknown.err.contains("--ca FILE"), "{}", unknown.err);
    let half = remote.manor(&["--cert", "client-cert.pem", "list"]);
    assert_eq!(half.status, 2, "{}", half.err);
}

#[test]
fn a_hangup_takes_up_certificates_and_roles_anew() {
    let remote = Remote::new(Rig::new());
    let own = ["--cert", "client-cert.pem", "--key", "client-key.pem", "list"];
    assert_eq!(remote.manor(&own).status, 0);
    let config = std::fs::read_to_string(remote.rig.path("manor.toml")).unwrap();
    remote.rig.write("manor.toml", config.replace("\"viewer\"", "\"other\""));
    let hang_up = || kill("HUP", &remote.rig.daemon_pid().to_string());
    hang_up();
    let said = |words: &str| remote.rig.daemon_log().contains(words);
    wait_for("the reload", || said("reloaded certificates and their roles"));
    let refused = remote.manor(&own);
    assert_eq!(refused.status, 5, "{}", refused.err);
    assert!(refused.err.contains("[[listen.client]]"), "{}", refused.err);
    // What cannot be used changes nothing.
    remote.rig.write("server-key.pem", "no key");
    hang_up();
    wait_for("the complaint", || said("certificates and their roles stay as they were"));
    assert_eq!(remote.manor(&own).status, 5);
}

#[test]
fn a_daemon_without_a_certificate_does_not_listen_for_other_hosts() {
    let rig = Rig::without_daemon();
    let refused = rig.manor(["daemon", "--config", "manor.toml", "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.status, 1);
    assert!(refused.err.contains("/etc/manor/tls/server-cert.pem"), "{}", refused.err);
    assert!(refused.err.contains("listen.certificate"), "{}", refused.err);
    assert!(!rig.path("run").exists());
}

#[test]
fn a_console_is_typed_at_over_tls() {
    let Some(rig) = defined() else { return };
    let remote = Remote::new(rig);
    let operator = remote.token("ci", "operator");
    let started = remote.manor(&["--token-file", &operator, "start", "echo"]);
    assert_eq!(started.status, 0, "{}", started.err);
    let mut console = remote
        .rig
        .command(MANOR.as_ref())
        .args(["-c", &remote.uri(), "--ca", "authority.pem", "--token-file", &operator])
        .args(["console", "echo"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    console.stdin.as_mut().unwrap().write_all(b"hello q").unwrap();
    let mut seen = String::new();
    console.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
    assert!(console.wait().unwrap().success());
    assert!(seen.contains("hello") && seen.contains("bye"), "{seen}");
}

#[test]
fn the_socket_belongs_to_the_group_that_the_configuration_names() {
    let group = std::fs::read_to_string("/etc/group").unwrap();
    let daemon = group.lines().find_map(|line| line.strip_prefix("daemon:x:")?.split(':').next());
    let Some(gid) = daemon.filter(|_| rustix::process::geteuid().is_root()) else {
        println!("SKIP: only root can give a socket to another group");
        return;
    };
    let mut rig = Rig::without_daemon();
    let config = std::fs::read_to_string(rig.path("manor.toml")).unwrap();
    let grouped = config.replace("socket_group = \"\"", "socket_group = \"daemon\"");
    rig.write("manor.toml", grouped);
    rig.start_daemon();
    let of = |name: &str| {
        let facts = rig.path(name).metadata().unwrap();
        (facts.gid(), facts.permissions().mode() & 0o777)
    };
    assert_eq!(of("run/api.sock"), (gid.parse().unwrap(), 0o660));
    assert_eq!(of("run/api-ro.sock").1, 0o666);
}
