//! `manor import libvirt`, from the files of a host on which libvirt 9.0 of Debian 12 and its virt-install have
//! defined what is there (`tests/cli/libvirt_host`). What the plan says is compared with `plan.txt` beside them;
//! `UPDATE_GOLDEN=1` writes that anew.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::rig::{Outcome, Rig};

const HOST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/libvirt_host");
/// Of the flash that the fixture's firmware is said to have.
const VARIABLES: usize = 528 << 10;
const DB: &str = "5295626f-fca7-4829-a63a-e1699593f731";
const SECRET: &str = "5b1807bd-11c9-4148-8fd9-ffe421a420c1";

/// A daemon with UEFI firmware, and libvirt's files of another host.
struct Moving {
    rig: Rig,
    host: PathBuf,
}

impl Moving {
    fn new() -> Self {
        let rig = Rig::without_daemon();
        let host = rig.path("host");
        let copied = std::process::Command::new("cp").args(["-a", HOST]).arg(&host).status();
        assert!(copied.unwrap().success());
        let mut moving = Self { rig, host };
        moving.install_firmware();
        // Of a name that no host has.
        let office = "etc/libvirt/qemu/networks/office.xml";
        let text = std::fs::read_to_string(moving.host.join(office)).unwrap();
        moving.write(office, text.replace("br0", "nobridge").as_bytes());
        moving.write("var/lib/libvirt/qemu/nvram/db_VARS.fd", &vec![0xdb; VARIABLES]);
        moving.write("var/lib/libvirt/qemu/save/tiny.save", b"LibvirtQemudSave");
        moving.rig.start_daemon();
        moving
    }

    /// Images of the size alone: nothing starts here.
    fn install_firmware(&self) {
        let path = |name: &str| self.rig.path(name).display().to_string();
        std::fs::create_dir(self.rig.path("firmware")).unwrap();
        self.rig.write("CODE.fd", [0; 16]);
        self.rig.write("VARS.fd", vec![0; VARIABLES]);
        let descriptor = serde_json::json!({
            "interface-types": ["uefi"],
            "mapping": {
                "device": "flash",
                "executable": {"filename": path("CODE.fd"), "format": "raw"},
                "nvram-template": {"filename": path("VARS.fd"), "format": "raw"},
            },
            "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
            "features": [],
        });
        self.rig.write("firmware/60-uefi.json", descriptor.to_string());
        let mut config = std::fs::read_to_string(self.rig.path("manor.toml")).unwrap();
        config.push_str(&format!("[firmware]\ndescriptors = [\"{}\"]\n", path("firmware")));
        self.rig.write("manor.toml", config);
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.host.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn import(&self, more: &[&str]) -> Outcome {
        let root = self.host.display().to_string();
        self.rig.manor([&["import", "libvirt", "--root", &root], more].concat())
    }

    fn ok(&self, args: &[&str]) -> String {
        let outcome = self.rig.manor(args);
        assert_eq!(outcome.status, 0, "{args:?}: {}", outcome.err);
        outcome.out
    }

    fn plan(&self) -> Vec<Value> {
        let outcome = self.import(&["--json"]);
        assert_eq!(outcome.status, 0, "{}", outcome.err);
        let plan: Value = serde_json::from_str(&outcome.out).unwrap();
        plan["objects"].as_array().unwrap().clone()
    }

    fn object(&self, kind: &str, name: &str) -> Value {
        let is = |object: &Value| object["kind"] == kind && object["name"] == name;
        let found = self.plan().into_iter().find(is);
        found.expect("an object of this kind and name")
    }

    fn reason(&self, kind: &str, name: &str) -> String {
        let object = self.object(kind, name);
        assert_eq!(object["verdict"], "refused", "{object}");
        object["reason"].as_str().unwrap().to_owned()
    }

    /// Every file of the other host, with its contents.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut dirs = vec![self.host.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap() {
                    kind if kind.is_dir() => dirs.push(entry.path()),
                    kind if kind.is_file() => {
                        let contents = std::fs::read(entry.path()).unwrap();
                        files.push((entry.path(), contents));
                    }
                    _ => {}
                }
            }
        }
        files.sort();
        files
    }
}

/// The same on every host: without where things lie, and without what is said of a bridge that it may have.
fn comparable(text: &str, moving: &Moving) -> String {
    let text = text
        .replace(&moving.host.display().to_string(), "HOST")
        .replace(&moving.rig.path("").display().to_string(), "RIG/");
    let lines = text.lines().filter(|line| !line.contains("this host has a bridge"));
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn the_plan_says_of_everything_what_becomes_of_it() {
    let moving = Moving::new();
    let before = moving.files();
    let outcome = moving.import(&[]);
    assert_eq!(outcome.status, 0, "{}", outcome.err);
    let said = comparable(&outcome.out, &moving);
    let golden = Path::new(HOST).with_file_name("libvirt_host_plan.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &said).unwrap();
    }
    assert_eq!(said, std::fs::read_to_string(golden).unwrap());
    assert!(moving.files() == before, "a file of libvirt's was changed");
    assert_eq!(moving.ok(&["list", "--all", "--name"]).trim(), "");
    assert!(!moving.ok(&["net-list", "--all"]).contains("lab"));
}

#[test]
fn what_is_not_refused_is_taken_over_once() {
    let moving = Moving::new();
    let before = moving.files();
    let outcome = moving.import(&["--apply"]);
    assert_eq!(outcome.status, 4, "some are refused: {}{}", outcome.out, outcome.err);
    assert!(outcome.out.contains("11 taken over"), "{}", outcome.out);
    assert!(outcome.err.contains("6 refused, as shown above"), "{}", outcome.err);
    assert!(moving.files() == before, "a file of libvirt's was changed");

    let names = moving.ok(&["list", "--all", "--name"]);
    assert_eq!(names.split_whitespace().collect::<Vec<_>>(), ["db", "guarded", "relic", "web"]);
    assert!(moving.ok(&["dominfo", "db"]).contains("Autostart:      enable"));
    assert!(moving.ok(&["dominfo", "guarded"]).contains("Autostart:      disable"));
    let xml = moving.ok(&["dumpxml", "db"]);
    for part in [
        DB,
        "machine='pc-q35-7.2'",
        "<mac address='52:54:00:09:00:02'/>",
        "<address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>",
    ] {
        assert!(xml.contains(part), "{part}: {xml}");
    }
    // The guest's variables are its own now, and were copied.
    let variables = moving.rig.path(&format!("state/nvram/{DB}_VARS.fd"));
    assert!(xml.contains(&format!(">{}</nvram>", variables.display())), "{xml}");
    assert!(std::fs::read(variables).unwrap() == vec![0xdb; VARIABLES]);

    let networks = moving.ok(&["net-list", "--all"]);
    for name in ["default", "lab", "office"] {
        assert!(networks.contains(name), "{networks}");
    }
    let default = moving.ok(&["net-info", "default"]);
    assert!(default.contains("Autostart:      yes"), "{default}");
    assert!(moving.ok(&["net-dumpxml", "lab"]).contains("name='db' ip='10.9.0.2'"));
    let pools = moving.ok(&["pool-list", "--all"]);
    assert!(pools.contains("default") && pools.contains("nfs"), "{pools}");
    // Where the daemon keeps it: nobody is told a private one.
    let secret = moving.rig.path(&format!("state/secrets/{SECRET}.json"));
    let stored = std::fs::read_dir(secret.parent().unwrap()).unwrap().flatten();
    let text: String =
        stored.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).collect();
    assert!(text.contains("Z2VoZWlt"), "the secret's value: {text}");

    // Again: nothing is done twice, and nothing is to be done.
    let again = moving.import(&["--apply"]);
    assert!(again.out.contains("0 taken over"), "{}", again.out);
    for object in moving.plan() {
        let verdict = object["verdict"].as_str().unwrap();
        assert!(["present", "refused"].contains(&verdict), "{object}");
    }
    assert_eq!(moving.ok(&["list", "--all", "--name"]), names);
}

#[test]
fn what_is_here_and_otherwise_is_refused_by_name() {
    let moving = Moving::new();
    moving.import(&["--apply"]);
    // Changed here since, and what is changed there.
    moving.ok(&["setmaxmem", "web", "1G", "--config"]);
    let reason = moving.reason("domain", "web");
    assert!(reason.contains("there is a domain \"web\" with this UUID"), "{reason}");
    assert!(reason.contains("manor plan"), "{reason}");
    moving.ok(&["undefine", "web"]);
    let other = super::rig::definition("web", super::rig::UUID);
    moving.rig.write("other.xml", other);
    moving.ok(&["define", "other.xml"]);
    let reason = moving.reason("domain", "web");
    assert!(reason.contains("already, with UUID 11111111-2222"), "{reason}");
    moving.ok(&["domrename", "db", "renamed"]);
    let reason = moving.reason("domain", "db");
    assert!(reason.contains("is that of domain \"renamed\" here"), "{reason}");
    // A mark that was lost on the way is made up for.
    moving.ok(&["net-autostart", "office", "--disable"]);
    assert_eq!(moving.object("network", "office")["verdict"], "changed");
    moving.import(&["--apply"]);
    assert!(moving.ok(&["net-info", "office"]).contains("Autostart:      yes"));
}

#[test]
fn a_guest_that_libvirt_holds_on_to_is_refused_until_it_does_not() {
    let moving = Moving::new();
    let reason = moving.reason("domain", "busy");
    assert!(reason.contains("it runs under libvirt") && reason.contains("virsh shutdown busy"));
    let reason = moving.reason("domain", "tiny");
    assert!(reason.contains("virsh managedsave-remove tiny"), "{reason}");
    std::fs::remove_file(moving.host.join("run/libvirt/qemu/busy.xml")).unwrap();
    std::fs::remove_file(moving.host.join("var/lib/libvirt/qemu/save/tiny.save")).unwrap();
    for name in ["busy", "tiny"] {
        assert_eq!(moving.object("domain", name)["verdict"], "changed");
    }
    // Variables of another firmware than the one that is here.
    moving.write("var/lib/libvirt/qemu/nvram/db_VARS.fd", &[0; 128 << 10]);
    let reason = moving.reason("domain", "db");
    assert!(reason.contains("131072 bytes") && reason.contains("540672"), "{reason}");
}

#[test]
fn foreign_files_are_read_with_care() {
    let moving = Moving::new();
    let qemu = |name: &str| moving.host.join("etc/libvirt/qemu").join(name);
    symlink("/etc/passwd", qemu("outside.xml")).unwrap();
    std::fs::write(qemu("large.xml"), vec![b'x'; 2 << 20]).unwrap();
    std::fs::write(qemu("binary.xml"), [0xff, 0x00, 0x80]).unwrap();
    std::fs::write(qemu("cut.xml"), "<domain type='kvm'><name>cut</name>").unwrap();
    std::fs::write(qemu("deep.xml"), "<a>".repeat(100_000)).unwrap();
    std::fs::write(qemu("bomb.xml"), "<!DOCTYPE d [<!ENTITY a \"aa\">]><domain>&a;</domain>")
        .unwrap();
    std::fs::write(qemu("network.xml"), "<network><name>x</name></network>").unwrap();
    std::fs::write(qemu("\u{1b}[31m.xml"), "<domain/>").unwrap();
    for (name, why) in [
        ("large", "it is larger than 1 MiB"),
        ("binary", "it is not UTF-8 text"),
        ("cut", "mistake"),
        ("deep", "mistake"),
        ("bomb", "mistake"),
        ("network", "mistake"),
    ] {
        let reason = moving.reason("domain", name);
        assert!(reason.contains(why), "{name}: {reason}");
    }
    let plan = moving.plan();
    assert!(plan.iter().all(|object| object["name"] != "outside"), "a link is no definition");
    let said = moving.import(&[]).out;
    assert!(!said.contains('\u{1b}'), "{said}");
    // Those beside them are taken over all the same.
    assert!(moving.import(&["--apply"]).out.contains("11 taken over"));
}

#[test]
fn a_host_without_libvirt_is_no_host_to_move_in_from() {
    let rig = Rig::new();
    let root = rig.path("").display().to_string();
    let outcome = rig.manor(["import", "libvirt", "--root", &root]);
    assert_eq!(outcome.status, 3, "{}", outcome.err);
    assert!(outcome.err.contains("etc/libvirt is not there"), "{}", outcome.err);
    let outcome = rig.manor(["import", "libvirt", "--root", "/nonexistent"]);
    assert_eq!(outcome.status, 1, "{}", outcome.err);
    assert!(outcome.err.contains("cannot open /nonexistent"), "{}", outcome.err);
}
