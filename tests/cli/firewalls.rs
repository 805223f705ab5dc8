//! A network on a host that has the rules of another program: what those drop is told with what helps,
//! and what is done to our own is undone.

use std::process::Stdio;

use super::lab::Host;
use super::rig::wait_for;

/// As Docker leaves it, for the packets that come through.
const DOCKER: &str = "table ip filter {
    chain DOCKER-USER {
    }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        jump DOCKER-USER
        oifname \"docker0\" ct state related,established accept
        iifname \"docker0\" accept
    }
}
";

/// As firewalld does: nothing by policy, everything by the last rule.
const FIREWALLD: &str = "table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state established,related accept
        iifname \"lo\" accept
        jump filter_FORWARD_POLICIES
        ct state invalid drop
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD_POLICIES {
        iifname \"eth0\" oifname \"eth1\" accept
    }
}
";

#[test]
fn what_another_firewall_drops_is_told_with_what_helps_and_a_flushed_ruleset_is_repaired() {
    let Some(host) = Host::new() else { return };
    let served = ["httpd", "-p", "203.0.113.2:80", "-h", "world"];
    assert!(host.within(2, &host.busybox, &served).status().unwrap().success());
    host.manor("net-define lab.xml");
    host.manor("net-start lab");
    host.connect();
    wait_for("the lease to be shown", || host.manor("net-dhcp-leases lab").contains("10.77.0.1"));
    assert_eq!(host.problems(), "");
    assert!(host.reaches_the_world(), "by NAT");

    host.nft(&[DOCKER]);
    wait_for("Docker's policy to be told of", || host.problems().contains("table ip filter"));
    let problem = host.problems();
    for part in [
        "chain FORWARD (hook forward, priority 0) drops by its policy",
        "iptables -I DOCKER-USER -i virbr7 -j ACCEPT",
        "iptables -I DOCKER-USER -o virbr7 -j ACCEPT",
    ] {
        assert!(problem.contains(part), "no {part} in {problem}");
    }
    assert!(!host.reaches_the_world(), "that is what it says");
    let metrics = host.metrics();
    assert!(metrics.contains("manor_network_problems{network=\"lab\"} 1"), "{metrics}");
    assert!(host.rig.daemon_log().contains("DOCKER-USER"), "{}", host.rig.daemon_log());
    // What was said, as iptables would do it.
    host.nft(&["add", "rule", "ip", "filter", "DOCKER-USER", "iifname", "virbr7", "accept"]);
    host.nft(&["add", "rule", "ip", "filter", "DOCKER-USER", "oifname", "virbr7", "accept"]);
    wait_for("nothing to be told", || host.problems().is_empty());
    assert!(host.reaches_the_world());

    host.nft(&[FIREWALLD]);
    wait_for("firewalld's rule to be told of", || host.problems().contains("inet firewalld"));
    let problem = host.problems();
    assert!(problem.contains("by a rule for everything"), "{problem}");
    assert!(problem.contains("firewall-cmd --permanent --zone=trusted --add-interface=virbr7"));
    assert!(!host.reaches_the_world());

    // Somebody clears everything, ours too.
    let mut events = host.rig.command(super::rig::MANOR.as_ref());
    events.args(["event", "--event", "rules-restored", "--timeout", "30"]);
    let mut events = events.stdout(Stdio::piped()).spawn().unwrap();
    let begin = std::time::Instant::now();
    let mut flushed = 0;
    // It hears what comes after it has begun to listen.
    while events.try_wait().unwrap().is_none() && flushed < 20 {
        host.nft(&["flush", "ruleset"]);
        flushed += 1;
        wait_for("our rules to be there again", || {
            host.nft(&["list", "ruleset"]).contains("table inet manor")
        });
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    let told = events.wait_with_output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("rules-restored"), "{told:?} after {flushed} flushes");
    assert!(begin.elapsed() < super::rig::PATIENCE);
    wait_for("nothing to be told", || host.problems().is_empty());
    assert!(host.reaches_the_world(), "with the rules that are there again");
}
