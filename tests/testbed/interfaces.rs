//! Interfaces that are in no network of Manor's: passt, macvtaps, and the host's kernel moving packets.

use std::time::Instant;

use anyhow::{Result, ensure};
use manor_tests::apt::Release;
use manor_tests::tools;

use crate::rig::{Daemon, LONG, SHORT, Shell, Xml};

/// Asks until it is so.
fn within(limit: std::time::Duration, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + limit;
    while !is_so()? {
        ensure!(Instant::now() < until, "{what}: not within {limit:?}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    Ok(())
}

fn interface(name: &str, interface: &str) -> Xml {
    let mut xml = Xml::new(name, "manor.end=shell");
    xml.devices = interface.to_owned();
    xml
}

/// Numbers of the processes whose command begins so.
fn processes(daemon: &Daemon, command: &str) -> Result<String> {
    let found = daemon.host.sh(&format!(
        "for process in /proc/[0-9]*; do
             tr '\\0' ' ' <$process/cmdline 2>/dev/null | grep -q '^{command}' || continue
             echo ${{process#/proc/}}
         done"
    ))?;
    Ok(found.trim().replace('\n', " "))
}

fn fetch(address: &str, port: u16) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 10 {address} {port}")
}

const USER: &str = "<interface type='user'><mac address='52:54:00:88:00:01'/><backend type='passt'/>\
    <source dev='out8'/><portForward proto='tcp'><range start='2080' to='80'/></portForward>\
    <model type='virtio'/></interface>";

#[test]
fn a_guest_reaches_the_world_through_passt_and_goes_on_without_it() -> Result<()> {
    let daemon = Daemon::start("user-net")?;
    let host = &daemon.host;
    host.sh("ip link add out8 type dummy 2>/dev/null || true
         ip addr add 198.51.100.2/24 dev out8 2>/dev/null || true; ip link set out8 up
         ip route add default via 198.51.100.1 dev out8 metric 5000 2>/dev/null || true
         rm -f /usr/bin/passt")?;
    daemon.define(&interface("user-net", USER))?;
    let missing = daemon.refused("start user-net")?;
    ensure!(missing.contains("no passt; install the package passt"), "{missing}");

    let passt = tools::passt(Release::Trixie)?;
    host.put(&passt.program, "/usr/bin/passt")?;
    for (library, place) in passt.libraries() {
        host.put(&library, place)?;
    }
    // Of a run that failed.
    let old = processes(&daemon, "busybox httpd -p 127.0.0.1:8088")?;
    host.sh(&format!("test -z '{old}' || kill -9 {old}"))?;
    host.sh("chmod 755 /usr/bin/passt /lib64/ld-linux-x86-64.so.2
         mkdir -p /run/e2e/www8; echo from the host >/run/e2e/www8/index.html
         busybox httpd -p 127.0.0.1:8088 -h /run/e2e/www8")?;
    daemon.manor("start user-net")?;
    let mut shell = daemon.shell("user-net")?;
    shell.run(
        "printf '#!/bin/sh\\nif [ \"$1\" = bound ]; then ip addr add $ip/$mask dev $interface; \
         ip route add default via $router; fi\\n' >/tmp/take; chmod +x /tmp/take; ip link set eth0 up; \
         udhcpc -i eth0 -n -q -t 20 -T 1 -s /tmp/take",
    )?;
    let address = shell.run("ip -4 addr show dev eth0")?;
    ensure!(address.contains("inet 198.51.100.2/24"), "{address}");
    let text = shell.run(&fetch("198.51.100.1", 8088))?;
    ensure!(text.contains("from the host"), "{text}");
    shell
        .run("mkdir -p /www; echo from the guest >/www/index.html; busybox httpd -p 80 -h /www")?;
    let text = host.sh(&fetch("127.0.0.1", 2080))?;
    ensure!(text.contains("from the guest"), "{text}");
    let rows = daemon.manor("domiflist user-net")?;
    ensure!(rows.contains("user") && rows.contains("out8"), "{rows}");

    // Another comes and goes, and so does its process.
    let first = processes(&daemon, "passt --fd")?;
    let uid = host.sh(&format!("grep Uid /proc/{first}/status"))?;
    ensure!(uid.contains("65534\t65534\t65534\t65534"), "nobody: {uid}");
    daemon.manor("attach-interface user-net user out8 --mac 52:54:00:88:00:02")?;
    ensure!(processes(&daemon, "passt --fd")?.split(' ').count() == 2, "a second passt");
    shell.run("until test -e /sys/class/net/eth1; do usleep 100000; done")?;
    daemon.manor("detach-interface user-net user --mac 52:54:00:88:00:02")?;
    within(LONG, "the second passt ends", || Ok(processes(&daemon, "passt --fd")? == first))?;

    // Neither's death is the guest's.
    daemon.kill_9()?;
    daemon.launch()?;
    daemon.api.await_ready(SHORT)?;
    let mut shell = daemon.shell_again("user-net")?;
    ensure!(shell.run(&fetch("198.51.100.1", 8088))?.contains("from the host"), "without a daemon");
    host.sh(&format!("kill -9 {first}"))?;
    shell.run("until test \"$(cat /sys/class/net/eth0/carrier)\" = 0; do usleep 100000; done")?;
    daemon.manor("destroy user-net")?;
    daemon.manor("start user-net")?;
    ensure!(processes(&daemon, "passt --fd")?.split(' ').count() == 1, "a new one with the guest");
    daemon.manor("destroy user-net")?;
    within(SHORT, "passt ends with the guest", || Ok(processes(&daemon, "passt --fd")?.is_empty()))
}

fn with_address(daemon: &Daemon, name: &str, address: &str) -> Result<Shell> {
    let mut shell = daemon.shell(name)?;
    shell.run(&format!("ip addr add {address}/24 dev eth0; ip link set eth0 up"))?;
    Ok(shell)
}

fn ping(shell: &mut Shell, address: &str) -> Result<()> {
    shell.run(&format!("ping -c 3 -W 5 {address} | grep -q ' [1-3] packets received'")).map(drop)
}

#[test]
fn guests_on_macvtaps_reach_each_other_and_leave_nothing_behind() -> Result<()> {
    let daemon = Daemon::start("direct")?;
    let host = &daemon.host;
    host.sh(
        "modprobe macvtap; ip link add src9 type dummy 2>/dev/null || true; ip link set src9 up",
    )?;
    for (number, name) in ["direct-a", "direct-b"].into_iter().enumerate() {
        let text = format!(
            "<interface type='direct'><mac address='52:54:00:99:00:0{number}'/>\
             <source dev='src9' mode='bridge'/><model type='virtio'/></interface>"
        );
        daemon.define_and_start(&interface(name, &text))?;
    }
    let mut a = with_address(&daemon, "direct-a", "10.99.0.1")?;
    let _b = with_address(&daemon, "direct-b", "10.99.0.2")?;
    ping(&mut a, "10.99.0.2")?;
    let live = daemon.manor("dumpxml direct-a")?;
    ensure!(live.contains("<source dev='src9' mode='bridge'/>"), "{live}");
    ensure!(live.contains("<target dev='macvtap0'/>"), "{live}");
    let counters = daemon.manor("domifstat direct-a macvtap0")?;
    ensure!(!counters.contains("rx_packets 0\n") && counters.contains("rx_packets"), "{counters}");

    // The guest dies while there is no daemon; the next one removes what is left.
    let links = || host.sh("ls /sys/class/net");
    let vmm = processes(&daemon, "manor guest=direct-a")?;
    daemon.kill_9()?;
    host.sh(&format!("kill -9 {vmm}"))?;
    ensure!(links()?.contains("macvtap0"), "it stays by itself");
    daemon.launch()?;
    daemon.api.await_ready(SHORT)?;
    within(SHORT, "the dead guest's macvtap goes", || Ok(!links()?.contains("macvtap0")))?;
    ensure!(links()?.contains("macvtap1"), "the other's stays");
    daemon.manor("destroy direct-b")?;
    within(SHORT, "the other goes with its guest", || Ok(!links()?.contains("macvtap")))?;
    let none = interface(
        "direct-none",
        "<interface type='direct'><source dev='nowhere9'/><model type='virtio'/></interface>",
    );
    daemon.define(&none)?;
    let refused = daemon.refused("start direct-none")?;
    ensure!(refused.contains("no network interface \"nowhere9\""), "{refused}");
    host.sh("ip link del src9")?;
    Ok(())
}

fn on_bridge(number: u8, driver: &str) -> String {
    format!(
        "<interface type='bridge'><mac address='52:54:00:aa:00:0{number}'/><source bridge='br10'/>\
         {driver}<model type='virtio'/></interface>"
    )
}

/// How many devices of vhost-net a guest's process has open.
fn vhosts(daemon: &Daemon, guest: &str) -> Result<String> {
    let vmm = processes(daemon, &format!("manor guest={guest}"))?;
    let count = format!("ls -l /proc/{vmm}/fd | grep -c vhost-net || true");
    Ok(daemon.host.sh(&count)?.trim().to_owned())
}

const MIB: usize = 4;

/// From one guest to the other; how long it took.
fn transfer(from: &mut Shell, to: &mut Shell, address: &str) -> Result<std::time::Duration> {
    to.run("rm -f /tmp/got; (nc -l -p 5001 >/tmp/got; echo >/tmp/got.end) & sleep 1")?;
    let begin = Instant::now();
    from.run(&format!("dd if=/dev/zero bs=64k count={} | nc -w 60 {address} 5001", MIB * 16))?;
    let took = begin.elapsed();
    let size = to.run(
        "until test -e /tmp/got.end; do usleep 100000; done; rm /tmp/got.end; wc -c </tmp/got",
    )?;
    ensure!(size.contains(&(MIB << 20).to_string()), "{size}");
    Ok(took)
}

#[test]
fn the_hosts_kernel_moves_packets_and_gives_the_queues_back() -> Result<()> {
    let daemon = Daemon::start("vhost")?;
    let host = &daemon.host;
    host.sh("ip link add br10 type bridge 2>/dev/null || true; ip link set br10 up
         test -c /dev/vhost-net || mknod /dev/vhost-net c 10 238")?;
    daemon.define_and_start(&interface("vhost-a", &on_bridge(1, "")))?;
    daemon.define_and_start(&interface("vhost-b", &on_bridge(2, "<driver name='qemu'/>")))?;
    ensure!(vhosts(&daemon, "vhost-a")? == "1", "the default where the host has it");
    ensure!(vhosts(&daemon, "vhost-b")? == "0", "not where it is not wanted");
    let mut a = with_address(&daemon, "vhost-a", "10.100.0.1")?;
    let mut b = with_address(&daemon, "vhost-b", "10.100.0.2")?;
    ping(&mut a, "10.100.0.2")?;
    ping(&mut b, "10.100.0.1")?;
    let out = transfer(&mut a, &mut b, "10.100.0.2")?;
    let back = transfer(&mut b, &mut a, "10.100.0.1")?;
    println!("{MIB} MiB: sent with vhost {out:?}, received {back:?}");
    let counters = daemon.manor("domifstat vhost-a 52:54:00:aa:00:01")?;
    ensure!(counters.contains("rx_bytes 4") || counters.contains("rx_bytes 5"), "{counters}");

    // The queues come back and are handed over again.
    daemon.manor("suspend vhost-a")?;
    daemon.manor("resume vhost-a")?;
    ping(&mut a, "10.100.0.2")?;
    transfer(&mut b, &mut a, "10.100.0.1")?;
    daemon.manor("domif-setlink vhost-a 52:54:00:aa:00:01 down")?;
    a.run("until test \"$(cat /sys/class/net/eth0/carrier)\" = 0; do usleep 100000; done")?;
    b.run("! ping -c 2 -W 1 10.100.0.1")?;
    daemon.manor("domif-setlink vhost-a 52:54:00:aa:00:01 up")?;
    a.run("until test \"$(cat /sys/class/net/eth0/carrier)\" = 1; do usleep 100000; done")?;
    ping(&mut b, "10.100.0.1")?;
    ping(&mut a, "10.100.0.2")?;

    // Another comes and goes while the guest runs, from within its filter of system calls.
    host.sh(&format!(
        "cat >/run/e2e/vhost-nic.xml <<'E'\n{}\nE",
        on_bridge(3, "<driver name='vhost'/>")
    ))?;
    daemon.manor("attach-device vhost-a /run/e2e/vhost-nic.xml")?;
    a.run("until test -e /sys/class/net/eth1; do usleep 100000; done")?;
    ensure!(vhosts(&daemon, "vhost-a")? == "2", "the second has one, too");
    a.run("ip addr del 10.100.0.1/24 dev eth0; ip addr add 10.100.0.1/24 dev eth1; ip link set eth1 up")?;
    ping(&mut a, "10.100.0.2")?;
    daemon.manor("detach-interface vhost-a bridge --mac 52:54:00:aa:00:03")?;
    within(LONG, "its device is closed", || Ok(vhosts(&daemon, "vhost-a")? == "1"))?;

    daemon.manor("destroy vhost-a")?;
    daemon.manor("destroy vhost-b")?;
    host.sh("mv /dev/vhost-net /dev/vhost-net.away")?;
    daemon.define(&interface("vhost-c", &on_bridge(4, "<driver name='vhost'/>")))?;
    let refused = daemon.refused("start vhost-c");
    let without = daemon.manor("start vhost-a");
    host.sh("mv /dev/vhost-net.away /dev/vhost-net")?;
    let refused = refused?;
    ensure!(
        refused.contains("/dev/vhost-net") && refused.contains("modprobe vhost_net"),
        "{refused}"
    );
    without?;
    ensure!(vhosts(&daemon, "vhost-a")? == "0", "the VMM does it where the kernel does not");
    Ok(())
}
