//! A guest with a filter of somebody's own, by a kernel that knows connections on bridges.

use anyhow::{Result, ensure};

use crate::rig::{Daemon, Xml};

const NETWORK: &str = "<network><name>walled</name><forward mode='nat'/>
  <bridge name='virbr78' stp='off'/>
  <ip address='192.168.78.1' netmask='255.255.255.0'/></network>";

const GUEST: &str = "192.168.78.20";

/// One port is open, and what the guest asks for itself is answered.
fn filter(port: u16) -> String {
    format!(
        "<filter name='walled'>
  <filterref filter='no-mac-spoofing'/>
  <rule action='accept' direction='in'><tcp dstportstart='{port}'/></rule>
  <rule action='accept' direction='out' priority='600'><all/></rule>
  <rule action='reject' direction='inout' priority='1000'><all/></rule>
</filter>"
    )
}

#[test]
fn a_guest_is_asked_what_its_filter_lets_in_and_asks_itself_what_it_likes() -> Result<()> {
    let daemon = Daemon::start("filters")?;
    let host = &daemon.host;
    host.sh("ip link del virbr78 2>/dev/null || true")?;
    let define = |kind: &str, text: &str| {
        host.sh(&format!("cat >/run/e2e/walled.xml <<'E'\n{text}\nE"))?;
        daemon.manor(&format!("{kind}-define /run/e2e/walled.xml"))
    };
    define("net", NETWORK)?;
    daemon.manor("net-start walled")?;
    define("nwfilter", &filter(80))?;
    let mut xml = Xml::new("walled", "manor.end=shell");
    xml.devices = "<interface type='network'><mac address='52:54:00:78:00:0a'/>\
                   <source network='walled'/><model type='virtio'/>\
                   <filterref filter='walled'/></interface>"
        .into();
    daemon.define_and_start(&xml)?;
    let mut guest = daemon.shell("walled")?;
    guest.run(&format!(
        "ip link set eth0 up; ip addr add {GUEST}/24 dev eth0; ip route add default via 192.168.78.1
         mkdir -p /www; echo from the guest >/www/index.html
         busybox httpd -p 80 -h /www; busybox httpd -p 81 -h /www"
    ))?;
    let fetch = |to: &str| {
        format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 10 nc -w 5 {to} 2>&1 || true")
    };
    let asked = |port: u16| host.sh(&fetch(&format!("{GUEST} {port}")));
    ensure!(asked(80)?.contains("from the guest"), "what its filter lets in");
    ensure!(!asked(81)?.contains("from the guest"), "what it does not");
    ensure!(host.sh(&format!("ping -c 2 -W 2 {GUEST} || true"))?.contains(" 0 packets received"));

    // What the guest begins is answered.
    host.sh("mkdir -p /run/e2e/www; echo from the host >/run/e2e/www/index.html
         busybox httpd -p 192.168.78.1:8878 -h /run/e2e/www")?;
    ensure!(guest.run(&fetch("192.168.78.1 8878"))?.contains("from the host"));
    ensure!(guest.run("ping -c 2 -W 5 192.168.78.1")?.contains("2 packets received"));

    // Another filter of the same name, while the guest runs.
    define("nwfilter", &filter(81))?;
    ensure!(asked(81)?.contains("from the guest"), "by its new rules");
    ensure!(!asked(80)?.contains("from the guest"), "and not by those before");
    let used = daemon.refused("nwfilter-undefine walled")?;
    ensure!(used.contains("nwfilter is in use"), "{used}");
    daemon.kill_9()?;
    ensure!(!asked(80)?.contains("from the guest"), "without a daemon");
    daemon.launch()?;
    daemon.api.await_ready(crate::rig::SHORT)?;
    ensure!(asked(81)?.contains("from the guest"), "with the next one");

    host.sh("kill $(pgrep -f 192.168.78.1:8878) 2>/dev/null || true")?;
    daemon.manor("destroy walled")?;
    daemon.manor("undefine walled")?;
    daemon.manor("nwfilter-undefine walled")?;
    daemon.manor("net-destroy walled")?;
    daemon.manor("net-undefine walled")?;
    Ok(())
}
