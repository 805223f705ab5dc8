//! Guests in a network of Manor's own, on a host that is a network namespace: what the host has for them.

use std::process::Command;

use super::guests::write_echo;
use super::lab::{Host, LAB};
use super::rig::wait_for;

/// One that is promised something, and one that is limited as its group is.
const INTERFACES: &str = "<interface type='network'><mac address='52:54:00:77:00:01'/>
    <source network='lab'/><model type='virtio'/><bandwidth><inbound floor='500'/></bandwidth></interface>
    <interface type='network'><mac address='52:54:00:77:00:02'/>
    <source network='lab' portgroup='office'/><model type='virtio'/></interface>";

fn tc(host: &Host, arguments: &str) -> String {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &host.names[0], "tc"]).args(arguments.split(' '));
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn a_guest_is_a_port_of_its_network_with_what_it_is_promised_and_what_nobody_else_may_use() {
    let Some(mut host) = Host::new() else { return };
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return println!("SKIP: /dev/kvm cannot be opened");
    }
    write_echo(&host.rig);
    let xml = std::fs::read_to_string(host.rig.path("echo.xml")).unwrap();
    host.rig.write("echo.xml", xml.replace("<serial", &format!("{INTERFACES}<serial")));
    let group =
        "<portgroup name='office'><bandwidth><inbound average='2000'/></bandwidth></portgroup>";
    host.rig.write("lab.xml", LAB.replace("</network>", &format!("{group}</network>")));
    host.manor("net-define lab.xml");
    host.manor("net-start lab");
    host.manor("define echo.xml");
    let refused = host.rig.manor(["start", "echo"]).err;
    assert!(
        refused.contains("network \"lab\" has no rate of which to promise a part"),
        "{refused}"
    );
    assert_eq!(host.manor("net-port-list lab --uuid"), "\n");

    let rate = "<bandwidth><inbound average='10000'/></bandwidth>";
    let update = ["net-update", "lab", "add", "bandwidth", rate, "--live", "--config"];
    assert_eq!(host.rig.manor(update).status, 0);
    host.manor("start echo");
    if tc(&host, "-V").is_empty() {
        println!("SKIP: there is no tc to ask (iproute2)");
    } else {
        let classes = tc(&host, "class show dev virbr7");
        assert!(classes.contains("rate 4Mbit ceil 80Mbit"), "{classes}");
    }
    let ports = host.manor("net-port-list lab --uuid");
    let [first, port] = ports.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{ports}") };
    assert!(host.manor("net-port-list lab").contains(port), "{port}");
    assert!(host.manor(&format!("net-port-dumpxml lab {first}")).contains("floor='500'"));
    let info = host.manor(&format!("net-port-info lab {port}"));
    let tap = info.lines().find_map(|line| line.strip_prefix("Device:")).expect(&info).trim();
    for part in ["Domain:         echo\n", "52:54:00:77:00:02", "Port group:     office\n"] {
        assert!(info.contains(part), "no {part} in {info}");
    }
    if tc(&host, "-V").contains("iproute2") {
        let class = tc(&host, &format!("class show dev {tap}"));
        assert!(class.contains("rate 16Mbit"), "that of the port group: {class}");
    }
    let xml = host.manor(&format!("net-port-dumpxml lab {port}"));
    for part in
        ["<name>echo</name>", "<group>office</group>", "average='2000'", "bridge='virbr7'/>"]
    {
        assert!(xml.contains(part), "no {part} in {xml}");
    }
    // libvirt's own client sees the same.
    let clients = manor_tests::libvirt::Clients::fetched().unwrap();
    let virsh = |arguments: &[&str]| {
        let socket = host.rig.path("run/libvirt-sock");
        let uri = format!("qemu+unix:///system?socket={}", socket.display());
        let mut virsh = clients.virsh(host.rig.directory.path());
        let output = virsh.args(["-c", &uri]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(virsh(&["net-port-list", "lab"]).contains(port));
    assert_eq!(virsh(&["net-port-dumpxml", "lab", port]).trim(), xml.trim());
    let none = "00000000-0000-0000-0000-000000000007";
    let none = host.rig.manor(["net-port-dumpxml", "lab", none]).err;
    assert!(none.contains("has no port"), "{none}");

    // Its neighbour is given an address, which is no address of its own from then on.
    let own = |host: &Host| host.nft(&["list", "table", "bridge", "manor"]);
    assert!(own(&host).contains("10.77.0.1 . 52:54:00"), "the host's: {}", own(&host));
    assert!(own(&host).contains("ip saddr 10.77.0.0/24"), "{}", own(&host));
    host.connect();
    let leases = host.manor("net-dhcp-leases lab");
    let words: Vec<_> = leases.lines().nth(2).expect(&leases).split_whitespace().collect();
    let (mac, address) = (words[2], words[4].trim_end_matches("/24"));
    let held = format!("{address} . {mac}");
    wait_for("the lease to be in force", || own(&host).contains(&held));
    let table = own(&host);
    host.rig.end_daemon("KILL");
    host.rig.start_daemon();
    wait_for("the next daemon to know it", || own(&host).contains(&held));
    assert!(own(&host).contains(&format!("port-{tap}/arp")), "{table}");
    host.nft(&["flush", "ruleset"]);
    wait_for("what was flushed to be there again", || {
        host.nft(&["list", "ruleset"]).contains(&held)
    });

    assert_eq!(host.manor("net-port-list lab --uuid"), ports, "as they were");
    host.manor("destroy echo");
    assert_eq!(host.manor("net-port-list lab --uuid"), "\n");
}

#[test]
fn the_kernel_forgets_a_filter_that_an_interface_of_a_running_guest_has_no_more() {
    let Some(host) = Host::new() else { return };
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return println!("SKIP: /dev/kvm cannot be opened");
    }
    let interface = |filter: &str| {
        format!(
            "<interface type='network'><mac address='52:54:00:77:00:04'/><source network='lab'/>\
             <model type='virtio'/>{filter}</interface>"
        )
    };
    write_echo(&host.rig);
    let xml = std::fs::read_to_string(host.rig.path("echo.xml")).unwrap();
    let filtered = interface("<filterref filter='walled'/>");
    host.rig.write("echo.xml", xml.replacen("<serial", &format!("{filtered}<serial"), 1));
    host.rig.write("filtered.xml", filtered);
    host.rig.write("open.xml", interface(""));
    host.rig.write(
        "walled.xml",
        "<filter name='walled'><rule action='drop' direction='inout'><tcp dstportstart='7777'/>\
         </rule></filter>",
    );
    host.manor("net-define lab.xml");
    host.manor("net-start lab");
    host.manor("nwfilter-define walled.xml");
    host.manor("define echo.xml");
    host.manor("start echo");
    let now = || host.nft(&["list", "table", "bridge", "manor"]);
    let (is_walled, is_checked) = (|| now().contains("7777"), || now().contains("/arp"));
    assert!(is_walled() && !is_checked(), "{}", now());
    assert!(host.manor("nwfilter-binding-list").contains("walled"));

    host.manor("update-device echo open.xml --live");
    assert!(!is_walled(), "{}", now());
    assert!(is_checked(), "as whoever is in a network of Manor's own: {}", now());
    assert!(!host.manor("nwfilter-binding-list").contains("walled"));
    host.manor("update-device echo filtered.xml --live");
    assert!(is_walled() && !is_checked(), "{}", now());
    host.manor("update-device echo open.xml --live --config");
    host.manor("nwfilter-undefine walled");
    host.manor("destroy echo");
    host.manor("start echo");
    assert!(!is_walled() && is_checked(), "{}", now());
}

/// What the host's kernel says of its links.
fn link(host: &Host, program: &str, arguments: &str) -> String {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &host.names[0], program]).args(arguments.split(' '));
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn a_guest_that_goes_on_is_announced_to_its_bridge() {
    let Some(host) = Host::new() else { return };
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return println!("SKIP: /dev/kvm cannot be opened");
    }
    const MAC: &str = "52:54:00:77:00:03";
    write_echo(&host.rig);
    let xml = std::fs::read_to_string(host.rig.path("echo.xml")).unwrap();
    let interface = format!(
        "<interface type='network'><mac address='{MAC}'/><source network='lab'/>\
         <model type='virtio'/></interface><serial"
    );
    host.rig.write("echo.xml", xml.replacen("<serial", &interface, 1));
    host.manor("net-define lab.xml");
    host.manor("net-start lab");
    host.manor("define echo.xml");
    host.manor("start echo");
    let learnt = || link(&host, "bridge", "fdb show br virbr7").contains(MAC);
    // Its guest never says a word.
    assert!(!learnt(), "{}", link(&host, "bridge", "fdb show br virbr7"));
    host.manor("managedsave echo");
    host.manor("start echo");
    wait_for("the bridge to know where it is", learnt);
    let tap = host.manor("domiflist echo");
    let tap =
        tap.lines().find(|line| line.contains(MAC)).and_then(|line| line.split_whitespace().next());
    let received = || {
        let shown = link(&host, "ip", &format!("-s link show dev {}", tap.unwrap()));
        let figures = shown.lines().skip_while(|line| !line.contains("RX:")).nth(1);
        let packets = figures.and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned);
        packets.unwrap_or(shown)
    };
    wait_for("all rounds", || received() == "5");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(received(), "5", "that was all");
    host.manor("destroy echo");
}
