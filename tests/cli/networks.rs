//! Networks, by virsh's verbs. Words and layouts are those of virsh 9.0. None is started here: that
//! would change the host that the tests run on.

use super::rig::{Outcome, Rig};

const LAB: &str = "<network><name>lab</name><forward mode='nat'/>
  <ip address='10.77.0.1' netmask='255.255.255.0'>
    <dhcp><range start='10.77.0.10' end='10.77.0.20'/></dhcp>
  </ip>
</network>";

struct Networks(Rig);

impl Networks {
    fn new() -> Self {
        let networks = Self(Rig::new());
        std::fs::write(networks.0.path("lab.xml"), LAB).unwrap();
        networks
    }

    fn manor(&self, line: &str) -> Outcome {
        self.0.manor(line.split_whitespace())
    }

    fn done(&self, line: &str) -> String {
        let outcome = self.manor(line);
        assert_eq!(outcome.status, 0, "{line}: {}", outcome.err);
        outcome.out
    }

    fn refused(&self, line: &str) -> String {
        let outcome = self.manor(line);
        assert_ne!(outcome.status, 0, "{line}: {}", outcome.out);
        outcome.err
    }

    fn define(&self, file: &str) -> Outcome {
        self.manor(&format!("net-define {}", self.0.path(file).display()))
    }
}

#[test]
fn every_host_begins_with_a_nat_network_that_stays_away_once_it_is_removed() {
    let mut networks = Networks::new();
    let list = " Name      State      Autostart   Persistent\n\
                ----------------------------------------------\n \
                default   inactive   no          yes\n\n";
    assert_eq!(networks.done("net-list --all"), list);
    assert_eq!(networks.done("net-list --name"), "\n");
    let xml = networks.done("net-dumpxml default");
    for part in ["<forward mode='nat'>", "address='192.168.122.1'", "end='192.168.122.254'"] {
        assert!(xml.contains(part), "no {part} in {xml}");
    }
    assert_eq!(networks.done("net-undefine default"), "Network default has been undefined\n\n");
    networks.0.end_daemon("TERM");
    networks.0.start_daemon();
    assert_eq!(networks.done("net-list --all --name"), "\n");
}

#[test]
fn a_network_is_defined_described_and_forgotten_as_virsh_does() {
    let networks = Networks::new();
    let outcome = networks.define("lab.xml");
    let from = networks.0.path("lab.xml");
    assert_eq!(outcome.out, format!("Network lab defined from {}\n\n", from.display()));
    assert_eq!(networks.done("net-autostart lab"), "Network lab marked as autostarted\n\n");
    let info = networks.done("net-info lab");
    for line in [
        "Name:           lab\n",
        "Active:         no\n",
        "Persistent:     yes\n",
        "Autostart:      yes\n",
        "Bridge:         virbr",
    ] {
        assert!(info.contains(line), "no {line:?} in {info}");
    }
    let uuid = networks.done("net-uuid lab").trim().to_owned();
    assert_eq!(networks.done(&format!("net-name {uuid}")), "lab\n\n");
    let header =
        " Expiry Time   MAC address   Protocol   IP address   Hostname   Client ID or DUID";
    assert!(networks.done("net-dhcp-leases lab").starts_with(header));
    let bad = networks.refused("net-dhcp-leases lab 52:54");
    assert!(bad.contains("MAC address"), "{bad}");
    let stop = networks.refused("net-destroy lab");
    assert!(stop.contains("network \"lab\" is not active"), "{stop}");
    // What was defined is what is defined again.
    std::fs::write(networks.0.path("again.xml"), networks.done("net-dumpxml lab")).unwrap();
    assert_eq!(networks.define("again.xml").status, 0);
    assert_eq!(networks.done("net-uuid lab").trim(), uuid);
    // One entry of it.
    let host = "<host mac='52:54:00:00:00:0a' name='web' ip='10.77.0.5'/>";
    let update = |command: &str| {
        networks.0.manor(["net-update", "lab", command, "ip-dhcp-host", host, "--config"])
    };
    assert_eq!(update("add").out, "Updated network lab persistent config\n\n");
    assert!(networks.done("net-dumpxml lab").contains(host));
    assert!(update("add").err.contains("has such an entry already"));
    assert!(update("replace").err.contains("add-first"), "{}", update("replace").err);
    assert_eq!(update("delete").status, 0);
    assert!(!networks.done("net-dumpxml lab").contains(host));
    let live = networks.0.manor(["net-update", "lab", "add", "ip-dhcp-host", host, "--live"]);
    assert!(live.err.contains("is not active"), "{}", live.err);
    networks.done("net-undefine lab");
    let gone = networks.refused("net-info lab");
    assert!(gone.contains("failed to get network 'lab'"), "{gone}");
    let near = networks.refused("net-info defualt");
    assert!(near.contains("default"), "{near}");
}

#[test]
fn what_cannot_be_is_refused_with_its_cause_and_nothing_is_stored() {
    let networks = Networks::new();
    let cases = [
        (LAB.replace("end='10.77.0.20'", "end='10.78.0.20'"), "10.78.0.20 is not in the subnet"),
        (LAB.replace("<name>lab", "<name>default"), "there is a network \"default\" already"),
        (LAB.replace("mode='nat'", "mode='hostdev'"), "are not provided by Manor yet"),
        (LAB.replace("<ip", "<bridge name='averyverylongname'/><ip"), "cannot name a bridge"),
        // What its server would not serve by.
        (LAB.replace("</dhcp>", "<range start='10.77.0.15' end='10.77.0.30'/></dhcp>"), "overlap"),
    ];
    for (text, message) in cases {
        std::fs::write(networks.0.path("bad.xml"), &text).unwrap();
        let outcome = networks.define("bad.xml");
        assert_ne!(outcome.status, 0, "{text}");
        assert!(outcome.err.contains(message), "no {message:?} in {}", outcome.err);
    }
    assert_eq!(networks.done("net-list --all --name"), "default\n\n");

    networks.define("lab.xml");
    let bridge = networks.done("net-info lab");
    let bridge = bridge.lines().find_map(|line| line.strip_prefix("Bridge:")).unwrap().trim();
    let other = LAB.replace("lab", "lab2").replace("<ip", &format!("<bridge name='{bridge}'/><ip"));
    std::fs::write(networks.0.path("bad.xml"), other).unwrap();
    let taken = networks.define("bad.xml").err;
    assert!(taken.contains("is that of another network"), "{taken}");
}

#[test]
fn a_definition_is_edited_in_the_users_editor_and_stored_only_if_it_is_one() {
    let networks = Networks::new();
    networks.define("lab.xml");
    let edit = |editor: &str| {
        let mut command = networks.0.command(super::rig::MANOR.as_ref());
        command.args(["net-edit", "lab"]).env_remove("VISUAL").env("EDITOR", editor);
        let output = command.env("TMPDIR", networks.0.path("")).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (done, out, err) = edit("true");
    assert!(done && out.contains("Network lab XML configuration not changed."), "{out}{err}");
    let (done, out, err) = edit("sed -i s/10.77.0.20/10.77.0.30/");
    assert!(done && out.contains("Network lab XML configuration edited."), "{out}{err}");
    let stored = networks.done("net-dumpxml lab");
    assert!(stored.contains("end='10.77.0.30'"), "{stored}");
    let (done, _, err) = edit("sed -i s/10.77.0.30/10.78.0.30/");
    assert!(!done && err.contains("10.78.0.30 is not in the subnet"), "{err}");
    let (done, _, err) = edit("false");
    assert!(!done && err.contains("set EDITOR"), "{err}");
    assert_eq!(networks.done("net-dumpxml lab"), stored);
    let left: Vec<_> = std::fs::read_dir(networks.0.path("")).unwrap().flatten().collect();
    assert!(!left.iter().any(|it| it.file_name().to_string_lossy().contains("manor-edit")));
}

#[test]
fn events_of_one_network_are_told_in_virshs_words() {
    let networks = Networks::new();
    networks.define("lab.xml");
    assert_eq!(networks.done("net-event --list"), "lifecycle\nport\nlease\n\n");
    assert!(networks.refused("net-event lab").contains("--event <type> is required"));
    assert!(networks.refused("net-event lab link").contains("unknown event type link"));
    assert!(networks.refused("net-event nat lifecycle").contains("failed to get network 'nat'"));
    let mut watcher = networks.0.command(super::rig::MANOR.as_ref());
    watcher.args(["net-event", "lab", "lifecycle", "--loop", "--timeout", "60"]);
    let mut watcher = watcher.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let (lines, seen) = std::sync::mpsc::channel();
    let out = std::io::BufReader::new(watcher.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in std::io::BufRead::lines(out).map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
    // It is subscribed when it has seen a first event.
    let mut told: Vec<String> = Vec::new();
    networks.0.write("again.xml", networks.done("net-dumpxml lab"));
    while told.is_empty() {
        networks.define("again.xml");
        told.extend(seen.recv_timeout(std::time::Duration::from_millis(200)));
    }
    networks.done("net-undefine default");
    networks.done("net-undefine lab");
    while !told.iter().any(|line| line.contains("Undefined")) {
        told.push(seen.recv_timeout(super::rig::PATIENCE).unwrap());
    }
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    reader.join().unwrap();
    told.retain(|line| line != "event 'lifecycle' for network lab: Defined");
    assert_eq!(told, ["event 'lifecycle' for network lab: Undefined"]);
}
