//! `manor plan` and `manor apply`: the table, the change, and what is said of mistakes.

use super::guests;

#[test]
fn a_plan_is_shown_and_applied() {
    let Some(rig) = guests::defined() else { return };
    std::fs::File::create(rig.path("b.img")).unwrap().set_len(1 << 20).unwrap();
    guests::ok(&rig, &["start", "echo"]);
    assert_eq!(guests::ok(&rig, &["plan", "echo.xml"]), "Nothing would change\n\n");
    let disk = format!(
        "<devices><disk type='file'><source file='{}'/><target dev='vdb' bus='virtio'/></disk>",
        rig.path("b.img").display()
    );
    let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    let xml = xml.replace("<devices>", &disk).replace(">32</memory>", ">64</memory>");
    rig.write("new.xml", &xml);
    let shown = guests::ok(&rig, &["plan", "new.xml"]);
    let lines: Vec<_> = shown.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("When"), "{shown}");
    let has =
        |words: &[&str]| lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["next start", "memory", "32768", "65536"]), "{shown}");
    assert!(has(&["live", "devices/disk[vdb]", "<disk"]), "{shown}");
    assert_eq!(guests::ok(&rig, &["domblklist", "echo", "--inactive"]).matches("vdb").count(), 0);

    let done = guests::ok(&rig, &["apply", "new.xml"]);
    assert!(done.ends_with("Domain 'echo' is as new.xml says\n\n"), "{done}");
    for list in [&["domblklist", "echo"][..], &["domblklist", "echo", "--inactive"]] {
        assert!(guests::ok(&rig, list).contains("vdb"));
    }
    let left = guests::ok(&rig, &["plan", "new.xml"]);
    assert!(
        left.contains("memory") && !left.contains("vdb"),
        "what waits for the next start: {left}"
    );
    let json = guests::ok(&rig, &["plan", "new.xml", "--json"]);
    assert!(json.contains("\"when\": \"next-start\""), "{json}");

    // This guest lets go of nothing: all stays, and it is said why.
    let refused = rig.manor(["apply", "echo.xml"]);
    assert!(
        refused.err.contains("cannot detach disk vdb: the guest does not let go"),
        "{}",
        refused.err
    );
    assert!(guests::ok(&rig, &["domblklist", "echo", "--inactive"]).contains("vdb"));
    rig.write("bad.xml", xml.replace("<vcpu>", "<vpcu/><vcpu>"));
    let refused = rig.manor(["plan", "bad.xml"]);
    assert!(refused.err.contains("bad.xml:1") && refused.err.contains("vcpu"), "{}", refused.err);
    rig.write("none.xml", "<domain/>");
    assert!(rig.manor(["plan", "none.xml"]).err.contains("--domain"));
    guests::ok(&rig, &["destroy", "echo"]);
}
