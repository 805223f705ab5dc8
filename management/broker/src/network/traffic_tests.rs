//! Rates as they are measured, and as tc(8) sees them.

#![allow(clippy::print_stdout, reason = "skips are told to who runs the tests")]

use super::super::tests::{Lab, ip, within};
use super::super::{Forwarding, RuleSet, rules};
use super::*;

#[test]
fn a_burst_is_the_time_that_it_takes() {
    assert_eq!(ticks(1000, 1000), 1_000_000_000 / 64);
    assert_eq!(ticks(u64::MAX, 1), u32::MAX);
    assert_eq!(ticks(1, 0), 1_000_000_000 / 64, "no rate is 0");
}

fn tc(arguments: &str) -> String {
    let output = std::process::Command::new("tc").args(arguments.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tc_sees_what_was_asked_for_and_nothing_when_it_is_taken_back() {
    let Some(lab) = Lab::new() else { return };
    if std::process::Command::new("tc").arg("-V").output().is_err() {
        println!("SKIP: there is no tc to ask (iproute2)");
        return;
    }
    within(&lab.host, || {
        let rate = TrafficRate { average: 1_000_000, peak: Some(2_000_000), burst: None };
        let inbound = Traffic { inbound: Some(rate), outbound: None };
        for _ in 0..2 {
            shape("out", &inbound, &[]).unwrap();
        }
        let class = tc("class show dev out");
        assert!(class.contains("rate 8Mbit ceil 16Mbit"), "{class}");
        assert!(tc("qdisc show dev out").contains("htb 1: root"), "it is the root");
        match shape("out", &Traffic { inbound: None, outbound: Some(rate) }, &[]) {
            Ok(()) => {
                let filter = tc("filter show dev out parent ffff:");
                assert!(filter.contains("rate 8Mbit"), "{filter}");
                assert!(!tc("qdisc show dev out").contains("htb"), "that was taken back");
            }
            Err(BrokerError::Traffic { source, .. }) => {
                println!("SKIP: the kernel drops nothing by rate (act_police): {source}");
            }
            Err(other) => panic!("{other}"),
        }
        shape("out", &Traffic::default(), &[]).unwrap();
        let left = tc("qdisc show dev out");
        assert!(!left.contains("htb") && !left.contains("ingress"), "{left}");
        let absent = shape("none", &inbound, &[]).unwrap_err();
        assert!(matches!(absent, BrokerError::NoInterface { .. }), "{absent}");
    });
}

/// Seconds that so much takes from one end of a connection to the other.
fn seconds(from: &str, to: &str, bytes: usize) -> f64 {
    use std::io::{Read as _, Write as _};
    let listener = within(to, || std::net::TcpListener::bind("0.0.0.0:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let host = if to.contains("host") {
        "192.168.77.1"
    } else if to.contains("other") {
        "192.168.77.11"
    } else {
        "192.168.77.10"
    };
    let mut stream = within(from, || std::net::TcpStream::connect((host, port)).unwrap());
    let (mut other, _) = listener.accept().unwrap();
    let begin = std::time::Instant::now();
    let sender = std::thread::spawn(move || stream.write_all(&vec![7; bytes]).unwrap());
    let mut received = Vec::new();
    other.read_to_end(&mut received).unwrap();
    sender.join().unwrap();
    assert_eq!(received.len(), bytes);
    begin.elapsed().as_secs_f64()
}

#[test]
fn guests_of_a_bridge_share_its_rate_until_it_is_taken_back() {
    const MEGABYTES: usize = 3_000_000;
    let Some(lab) = Lab::new() else { return };
    within(&lab.host, || bridge::make(&super::super::tests::spec()).unwrap());
    lab.connect();
    let rate = TrafficRate { average: 1_000_000, peak: None, burst: Some(65_536) };
    let shape_bridge = |traffic: Traffic| within(&lab.host, || shape("virbr7", &traffic, &[]));
    let free = seconds(&lab.host, &lab.guest, MEGABYTES);
    assert!(free < 1.5, "{free} s without a limit");
    shape_bridge(Traffic { inbound: Some(rate), outbound: None }).unwrap();
    let limited = seconds(&lab.host, &lab.guest, MEGABYTES);
    assert!((2.0..9.0).contains(&limited), "3 MB at 1 MB/s to the guest took {limited} s");
    let back = seconds(&lab.guest, &lab.host, MEGABYTES);
    assert!(back < 1.5, "the other way is free, and took {back} s");
    match shape_bridge(Traffic { inbound: None, outbound: Some(rate) }) {
        Ok(()) => {
            let limited = seconds(&lab.guest, &lab.host, MEGABYTES);
            assert!(limited > 2.0, "3 MB at 1 MB/s from the guest took {limited} s");
        }
        Err(BrokerError::Traffic { source, .. }) => {
            println!("SKIP: the kernel drops nothing by rate (act_police): {source}");
        }
        Err(other) => panic!("{other}"),
    }
    shape_bridge(Traffic::default()).unwrap();
    let free = seconds(&lab.host, &lab.guest, MEGABYTES);
    assert!(free < 1.5, "{free} s when it was taken back");
}

/// A second guest beside that of the lab.
struct Other(String);

impl Other {
    fn new(lab: &Lab) -> Self {
        let (host, other) = (&lab.host, lab.host.replace("host", "other"));
        ip(&format!("netns add {other}"));
        ip(&format!("-n {host} link add tap9 type veth peer name eth0 netns {other}"));
        ip(&format!("-n {host} link set tap9 master virbr7 up"));
        ip(&format!("-n {other} address add 192.168.77.11/24 dev eth0"));
        ip(&format!("-n {other} link set eth0 up"));
        Self(other)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

#[test]
fn a_guest_with_a_floor_gets_it_however_much_another_is_sent() {
    let Some(lab) = Lab::new() else { return };
    within(&lab.host, || bridge::make(&super::super::tests::spec()).unwrap());
    lab.connect();
    let mac = [0x52, 0x54, 0, 0x77, 0, 0x0a];
    ip(&format!("-n {} link set eth0 address 52:54:00:77:00:0a", lab.guest));
    let other = Other::new(&lab);
    let rate = TrafficRate { average: 2_000_000, peak: None, burst: Some(65_536) };
    let traffic = Traffic { inbound: Some(rate), outbound: None };
    let floor = Floor { mac, rate: 1_800_000 };
    let measure = |floors: &[Floor]| {
        within(&lab.host, || shape("virbr7", &traffic, floors).unwrap());
        std::thread::scope(|scope| {
            // What it is sent meanwhile takes longer alone.
            let much = scope.spawn(|| seconds(&lab.host, &other.0, 6_000_000));
            std::thread::sleep(std::time::Duration::from_millis(300));
            let took = seconds(&lab.host, &lab.guest, 2_000_000);
            (took, much.join().unwrap())
        })
    };
    let (with, all) = measure(&[floor]);
    assert!(with < 1.7, "2 MB with 1.8 MB/s of 2 took {with} s");
    assert!((3.3..8.0).contains(&all), "8 MB at 2 MB/s for both took {all} s: the rest is lent");
    let (without, _) = measure(&[]);
    assert!(without > with, "{without} s without a floor, {with} s with one");
}

/// Mbit/s that iperf3 of a guest measures with a server in the world, through the host's NAT: to the
/// server, or from it.
fn through_nat(lab: &Lab, iperf3: &manor_tests::tree::Program, from_server: bool) -> f64 {
    use std::process::Stdio;
    let server = ["-s", "-1", "-B", "203.0.113.2", "--idle-timeout", "30"];
    let mut server = within(&lab.world, || {
        iperf3.command().args(server).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    });
    let mut client = vec!["-c", "203.0.113.2", "-t", "4", "-f", "k"];
    client.extend(from_server.then_some("-R"));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let report = loop {
        let output = within(&lab.guest, || iperf3.command().args(&client).output().unwrap());
        if output.status.success() {
            break String::from_utf8(output.stdout).unwrap();
        }
        // The server is not there yet.
        assert!(std::time::Instant::now() < end, "{output:?}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    server.wait().unwrap();
    // [  5]   0.00-4.00   sec  4.75 MBytes  9961 Kbits/sec                  receiver
    let line = report.lines().rfind(|line| line.ends_with("receiver")).expect(&report);
    let words: Vec<_> = line.split_whitespace().collect();
    let unit = words.iter().position(|word| *word == "Kbits/sec").expect(line);
    words[unit - 1].parse::<f64>().unwrap() / 1000.0
}

#[test]
fn iperf3_measures_the_limit_of_a_nat_network_and_much_more_without_one() {
    const LIMIT: f64 = 40.0;
    let Some(lab) = Lab::new() else { return };
    let iperf3 = match manor_tests::tools::iperf3() {
        Ok(iperf3) => iperf3,
        Err(error) => return println!("SKIP: there is no iperf3: {error:#}"),
    };
    let nat = Forwarding::Nat { ipv6: false, addresses: None, ports: None };
    within(&lab.host, || {
        bridge::make(&super::super::tests::spec()).unwrap();
        let networks = vec![super::super::tests::rules(nat)];
        rules::apply(&RuleSet { networks, ..RuleSet::default() }).unwrap();
    });
    lab.connect();
    let limit = |traffic: Traffic| within(&lab.host, || shape("virbr7", &traffic, &[]));
    for from_server in [false, true] {
        let free = through_nat(&lab, &iperf3, from_server);
        assert!(free > LIMIT * 1.5, "{free} Mbit/s without a limit");
    }
    let average = 5_000_000;
    let rate = Some(TrafficRate { average, peak: None, burst: Some(65_536) });
    limit(Traffic { inbound: rate, outbound: None }).unwrap();
    let inbound = through_nat(&lab, &iperf3, true);
    assert!(inbound < LIMIT * 1.2, "{inbound} Mbit/s to a guest that may have {LIMIT}");
    assert!(inbound > LIMIT * 0.5, "{inbound} Mbit/s to a guest that may have {LIMIT}");
    let free = through_nat(&lab, &iperf3, false);
    assert!(free > LIMIT * 1.5, "{free} Mbit/s the other way");
    match limit(Traffic { inbound: None, outbound: rate }) {
        Ok(()) => {
            let outbound = through_nat(&lab, &iperf3, false);
            assert!(outbound < LIMIT * 1.2, "{outbound} Mbit/s from a guest that may have {LIMIT}");
            let free = through_nat(&lab, &iperf3, true);
            assert!(free > LIMIT * 1.5, "{free} Mbit/s the other way");
        }
        Err(BrokerError::Traffic { source, .. }) => {
            println!("SKIP: the kernel drops nothing by rate (act_police): {source}");
        }
        Err(other) => panic!("{other}"),
    }
}
