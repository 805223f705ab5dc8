//! Guests in virtual networks: addresses and names that they are given, ways to the world and back,
//! while daemon and server die and the host's firewall is flushed.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::rig::{Daemon, LONG, SHORT, Shell, Xml};

const NAMES: [&str; 2] = ["net-a", "net-b"];
const MACS: [&str; 2] = ["52:54:00:77:00:0a", "52:54:00:77:00:0b"];

const NETWORK: &str = "<network>
  <name>lab</name>
  <forward mode='nat'/>
  <bridge name='virbr77' stp='off'/>
  <domain name='lab.test' localOnly='yes'/>
  <dns><host ip='192.168.77.200'><hostname>printer</hostname></host></dns>
  <ip address='192.168.77.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.77.100' end='192.168.77.199'/>
      <host mac='52:54:00:77:00:0b' name='net-b' ip='192.168.77.20'/>
    </dhcp>
  </ip>
  <portForward proto='tcp' to='192.168.77.20'><range start='8080' to='80'/></portForward>
</network>";

const SERVER: &str = "manor network=lab";
const HTTP: &str = "busybox httpd -p 203.0.113.1";

/// Their numbers, a line each.
fn processes(daemon: &Daemon, command: &str) -> Result<String> {
    daemon.host.sh(&format!(
        "for process in /proc/[0-9]*; do
             tr '\\0' ' ' <$process/cmdline 2>/dev/null | grep -q '^{command}' || continue
             echo ${{process#/proc/}}
         done"
    ))
}

/// Has the guest take what the server gives, and say what that was.
fn take_lease(shell: &mut Shell, name: &str) -> Result<String> {
    shell.run(&format!(
        "ip link set eth0 up; udhcpc -i eth0 -n -q -t 20 -T 1 -x hostname:{name}; \
         cat /etc/resolv.conf; ip -4 addr show dev eth0"
    ))
}

#[test]
fn guests_get_addresses_and_names_and_go_on_while_all_around_them_dies() -> Result<()> {
    let daemon = Daemon::start("networks")?;
    let host = &daemon.host;
    // Of a run that failed: networks outlive their daemon.
    for old in [processes(&daemon, SERVER)?, processes(&daemon, HTTP)?] {
        host.sh(&format!("kill -9 {} 2>/dev/null || true", old.replace('\n', " ")))?;
    }
    host.sh("ip link del virbr77 2>/dev/null || true")?;
    host.sh(&format!("cat >/run/e2e/lab.xml <<'E'\n{NETWORK}\nE"))?;
    daemon.manor("net-define /run/e2e/lab.xml")?;
    let mut xml = Xml::new("too-early", "manor.end=shell");
    xml.devices = "<interface type='network'><source network='lab'/></interface>".into();
    daemon.define(&xml)?;
    let early = daemon.refused("start too-early")?;
    ensure!(early.contains("\"lab\" is not active") && early.contains("net-start lab"), "{early}");
    daemon.manor("net-start lab")?;
    for (name, mac) in NAMES.iter().zip(MACS) {
        let mut xml = Xml::new(name, "manor.end=shell");
        xml.devices = format!(
            "<interface type='network'><mac address='{mac}'/><source network='lab'/>\
             <model type='virtio'/></interface>"
        );
        daemon.define_and_start(&xml)?;
    }
    let mut a = daemon.shell(NAMES[0])?;
    let mut b = daemon.shell(NAMES[1])?;
    let seen = take_lease(&mut a, NAMES[0])?;
    ensure!(seen.contains("inet 192.168.77.1") && seen.contains("search lab.test"), "{seen}");
    let seen = take_lease(&mut b, NAMES[1])?;
    ensure!(seen.contains("inet 192.168.77.20/24"), "the address that is kept for it: {seen}");
    let leases = daemon.manor("net-dhcp-leases lab")?;
    for part in [MACS[0], MACS[1], "192.168.77.20/24", "net-a", "net-b"] {
        ensure!(leases.contains(part), "no {part} in {leases}");
    }
    let live = daemon.manor("dumpxml net-a")?;
    ensure!(live.contains("<source network='lab' bridge='virbr77'/>"), "{live}");
    let network = daemon.manor("net-dumpxml lab")?;
    ensure!(network.contains("<network connections='2'>"), "{network}");
    let addresses = daemon.manor("domifaddr net-b --source lease")?;
    ensure!(addresses.contains("192.168.77.20/24"), "{addresses}");

    // Names, in both forms, and of one that is no guest.
    for name in ["net-b", "net-b.lab.test"] {
        let text = a.run(&format!("ping -c 2 -W 5 {name}"))?;
        ensure!(text.contains("(192.168.77.20)") && text.contains("2 packets received"), "{text}");
    }
    let text = a.run("nslookup printer.lab.test 192.168.77.1")?;
    ensure!(text.contains("192.168.77.200"), "{text}");
    let text = a.run("nslookup nobody.lab.test 192.168.77.1 || true")?;
    ensure!(text.contains("NXDOMAIN"), "{text}");

    // To the host's other address by its router, and to the guest through a port of the host.
    host.sh("ip link add out7 type dummy 2>/dev/null || true
         ip addr add 203.0.113.1/24 dev out7 2>/dev/null || true; ip link set out7 up
         mkdir -p /run/e2e/www; echo from the host >/run/e2e/www/index.html
         busybox httpd -p 203.0.113.1:8888 -h /run/e2e/www")?;
    let fetch =
        |port: u16| format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 10 203.0.113.1 {port}");
    let text = a.run(&fetch(8888))?;
    ensure!(text.contains("from the host"), "{text}");
    b.run("mkdir -p /www; echo from the guest >/www/index.html; busybox httpd -p 80 -h /www")?;
    let forwarded = fetch(8080);
    ensure!(host.sh(&forwarded)?.contains("from the guest"), "through the port of the host");

    // An entry of the network as it runs: a name, and another port of the host.
    host.sh("cat >/run/e2e/name.xml <<'E'\n<host ip='192.168.77.201'><hostname>scanner</hostname></host>\nE
         cat >/run/e2e/port.xml <<'E'
         <portForward proto='tcp' to='192.168.77.20'><range start='8081' to='80'/></portForward>\nE")?;
    daemon.manor("net-update lab add dns-host /run/e2e/name.xml --live")?;
    ensure!(a.run("nslookup scanner 192.168.77.1")?.contains("192.168.77.201"));
    daemon.manor("net-update lab add port-forward /run/e2e/port.xml --live --config")?;
    ensure!(host.sh(&fetch(8081))?.contains("from the guest"), "through the new port");
    ensure!(host.sh(&forwarded)?.contains("from the guest"), "through the one before");

    // All that may die does.
    let before = processes(&daemon, SERVER)?;
    ensure!(before.trim().parse::<u32>().is_ok(), "one process of the network: {before:?}");
    let status = host.sh(&format!("cat /proc/{}/status", before.trim()))?;
    for line in ["CapBnd:\t0000000000000000\n", "CapEff:\t0000000000000000\n", "Seccomp:\t2\n"] {
        ensure!(status.contains(line), "no {line:?} in {status}");
    }
    ensure!(status.contains("Uid:\t65534\t65534\t65534\t65534\n"), "nobody: {status}");
    a.run("( (sleep 3; nslookup net-b 192.168.77.1 >/tmp/without 2>&1) & )")?;
    daemon.kill_9()?;
    std::thread::sleep(Duration::from_secs(6));
    daemon.launch()?;
    daemon.api.await_ready(SHORT)?;
    let mut a = daemon.shell_again(NAMES[0])?;
    ensure!(a.run("cat /tmp/without")?.contains("192.168.77.20"), "names without a daemon");
    ensure!(processes(&daemon, SERVER)? == before, "the same process, found again");
    host.sh(&format!("kill -9 {}", before.trim()))?;
    std::thread::sleep(Duration::from_secs(3));
    let after = processes(&daemon, SERVER)?;
    ensure!(after != before && after.trim().parse::<u32>().is_ok(), "another process: {after:?}");
    ensure!(a.run("nslookup net-b 192.168.77.1")?.contains("192.168.77.20"), "leases are kept");

    // A guest that says to be another is heard by nobody, also by rules of a daemon before.
    for (mac, heard) in [("52:54:00:77:00:99", false), (MACS[0], true)] {
        let text = a.run(&format!(
            "ip link set eth0 down; ip link set eth0 address {mac}; ip link set eth0 up; sleep 1; \
             ping -c 3 -W 3 192.168.77.20 || true"
        ))?;
        ensure!(text.contains(" 0 packets received") != heard, "as {mac}: {text}");
    }

    // With an address of its own choice it is heard; that of another it cannot take by saying so.
    let text = a.run(
        "ip addr add 192.168.77.150/24 dev eth0; ping -c 3 -W 3 -I 192.168.77.150 192.168.77.20 || true; \
         ip addr del 192.168.77.150/24 dev eth0",
    )?;
    ensure!(!text.contains(" 0 packets received"), "{text}");
    a.run(
        "ip addr add 192.168.77.20/32 dev eth0; arping -U -c 3 -I eth0 192.168.77.20 || true; \
         ip addr del 192.168.77.20/32 dev eth0",
    )?;
    ensure!(host.sh(&forwarded)?.contains("from the guest"), "the other is where it was");

    // Stopped and started again, guests are in it as before.
    daemon.manor("net-destroy lab")?;
    ensure!(a.run("ping -c 1 -W 2 192.168.77.1 || true")?.contains("0 packets received"));
    daemon.manor("net-start lab")?;
    let text = a.run("ping -c 3 -W 5 192.168.77.20")?;
    ensure!(!text.contains(" 0 packets received"), "{text}");
    ensure!(host.sh(&forwarded)?.contains("from the guest"), "as before");

    for name in NAMES {
        daemon.post(name, "destroy")?;
        daemon.api.await_state(name, "shut-off", LONG)?;
    }
    daemon.manor("net-destroy lab")?;
    daemon.manor("net-undefine lab")?;
    let left = host.sh("ls /sys/class/net; ls /run/manor*/networks 2>/dev/null || true")?;
    ensure!(!left.contains("virbr77"), "{left}");
    ensure!(processes(&daemon, SERVER)?.trim().is_empty(), "a process stayed");
    Ok(())
}

#[test]
fn guests_of_one_vlan_reach_each_other_and_those_of_another_do_not() -> Result<()> {
    let daemon = Daemon::start("vlans")?;
    let host = &daemon.host;
    host.sh("ip link add lan7 type bridge 2>/dev/null || true
         echo 0 >/sys/class/net/lan7/bridge/vlan_filtering; ip link set lan7 up
         cat >/run/e2e/lan.xml <<'E'
         <network><name>lan</name><forward mode='bridge'/><bridge name='lan7'/>
           <portgroup name='office' default='yes'><vlan><tag id='42'/></vlan></portgroup>
           <portgroup name='guests'><vlan><tag id='43'/></vlan></portgroup>
         </network>\nE")?;
    daemon.manor("net-define /run/e2e/lan.xml")?;
    daemon.manor("net-start lan")?;
    let sources =
        ["network='lan'", "network='lan' portgroup='office'", "network='lan' portgroup='guests'"];
    for (number, source) in (1..).zip(sources) {
        let mut xml = Xml::new(&format!("vlan-{number}"), "manor.end=shell");
        xml.devices = format!("<interface type='network'><source {source}/></interface>");
        daemon.define(&xml)?;
    }
    let refused = daemon.refused("start vlan-1")?;
    ensure!(refused.contains("vlan_filtering 1"), "{refused}");
    host.sh("echo 1 >/sys/class/net/lan7/bridge/vlan_filtering")?;
    let mut shells = Vec::new();
    for number in 1..=3 {
        daemon.manor(&format!("start vlan-{number}"))?;
        let mut shell = daemon.shell(&format!("vlan-{number}"))?;
        shell.run(&format!("ip addr add 10.42.0.{number}/24 dev eth0; ip link set eth0 up"))?;
        shells.push(shell);
    }
    let near = shells[0].run("ping -c 2 -W 5 10.42.0.2")?;
    ensure!(near.contains("2 packets received"), "of the same VLAN: {near}");
    let far = shells[0].run("ping -c 2 -W 1 10.42.0.3 || true")?;
    ensure!(far.contains("100% packet loss"), "of another VLAN: {far}");
    for number in 1..=3 {
        daemon.manor(&format!("destroy vlan-{number}"))?;
    }
    daemon.manor("net-destroy lan")?;
    host.sh("ip link del lan7")?;
    Ok(())
}
