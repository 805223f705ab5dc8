//! Guests on the local KVM: a few hundred bytes of code that echo what is typed at their serial
//! port, go when the power button is pressed or `q` is typed, and crash at `x`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use baremetal::Width;

use super::rig::{MANOR, Rig, wait_for};

const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
const PM1_STATUS: u16 = 0x600;
const POWER_BUTTON: u32 = 1 << 8;

/// A rig with the guest defined; none where there is no KVM.
pub(super) fn defined() -> Option<Rig> {
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        println!("SKIP: /dev/kvm cannot be opened");
        return None;
    }
    let rig = Rig::new();
    write_echo(&rig);
    let outcome = rig.manor(["define", "echo.xml"]);
    assert_eq!(outcome.status, 0, "{}", outcome.err);
    Some(rig)
}

/// The guest's kernel, and its definition in `echo.xml`.
pub(super) fn write_echo(rig: &Rig) {
    rig.write("kernel", echo_guest());
    // Its own each time: the guests of tests that run at the same time share the host's cgroups.
    let uuid = uuid::Uuid::new_v4();
    let xml = format!(
        "<domain type='kvm'><name>echo</name><uuid>{uuid}</uuid><memory unit='MiB'>32</memory>\
         <vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type><kernel>{}</kernel></os>\
         <features><acpi/></features><on_crash>destroy</on_crash>\
         <devices><serial type='pty'/><console type='pty'/></devices></domain>",
        rig.path("kernel").display()
    );
    rig.write("echo.xml", xml);
}

/// Its definition with `devices` besides, in `disk.xml`.
pub(super) fn write_echo_again(rig: &Rig, devices: &str) {
    let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    rig.write("disk.xml", xml.replace("<devices>", &format!("<devices>{devices}")));
}

fn echo_guest() -> Vec<u8> {
    baremetal::pvh(|asm| {
        asm.print("ready\n");
        let (off, crash) = (asm.label(), asm.label());
        let poll = asm.here();
        asm.read_port(Width::Word, PM1_STATUS).and_eax(POWER_BUTTON).jump_unless_eax_is(0, off);
        asm.read_port(Width::Byte, LINE_STATUS).and_eax(1).jump_if_eax_is(0, poll);
        asm.read_port(Width::Byte, COM1).and_eax(0xff);
        asm.jump_if_eax_is(u32::from(b'q'), off).jump_if_eax_is(u32::from(b'x'), crash);
        asm.write_port(Width::Byte, COM1).jump(poll);
        asm.place(off).print("bye\n").power_off();
        asm.place(crash).triple_fault();
    })
}

pub(super) fn ok(rig: &Rig, args: &[&str]) -> String {
    let outcome = rig.manor(args);
    assert_eq!(outcome.status, 0, "{args:?}: {}", outcome.err);
    outcome.out
}

pub(super) fn state(rig: &Rig) -> String {
    state_of(rig, "echo")
}

pub(super) fn state_of(rig: &Rig, domain: &str) -> String {
    ok(rig, &["domstate", domain, "--reason"]).trim().to_owned()
}

/// Type at the console until it says something.
pub(super) fn converse(rig: &Rig, typed: &str, until: &str) -> String {
    converse_with(rig, "echo", typed, until)
}

pub(super) fn converse_with(rig: &Rig, domain: &str, typed: &str, until: &str) -> String {
    let mut console = rig
        .command(Path::new(MANOR))
        .args(["console", domain, "--force"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    console.stdin.as_mut().unwrap().write_all(typed.as_bytes()).unwrap();
    let mut seen = String::new();
    let mut out = console.stdout.take().unwrap();
    let mut buffer = [0; 256];
    while !seen.contains(until) {
        let len = out.read(&mut buffer).unwrap();
        assert!(len > 0, "the console closed after {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
    let _ = console.kill();
    console.wait().unwrap();
    seen
}

#[test]
fn a_guest_lives_through_every_verb() {
    let Some(rig) = defined() else { return };
    let uuid = ok(&rig, &["domuuid", "echo"]);
    assert_eq!(ok(&rig, &["start", uuid.trim()]), "Domain 'echo' started\n\n");
    assert_eq!(state(&rig), "running (booted)");
    let again = rig.virsh(["start", "echo"]);
    assert_eq!((again.err.as_str(), again.status), ("error: Domain is already active\n", 1));
    let id = ok(&rig, &["domid", "echo"]).trim().to_owned();
    let row = format!(" {id}    echo   running\n");
    assert!(ok(&rig, &["list"]).contains(&row));

    assert!(converse(&rig, "hello", "hello").contains("ready"));
    assert_eq!(ok(&rig, &["suspend", "echo"]), "Domain 'echo' suspended\n\n");
    assert_eq!(state(&rig), "paused (user)");
    assert_eq!(ok(&rig, &["resume", &id]), format!("Domain '{id}' resumed\n\n"));
    assert_eq!(state(&rig), "running (unpaused)");
    assert_eq!(ok(&rig, &["reset", "echo"]), "Domain 'echo' was reset\n\n");
    assert!(converse(&rig, "after", "after").contains("ready"));

    let stats = ok(&rig, &["domstats", "echo"]);
    for key in ["state.state=1\n", "cpu.time=", "vcpu.current=1\n", "vcpu.0.exits.sum="] {
        assert!(stats.contains(key), "{key}: {stats}");
    }
    assert_eq!(ok(&rig, &["shutdown", "echo"]), "Domain 'echo' is being shutdown\n\n");
    wait_for("the guest to go", || state(&rig) == "shut off (shutdown)");

    ok(&rig, &["start", "echo", "--paused"]);
    assert!(state(&rig).starts_with("paused"));
    assert_eq!(ok(&rig, &["destroy", "echo"]), "Domain 'echo' destroyed\n\n");
    assert_eq!(state(&rig), "shut off (destroyed)");
}

#[test]
fn a_transient_domain_is_gone_with_its_guest() {
    let Some(rig) = defined() else { return };
    ok(&rig, &["undefine", "echo"]);
    assert_eq!(ok(&rig, &["create", "echo.xml"]), "Domain 'echo' created from echo.xml\n\n");
    assert_eq!(ok(&rig, &["list", "--transient", "--name"]), "echo\n\n");
    let again = rig.manor(["create", "echo.xml"]);
    assert_eq!(again.status, 4, "{}", again.err);
    converse(&rig, "", "ready");
    let mut console = rig
        .command(Path::new(MANOR))
        .args(["console", "echo", "--force"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    console.stdin.as_mut().unwrap().write_all(b"q").unwrap();
    let output = console.wait_with_output().unwrap();
    assert!(output.status.success(), "the console ends with the guest");
    wait_for("the domain to vanish", || ok(&rig, &["list", "--all", "--name"]) == "\n");
}

#[test]
fn a_crash_is_told_as_one() {
    let Some(rig) = defined() else { return };
    ok(&rig, &["start", "echo"]);
    converse(&rig, "", "ready");
    let mut console = rig
        .command(Path::new(MANOR))
        .args(["console", "echo", "--force"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    console.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    wait_for("the guest to crash", || state(&rig) == "shut off (crashed)");
    let _ = console.kill();
    console.wait().unwrap();
    let info = ok(&rig, &["dominfo", "echo", "--json"]);
    assert!(info.contains("last_exit") && info.contains("triple fault"), "{info}");
}

#[test]
fn guests_run_on_while_the_daemon_is_killed_and_are_managed_again() {
    let Some(mut rig) = defined() else { return };
    ok(&rig, &["start", "echo"]);
    converse(&rig, "", "ready");
    let id = ok(&rig, &["domid", "echo"]);
    rig.end_daemon("KILL");
    let begun = std::time::Instant::now();
    rig.start_daemon();
    assert_eq!(state(&rig), "running (booted)");
    assert!(begun.elapsed().as_secs() < 2, "adopted after {:?}", begun.elapsed());
    assert_eq!(ok(&rig, &["domid", "echo"]), id);
    assert!(converse(&rig, "still", "still").contains("still"));
    ok(&rig, &["shutdown", "echo"]);
    wait_for("the guest to go", || state(&rig) == "shut off (shutdown)");
}

/// A guest that looks at its network card's link all the time and says when it changes.
fn watching_guest() -> Vec<u8> {
    const SLOT: u8 = 6;
    const BAR: u32 = 0xc060_0000;
    /// virtio 1.2 §5.1.4: `status`, bit 0 of which is the link, in the device's own configuration.
    const STATUS: u32 = BAR + 0x2000 + 6;
    baremetal::pvh(|asm| {
        asm.pci_write(SLOT, 0, 0x10, BAR).pci_write(SLOT, 0, 0x14, 0);
        asm.pci_write(SLOT, 0, 0x04, 0x6);
        let unplugged = asm.here();
        asm.load(Width::Word, STATUS).and_eax(1).jump_if_eax_is(0, unplugged).print("plugged\n");
        let plugged = asm.here();
        asm.load(Width::Word, STATUS).and_eax(1).jump_if_eax_is(1, plugged).print("pulled\n");
        asm.jump(unplugged);
    })
}

#[test]
fn a_cable_is_pulled_while_the_guest_runs_and_stays_so() {
    let Some(mut rig) = defined() else { return };
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/net/tun").exists() {
        println!("SKIP: no tap can be made here");
        return;
    }
    let mac = "52:54:00:11:22:33";
    let interface = format!(
        "<interface type='ethernet'><mac address='{mac}'/><model type='virtio'/>\
         <address type='pci' bus='0' slot='6' function='0'/></interface></devices>"
    );
    rig.write("kernel", watching_guest());
    let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    rig.write("echo.xml", xml.replace("</devices>", &interface));
    ok(&rig, &["define", "echo.xml"]);
    ok(&rig, &["start", "echo"]);
    assert!(!converse(&rig, "", "plugged").contains("pulled"));
    let json = ok(&rig, &["domiflist", "echo", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let tap = json[0]["target"].as_str().unwrap();
    let link = |rig: &Rig, which: &[&str]| {
        let said = ok(rig, &[&["domif-getlink", "echo", tap], which].concat());
        said.strip_prefix(&format!("{tap} ")).unwrap().trim().to_owned()
    };
    let live = |rig: &Rig| link(rig, &[]);
    let config = |rig: &Rig| link(rig, &["--config"]);
    assert_eq!((live(&rig), config(&rig)), ("up".into(), "up".into()));

    ok(&rig, &["domif-setlink", "echo", tap, "down"]);
    assert_eq!((live(&rig), config(&rig)), ("down".into(), "up".into()));
    converse(&rig, "", "pulled");
    assert_eq!(first_link_change(&rig), (Some("net0".to_owned()), Some(false)));
    assert!(ok(&rig, &["dumpxml", "echo"]).contains("<link state='down'/>"));
    rig.end_daemon("KILL");
    rig.start_daemon();
    assert_eq!((live(&rig), config(&rig)), ("down".into(), "up".into()));
    assert_eq!(state(&rig), "running (booted)");

    ok(&rig, &["domif-setlink", "echo", tap, "down", "--config"]);
    ok(&rig, &["domif-setlink", "echo", mac, "up"]);
    assert_eq!((live(&rig), config(&rig)), ("up".into(), "down".into()));
    converse(&rig, "", "pulled\nplugged");
    ok(&rig, &["destroy", "echo"]);
    let off = rig.virsh(["domif-setlink", "echo", tap, "up"]);
    assert_eq!(off.err, format!("error: interface '{tap}' not found\n"));
    ok(&rig, &["start", "echo"]);
    assert_eq!(ok(&rig, &["domif-getlink", "echo", mac]), format!("{mac} down\n"));
}

/// As the monitor told it: the device, and whether it is up.
fn first_link_change(rig: &Rig) -> (Option<String>, Option<bool>) {
    let endpoint = api::client::Endpoint::Unix(rig.path("run/api.sock"));
    let client = api::client::Client::new(endpoint);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut all = client.events(Some(0), Some("echo")).await.unwrap();
        loop {
            let event = all.next().await.unwrap().unwrap();
            if event.event == "link-changed" {
                return (event.device, event.up);
            }
        }
    })
}

#[test]
fn events_tell_what_happened_also_while_nobody_looked() {
    let Some(rig) = defined() else { return };
    let mut watcher = rig
        .command(Path::new(MANOR))
        .args(["event", "echo", "lifecycle", "--loop", "--timeout", "300"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (lines, seen) = std::sync::mpsc::channel();
    let out = BufReader::new(watcher.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
    // It is subscribed when it has seen a first event.
    let mut told = Vec::new();
    while told.is_empty() {
        ok(&rig, &["define", "echo.xml"]);
        told.extend(seen.recv_timeout(Duration::from_millis(500)));
    }
    for verb in ["start", "suspend", "resume", "destroy"] {
        ok(&rig, &[verb, "echo"]);
    }
    while !told.iter().any(|line: &String| line.contains("Stopped")) {
        match seen.recv_timeout(Duration::from_secs(60)) {
            Ok(line) => told.push(line),
            Err(err) => panic!("{err} after {told:?}"),
        }
    }
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    reader.join().unwrap();
    told.retain(|line| !line.contains("Defined"));
    assert_eq!(
        told,
        [
            "event 'lifecycle' for domain 'echo': Started Booted",
            "event 'lifecycle' for domain 'echo': Suspended Paused",
            "event 'lifecycle' for domain 'echo': Resumed Unpaused",
            "event 'lifecycle' for domain 'echo': Stopped Destroyed",
        ]
    );
    replays(&rig);
}

/// The same again for a client that comes late and names the event it saw last.
fn replays(rig: &Rig) {
    let endpoint = api::client::Endpoint::Unix(rig.path("run/api.sock"));
    let client = api::client::Client::new(endpoint);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut all = client.events(Some(0), Some("echo")).await.unwrap();
        let mut ids = Vec::new();
        let mut words = Vec::new();
        while words.last().map(String::as_str) != Some("Stopped") {
            let event = all.next().await.unwrap().unwrap();
            ids.push(event.id);
            words.extend(event.lifecycle);
        }
        assert!(ids.is_sorted() && ids.len() >= 5, "{ids:?}");
        let middle = ids[ids.len() - 2];
        let mut rest = client.events(Some(middle), Some("echo")).await.unwrap();
        let event = rest.next().await.unwrap().unwrap();
        assert_eq!((event.id, event.detail.as_deref()), (ids[ids.len() - 1], Some("Destroyed")));
    });
}

/// Run the guest in the foreground, type at it once it is ready, and see how it ends.
fn run(rig: &Rig, typed: &[u8]) -> (String, String, Option<i32>) {
    let mut child = rig
        .command(Path::new(MANOR))
        .args(["run", "echo.xml", "--run-dir"])
        .arg(rig.path("foreground"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 256];
    while !seen.contains("ready") {
        let len = out.read(&mut buffer).unwrap();
        assert!(len > 0, "it ended after {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
    child.stdin.as_mut().unwrap().write_all(typed).unwrap();
    out.read_to_string(&mut seen).unwrap();
    let output = child.wait_with_output().unwrap();
    (seen, String::from_utf8(output.stderr).unwrap(), output.status.code())
}

#[test]
fn a_guest_in_the_foreground_ends_with_a_telling_status() {
    let Some(rig) = defined() else { return };
    let (out, err, status) = run(&rig, b"hi q");
    assert!(out.contains("hi ") && out.contains("bye"), "{out}");
    assert_eq!(status, Some(0), "{err}");
    let (_, err, status) = run(&rig, b"x");
    assert_eq!(status, Some(8), "{err}");
    assert!(err.contains("the guest crashed: triple fault"), "{err}");
    rig.write(
        "none.xml",
        std::fs::read_to_string(rig.path("echo.xml")).unwrap().replace("/kernel", "/none"),
    );
    let none = rig.manor(["run", "none.xml"]);
    assert_eq!(none.status, 1);
    assert!(none.err.contains("/none"), "{}", none.err);
}

/// What a VMM may do, as the kernel tells it of the real one.
#[test]
fn a_running_guest_is_confined_in_every_respect() {
    let Some(rig) = defined() else { return };
    let off = rig.manor(["security", "echo"]);
    assert_eq!(
        off.err,
        "error: Requested operation is not valid: domain \"echo\" is not running: there is no process\n"
    );
    ok(&rig, &["start", "echo"]);
    let table = ok(&rig, &["security", "echo"]);
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: the daemon of these tests is not root");
        return;
    }
    let facts: serde_json::Value =
        serde_json::from_str(&ok(&rig, &["security", "echo", "--json"])).unwrap();
    let facts = facts.as_array().unwrap();
    let value = |name: &str| {
        let fact = facts.iter().find(|fact| fact["name"] == name);
        fact.unwrap_or_else(|| panic!("{name}: {table}"))["value"].as_str().unwrap().to_owned()
    };
    // A kernel without Landlock has everything else.
    let open: Vec<_> = facts.iter().filter(|fact| fact["confined"] != true).collect();
    assert!(open.iter().all(|fact| fact["name"] == "Landlock"), "{table}");
    assert_eq!(value("Capabilities"), "none");
    assert_eq!(value("Root directory"), "empty, read-only");
    assert_eq!(value("Namespaces"), "of its own: mnt, net, ipc, uts, pid");
    assert_ne!(value("Cgroup"), "/");

    // Another guest is another user, and a new daemon knows whose is whose.
    let user = value("User");
    let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    let (head, tail) = xml.split_once("<uuid>").unwrap();
    let tail = tail.split_once("</uuid>").unwrap().1;
    rig.write("second.xml", format!("{head}{tail}").replace(">echo<", ">second<"));
    ok(&rig, &["create", "second.xml"]);
    let second = ok(&rig, &["security", "second", "--json"]);
    assert!(!second.contains(&format!("\"{user}\"")), "{second}");
}

/// What a disk is to its guest, and what it costs the host.
#[test]
fn the_sizes_of_disks_are_known_whoever_has_them_open() {
    let Some(rig) = defined() else { return };
    let image = rig.path("disk.qcow2").display().to_string();
    ok(&rig, &["image", "create", "-f", "qcow2", &image, "8M"]);
    let raw = rig.path("disk.img");
    std::fs::write(&raw, [1; 8192]).unwrap();
    std::fs::File::options().write(true).open(&raw).unwrap().set_len(3 << 20).unwrap();
    ok(&rig, &["attach-disk", "echo", &image, "vda", "--subdriver", "qcow2", "--config"]);
    ok(&rig, &["attach-disk", "echo", raw.to_str().unwrap(), "vdb", "--config"]);
    let before = ok(&rig, &["domblkinfo", "echo", "vda"]);
    assert!(before.starts_with("Capacity:       8388608\nAllocation:     "), "{before}");
    ok(&rig, &["start", "echo"]);
    assert_eq!(ok(&rig, &["domblkinfo", "echo", "vda"]), before);
    let sparse = ok(&rig, &["domblkinfo", "echo", "vdb"]);
    assert!(sparse.contains("Capacity:       3145728\n"), "{sparse}");
    assert!(sparse.contains("Physical:       3145728\n"), "{sparse}");
    let line = sparse.lines().find_map(|line| line.strip_prefix("Allocation:")).unwrap();
    assert!((8192..=65536).contains(&line.trim().parse::<u64>().unwrap()), "{sparse}");
    let human = ok(&rig, &["domblkinfo", "echo", "vdb", "--human"]);
    assert!(human.starts_with("Capacity:       3.000 MiB\n"), "{human}");
    let all = ok(&rig, &["domblkinfo", "echo", "--all"]);
    assert!(all.contains(" vda      8388608"), "{all}");
    let none = rig.manor(["domblkinfo", "echo", "vdz"]);
    assert!(none.err.contains("has no disk \"vdz\""), "{}", none.err);
    assert_ne!(none.status, 0);
}
