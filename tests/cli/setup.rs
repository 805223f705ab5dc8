//! Installing from the binary, completion, manual pages, configuration.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::rig::Rig;

/// Every file below a directory with its text.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if let Ok(target) = std::fs::read_link(&path) {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.insert(name, format!("-> {}", target.display()));
            } else if path.is_dir() {
                todo.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn setup_installs_again_without_a_change_and_removes_what_it_made() {
    let rig = Rig::without_daemon();
    let root = rig.path("root");
    let install = || {
        rig.manor(["setup", "--binary", "/usr/local/bin/manor", "--root", root.to_str().unwrap()])
    };
    assert_eq!(install().status, 0);
    let first = tree(&root);
    let names: Vec<_> = first.keys().map(String::as_str).collect();
    let expected = [
        "etc/manor/manor.toml",
        "etc/systemd/system/manor-guests.service",
        "etc/systemd/system/manor-ro.socket",
        "etc/systemd/system/manor.service",
        "etc/systemd/system/manor.socket",
        "etc/sysusers.d/manor.conf",
        "usr/local/bin/virt-ssh-helper",
    ];
    assert_eq!(names, expected);
    assert_eq!(first["usr/local/bin/virt-ssh-helper"], "-> /usr/local/bin/manor");
    let unit = &first["etc/systemd/system/manor.service"];
    for line in [
        "ExecStart=/usr/local/bin/manor daemon",
        "Type=notify",
        "KillMode=process",
        "Delegate=yes",
        "Restart=on-failure",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    let guests = &first["etc/systemd/system/manor-guests.service"];
    assert!(guests.contains("\nExecStop=/usr/local/bin/manor shutdown-guests\n"), "{guests}");
    let state = std::fs::metadata(root.join("var/lib/manor")).unwrap().permissions().mode();
    assert_eq!(state & 0o777, 0o711);
    assert!(root.join("var/lib/libvirt/boot").is_dir());

    let again = install();
    assert_eq!((again.status, tree(&root)), (0, first));
    assert!(!again.out.contains("written") && !again.out.contains("updated"), "{}", again.out);

    let removed = rig.manor(["setup", "--remove", "--root", root.to_str().unwrap()]);
    assert_eq!(removed.status, 0, "{}", removed.err);
    assert_eq!(tree(&root), BTreeMap::new());
    assert!(!root.join("var/lib/manor").exists());
    assert!(!root.join("var/lib/libvirt").exists());
}

#[test]
fn removal_keeps_what_people_made() {
    let rig = Rig::without_daemon();
    let root = rig.path("root");
    let setup = |remove: bool| {
        let mut args = vec!["setup", "--root", root.to_str().unwrap()];
        args.extend(remove.then_some("--remove"));
        assert_eq!(rig.manor(args).status, 0);
    };
    setup(false);
    let config = root.join("etc/manor/manor.toml");
    std::fs::write(&config, "[log]\nlevel = \"debug\"\n").unwrap();
    let definition = root.join("var/lib/manor/domains/one.xml");
    std::fs::create_dir_all(definition.parent().unwrap()).unwrap();
    std::fs::write(&definition, "<domain/>").unwrap();
    setup(false);
    setup(true);
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "[log]\nlevel = \"debug\"\n");
    assert!(definition.exists());
    assert!(!root.join("etc/systemd/system/manor.service").exists());
}

#[test]
fn the_configuration_is_checked_with_the_place_of_each_mistake() {
    let rig = Rig::without_daemon();
    rig.write("good.toml", rig.manor(["config", "default"]).out);
    assert_eq!(rig.manor(["config", "check", "good.toml"]).out, "good.toml is in order\n");
    rig.write("bad.toml", "[api]\nsokcet = \"/x\"\n");
    let bad = rig.manor(["config", "check", "bad.toml"]);
    assert_eq!(bad.status, 1);
    assert!(bad.err.starts_with("error: bad.toml:2:1: unknown field `sokcet`"), "{}", bad.err);
    let missing = rig.manor(["config", "check", "missing.toml"]);
    assert_eq!(missing.err, "error: cannot read missing.toml: No such file or directory\n");
}

#[test]
fn completions_and_manual_pages_come_from_the_binary() {
    let rig = Rig::without_daemon();
    for shell in ["bash", "zsh", "fish", "elvish"] {
        let script = rig.manor(["completion", shell]);
        assert_eq!(script.status, 0);
        assert!(script.out.contains("domblklist"), "{shell}");
    }
    assert_eq!(rig.manor(["man", "man"]).status, 0);
    let page = std::fs::read_to_string(rig.path("man/manor-start.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("paused"), "{page}");
    assert!(rig.path("man/manor.1").exists());
}
