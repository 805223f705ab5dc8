//! Rates as they are measured, and as tc(8) sees them.

#![allow(clippy::print_stdout, reason = "skips are told to who runs the tests")]

use super::super::tests::{Lab, ip, within};
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
