//! Who may do what, and who did.

use super::rig::{Rig, UUID, definition};

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
