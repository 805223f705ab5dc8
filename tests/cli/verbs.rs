//! Verbs, byte for byte. The layouts and words were taken from virsh 9.0 with its test driver.

use super::rig::{Rig, UUID, definition};

fn defined() -> Rig {
    let rig = Rig::new();
    rig.write("d.xml", definition("demo", UUID));
    let outcome = rig.manor(["define", "d.xml"]);
    assert_eq!((outcome.status, outcome.out.as_str()), (0, "Domain 'demo' defined from d.xml\n\n"));
    rig
}

#[test]
fn lists_are_laid_out_as_virsh_does() {
    let rig = defined();
    let table = " Id   Name   State\n-----------------------\n -    demo   shut off\n\n";
    for args in [
        &["list", "--all"][..],
        &["list", "--inactive", "--table"],
        &["list", "--state-shutoff"],
        &["list", "--all", "--persistent", "--no-autostart"],
    ] {
        assert_eq!(rig.manor(args).out, table, "{args:?}");
        assert_eq!(rig.virsh(args).out, table, "{args:?}");
    }
    let none = " Id   Name   State\n--------------------\n\n";
    for args in [
        &["list"][..],
        &["list", "--all", "--transient"],
        &["list", "--all", "--autostart"],
        &["list", "--state-running"],
        &["list", "--all", "--with-snapshot"],
    ] {
        assert_eq!(rig.manor(args).out, none, "{args:?}");
    }
    let title = " Id   Name   State      Title\n---------------------------------\n \
                 -    demo   shut off   A title\n\n";
    assert_eq!(rig.manor(["list", "--all", "--title"]).out, title);
    assert_eq!(rig.manor(["-q", "list", "--all"]).out, " -   demo   shut off\n");
    assert_eq!(rig.manor(["list", "--all", "--name"]).out, "demo\n\n");
    assert_eq!(rig.manor(["list", "--all", "--uuid", "--name"]).out, format!("{UUID} demo\n\n"));
    assert_eq!(rig.manor(["list", "--all", "--id", "--name"]).out, "- demo\n\n");
    assert_eq!(rig.manor(["list", "--all", "--id"]).out, "\n");
}

#[test]
fn a_domain_is_described_as_virsh_does() {
    let rig = defined();
    let info = "\
Id:             -
Name:           demo
UUID:           11111111-2222-3333-4444-555555555555
OS Type:        hvm
State:          shut off
CPU(s):         2
Max memory:     524288 KiB
Used memory:    524288 KiB
Persistent:     yes
Autostart:      disable
Managed save:   no
Security model: none
Security DOI:   0

";
    assert_eq!(rig.manor(["dominfo", "demo"]).out, info);
    assert_eq!(rig.manor(["dominfo", "--domain", UUID]).out, info);
    assert_eq!(rig.manor(["domstate", "demo"]).out, "shut off\n\n");
    assert_eq!(rig.manor(["domid", "demo"]).out, "-\n\n");
    assert_eq!(rig.manor(["domuuid", "demo"]).out, format!("{UUID}\n\n"));
    assert_eq!(rig.manor(["domname", UUID]).out, "demo\n\n");
    let disks =
        " Target   Source\n-------------------------------\n vda      /var/lib/x/disk.img\n\n";
    assert_eq!(rig.manor(["domblklist", "demo"]).out, disks);
    let details = " Type   Device   Target   Source\n-----------------------------------------------\n \
                   file   disk     vda      /var/lib/x/disk.img\n\n";
    assert_eq!(rig.manor(["domblklist", "demo", "--details"]).out, details);
    let interfaces = " Interface   Type     Source   Model    MAC\n\
        -----------------------------------------------------------\n \
        -           bridge   br0      virtio   52:54:00:11:22:33\n\n";
    assert_eq!(rig.manor(["domiflist", "demo"]).out, interfaces);
}

#[test]
fn what_was_defined_comes_back_and_defines_again() {
    let rig = defined();
    let first = rig.manor(["dumpxml", "demo"]);
    assert_eq!(first.status, 0);
    assert!(first.out.starts_with("<domain type='kvm'>\n  <name>demo</name>\n"), "{}", first.out);
    rig.write("again.xml", &first.out);
    assert_eq!(rig.manor(["define", "again.xml"]).status, 0);
    assert_eq!(rig.manor(["dumpxml", "demo", "--inactive"]).out, first.out);
    assert_eq!(rig.manor(["list", "--all", "--name"]).out, "demo\n\n");
}

#[test]
fn changes_are_told_in_virsh_words() {
    let rig = defined();
    let out = |args: &[&str]| {
        let outcome = rig.virsh(args);
        assert_eq!((outcome.status, outcome.err.as_str()), (0, ""), "{args:?}");
        outcome.out
    };
    assert_eq!(out(&["autostart", "demo"]), "Domain 'demo' marked as autostarted\n\n");
    assert_eq!(out(&["list", "--all", "--autostart", "--name"]), "demo\n\n");
    let unmarked = "Domain 'demo' unmarked as autostarted\n\n";
    assert_eq!(out(&["autostart", "--disable", "demo"]), unmarked);
    assert_eq!(out(&["domrename", "demo", "demo2"]), "Domain successfully renamed\n\n");
    assert_eq!(out(&["-q", "domrename", "demo2", "demo"]), "");
    assert_eq!(out(&["undefine", "demo", "--nvram"]), "Domain 'demo' has been undefined\n\n");
    assert_eq!(out(&["list", "--all", "--name"]), "\n");
}

#[test]
fn the_memory_of_a_domain_that_is_off_is_set_in_its_definition() {
    let rig = defined();
    let set = rig.virsh(["setmem", "demo", "200M", "--config"]);
    assert_eq!((set.status, set.out.as_str(), set.err.as_str()), (0, "\n", ""));
    let xml = rig.virsh(["dumpxml", "demo"]).out;
    assert!(xml.contains("<currentMemory unit='KiB'>204800</currentMemory>"), "{xml}");
    assert_eq!(rig.virsh(["dommemstat", "demo", "--period", "5"]).status, 0);
    assert!(rig.virsh(["dumpxml", "demo"]).out.contains("<stats period='5'/>"));
    let off = rig.virsh(["dommemstat", "demo"]);
    assert!(off.status == 1 && off.err.contains("domain is not running"), "{}", off.err);
    let more = rig.virsh(["setmem", "demo", "2G"]);
    assert!(more.status == 1 && more.err.contains("maximum"), "{}", more.err);
    let both = rig.virsh(["setmem", "demo", "1M", "--current", "--live"]);
    assert!(both.err.contains("mutually exclusive"), "{}", both.err);
}

#[test]
fn the_cable_of_a_domain_that_is_off_is_pulled_in_its_definition() {
    let rig = defined();
    let mac = "52:54:00:11:22:33";
    let out = |args: &[&str]| {
        let outcome = rig.virsh(args);
        assert_eq!((outcome.status, outcome.err.as_str()), (0, ""), "{args:?}");
        outcome.out
    };
    assert_eq!(out(&["domif-getlink", "demo", mac]), format!("{mac} up\n"));
    assert_eq!(out(&["domif-setlink", "demo", mac, "down"]), "Device updated successfully\n\n");
    assert_eq!(out(&["domif-getlink", "demo", mac, "--config"]), format!("{mac} down\n"));
    assert!(out(&["dumpxml", "demo"]).contains("      <link state='down'/>\n"));
    // As the user wrote the address, in whatever form libvirt reads.
    assert_eq!(
        out(&["-q", "domif-getlink", "demo", "52:54:0:11:22:33"]),
        "52:54:0:11:22:33 down\n"
    );
    let set =
        ["domif-setlink", "--domain", "demo", "--interface", mac, "--state", "up", "--config"];
    assert_eq!(out(&set), "Device updated successfully\n\n");
    let json = rig.manor(["domif-getlink", "demo", mac, "--json"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["link"], &json["mac"]), (&"up".into(), &mac.into()));
    // It is a definition like any other.
    rig.write("again.xml", out(&["dumpxml", "demo"]));
    out(&["-q", "define", "again.xml"]);
    assert!(out(&["dumpxml", "demo"]).contains("<link state='up'/>"));
}

/// Arguments, what stands on stderr, and the native exit status; virsh's is always 1.
const FAILURES: &[(&[&str], &str, i32)] = &[
    (&["dominfo", "nope"], "error: failed to get domain 'nope'\n", 3),
    (&["start", "nope"], "error: failed to get domain 'nope'\n", 3),
    (&["undefine", "nope"], "error: failed to get domain 'nope'\n", 3),
    (&["dumpxml", "nope"], "error: failed to get domain 'nope'\n", 3),
    (&["console", "nope", "--force"], "error: failed to get domain 'nope'\n", 3),
    (&["domname", "demo"], "error: failed to get domain 'demo'\n", 3),
    (
        &["destroy", "demo"],
        "error: Failed to destroy domain 'demo'\n\
         error: Requested operation is not valid: domain is not running\n",
        4,
    ),
    (
        &["suspend", "demo"],
        "error: Failed to suspend domain 'demo'\n\
         error: Requested operation is not valid: domain is not running\n",
        4,
    ),
    (
        &["shutdown", "demo", "--mode", "initctl"],
        "error: Failed to shutdown domain 'demo'\n\
         error: mode 'initctl' is not supported; 'agent' and 'acpi' are\n",
        1,
    ),
    (
        &["reboot", "demo", "--mode", "bogus"],
        "error: Unknown mode bogus value, expecting 'acpi', 'agent', 'initctl', 'signal' or 'paravirt'\n",
        2,
    ),
    (&["define", "nofile"], "error: Failed to open file 'nofile': No such file or directory\n", 1),
    (&["bogus"], "error: unknown command: 'bogus'\n", 2),
    (&["list", "--bogus"], "error: command 'list' doesn't support option --bogus\n", 2),
    (&["start"], "error: command 'start' requires <domain> option\n", 2),
    (&["list", "foo"], "error: unexpected data 'foo'\n", 2),
    (
        &["list", "--name", "--table"],
        "error: Options --table and --name are mutually exclusive\n",
        2,
    ),
    (&["domif-getlink", "nope", "vnet0"], "error: failed to get domain 'nope'\n", 3),
    (&["domif-setlink", "nope", "vnet0", "up"], "error: failed to get domain 'nope'\n", 3),
    (&["domif-getlink", "demo", "vnet0"], "error: Interface (dev: vnet0) not found.\n", 3),
    (
        &["domif-getlink", "demo", "52:54:00:00:00:01"],
        "error: Interface (mac: 52:54:00:00:00:01) not found.\n",
        3,
    ),
    (&["domif-setlink", "demo", "vnet0", "up"], "error: interface 'vnet0' not found\n", 3),
    (&["domif-setlink", "demo", "vnet0", "sideways"], "error: invalid link state 'sideways'\n", 2),
    (&["event"], "error: one of --list, --all, or --event <type> is required\n", 2),
    (&["domdisplay", "demo"], "error: Domain is not running\n", 1),
    (
        &["-c", "test:///default", "list"],
        "error: failed to connect to the hypervisor\nerror: \"test:///default\" is no way to reach \
         Manor: only qemu and manor domains live here\n",
        6,
    ),
    (
        &["-c", "/nonexistent", "list"],
        "error: failed to connect to the hypervisor\n\
         error: Failed to connect socket to '/nonexistent': No such file or directory\n",
        6,
    ),
    (
        &["-c", LONG_PATH, "list"],
        "error: failed to connect to the hypervisor\n\
         error: Failed to connect socket to '/run/a/directory/of/a/directory/of/a/directory/of/a/directory/\
         of/a/directory/of/a/directory/of/a/directory/api.sock': its path is 115 bytes long, and the \
         kernel takes 107 at most\n",
        6,
    ),
];

const LONG_PATH: &str = "/run/a/directory/of/a/directory/of/a/directory/of/a/directory/of/a/directory/\
                         of/a/directory/of/a/directory/api.sock";

#[test]
fn failures_are_told_in_virsh_words_and_by_exit_status() {
    let rig = defined();
    for (args, err, status) in FAILURES {
        let native = rig.manor(*args);
        let without_hints: String = native
            .err
            .lines()
            .filter(|line| !line.starts_with("hint: "))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!((without_hints.as_str(), native.status), (*err, *status), "{args:?}");
        let virsh = rig.virsh(*args);
        assert_eq!((virsh.err.as_str(), virsh.status), (*err, 1), "{args:?}");
    }
}

#[test]
fn a_mistyped_name_gets_a_suggestion() {
    let rig = defined();
    let outcome = rig.manor(["dominfo", "dmeo"]);
    assert!(outcome.err.ends_with("hint: did you mean 'demo'?\n"), "{}", outcome.err);
}

#[test]
fn every_mistake_of_a_definition_is_shown_in_its_place_and_nothing_is_stored() {
    let rig = Rig::new();
    let wrong = "<domain type='kvm'>\n  <name>bad</name>\n  <memory>1</memory>\n  <vpcu>2</vpcu>\n  \
        <os><type>hvm</type></os>\n  <devices><disk type='file' device='flopppy'/></devices>\n</domain>\n";
    rig.write("bad.xml", wrong);
    for verb in ["define", "create"] {
        let outcome = rig.manor([verb, "bad.xml"]);
        assert_eq!(outcome.status, 1);
        let lines: Vec<_> = outcome.err.lines().collect();
        assert_eq!(lines[0], format!("error: Failed to {verb} domain from bad.xml"));
        assert!(lines.iter().any(|line| line.contains("bad.xml:4:3: ") && line.contains("vcpu")));
        assert!(lines.iter().any(|line| line.contains("bad.xml:6:") && line.contains("floppy")));
    }
    rig.write("none.xml", "define d.xml\n");
    assert_eq!(rig.manor(["define", "none.xml"]).status, 1);
    assert_eq!(rig.manor(["list", "--all", "--name"]).out, "\n");
}

#[test]
fn names_that_could_do_harm_are_refused() {
    let rig = Rig::new();
    for name in ["a/b", "a&#10;b", "..", "a&#27;[2Jb", ""] {
        rig.write("d.xml", definition(name, UUID));
        let outcome = rig.manor(["define", "d.xml"]);
        assert_eq!(outcome.status, 1, "{name:?}: {}", outcome.out);
        assert!(!outcome.err.contains('\x1b'));
    }
    let missing = rig.manor(["dominfo", "a\x1b[2Jb"]);
    assert_eq!(missing.err, "error: failed to get domain 'a\\x1b[2Jb'\n");
    assert_eq!(rig.manor(["list", "--all", "--name"]).out, "\n");
}

#[test]
fn what_is_left_out_of_a_definition_is_a_warning() {
    let rig = Rig::new();
    let with_sound =
        definition("demo", UUID).replace("</devices>", "<sound model='ich6'/></devices>");
    rig.write("d.xml", with_sound);
    let outcome = rig.manor(["define", "d.xml"]);
    assert_eq!(outcome.status, 0);
    assert!(outcome.err.starts_with("warning: d.xml:"), "{}", outcome.err);
    assert!(outcome.err.contains("sound"));
    assert_eq!(rig.manor(["-q", "define", "d.xml"]).err, "");
}

#[test]
fn json_is_for_programs() {
    let rig = defined();
    let json = |args: &[&str]| -> serde_json::Value {
        let outcome = rig.manor(args);
        serde_json::from_str(&outcome.out).unwrap_or_else(|error| panic!("{error}: {outcome:?}"))
    };
    let list = json(&["--json", "list", "--all"]);
    assert_eq!(list[0]["name"], "demo");
    assert_eq!(list[0]["state"], "shut-off");
    assert_eq!(list[0]["max_memory_bytes"], 512 << 20);
    assert_eq!(json(&["dominfo", "demo", "--json"])["uuid"], UUID);
    assert_eq!(json(&["domstate", "demo", "--json"])["state"], "shut-off");
    assert_eq!(json(&["domblklist", "demo", "--json"])[0]["target"], "vda");
    assert_eq!(json(&["domiflist", "demo", "--json"])[0]["mac"], "52:54:00:11:22:33");
    assert_eq!(json(&["domstats", "--json"])[0]["name"], "demo");
    assert!(json(&["nodeinfo", "--json"])["cpus"].as_u64().unwrap() >= 1);
    let failed = rig.manor(["--json", "dominfo", "nope"]);
    let error: serde_json::Value = serde_json::from_str(&failed.err).unwrap();
    assert_eq!(error["error"][0], "failed to get domain 'nope'");
    assert_eq!(failed.status, 3);
}

#[test]
fn statistics_of_a_domain_that_is_off_are_what_is_known_of_it() {
    let rig = defined();
    let expected = "Domain: 'demo'\n  state.state=5\n  state.reason=0\n\n";
    assert_eq!(rig.manor(["domstats", "--state", "demo"]).out, expected);
    assert_eq!(rig.manor(["domstats", "--list-active"]).out, "\n");
}

#[test]
fn the_host_is_told_of() {
    let rig = Rig::new();
    let node = rig.manor(["nodeinfo"]).out;
    let names: Vec<_> = node.lines().filter_map(|line| line.split(':').next()).collect();
    let expected = [
        "CPU model",
        "CPU(s)",
        "CPU frequency",
        "CPU socket(s)",
        "Core(s) per socket",
        "Thread(s) per core",
        "NUMA cell(s)",
        "Memory size",
    ];
    assert_eq!(names.iter().filter(|name| !name.is_empty()).copied().collect::<Vec<_>>(), expected);
    let socket = rig.path("run/api.sock").display().to_string();
    assert_eq!(rig.manor(["uri"]).out, format!("{socket}\n\n"));
    assert!(rig.manor(["version", "--daemon"]).out.contains("Running against daemon: "));
    assert!(!rig.manor(["hostname"]).out.trim().is_empty());
    assert!(rig.manor(["capabilities"]).out.starts_with("<capabilities>"));
}

#[test]
fn event_kinds_are_listed_and_an_empty_wait_times_out() {
    let rig = defined();
    assert!(rig.manor(["event", "--list"]).out.starts_with("lifecycle\nreboot\n"));
    let waited = rig.virsh(["event", "demo", "lifecycle", "--timeout", "1"]);
    assert_eq!(waited.out, "event loop timed out\nevents received: 0\n\n");
}

#[test]
fn help_names_every_group_and_knows_each_command() {
    let rig = Rig::without_daemon();
    let help = rig.manor(["help"]).out;
    assert!(help.starts_with("Grouped commands:\n\n Domain Management (help keyword 'domain'):\n"));
    assert!(help.contains(
        "    start                          start a (previously defined) inactive domain\n"
    ));
    assert!(rig.manor(["help", "monitor"]).out.contains("dominfo"));
    assert!(rig.manor(["help", "console"]).out.contains("--devname"));
    assert!(rig.manor(["console", "--help"]).out.contains("--devname"));
    assert_eq!(rig.manor(["help", "nosuch"]).status, 2);
    assert_eq!(rig.manor(["--version"]).out, format!("manor {}\n", env!("CARGO_PKG_VERSION")));
}
