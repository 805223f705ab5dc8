//! How much passes an interface of the host whose other end is a guest (tc-htb(8), tc-police(8)): what
//! goes to the guest is queued and sent at its rate, what comes from it too fast is dropped.

use std::io;

use serde::{Deserialize, Serialize};

use super::bridge;
use super::netlink::Netlink;
use super::nft::attributes::Attributes;
use crate::BrokerError;

/// In both directions; none: as much as comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// To the guest.
    pub inbound: Option<TrafficRate>,
    pub outbound: Option<TrafficRate>,
}

/// Bytes each second, and bytes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficRate {
    pub average: u64,
    /// At which a burst goes; none: the average. Of what comes from a guest, bursts go at any rate.
    pub peak: Option<u64>,
    pub burst: Option<u64>,
}

const NEW_QDISC: u16 = 36;
const DELETE_QDISC: u16 = 37;
const NEW_CLASS: u16 = 40;
const NEW_FILTER: u16 = 44;

const REQUEST_ACK: u16 = 0x01 | 0x04;
const CREATE: u16 = 0x400;

const ROOT: u32 = 0xffff_ffff;
const INGRESS: u32 = 0xffff_fff1;
/// Of our queue, and of the class in it that everything goes to.
const QUEUE: u32 = 1 << 16;
const CLASS: u32 = QUEUE | 1;
const ARRIVALS: u32 = 0xffff_0000;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;

/// The largest frame that a tap takes at once: segments are cut apart later.
const LONGEST: u32 = 65_536 + 64;
const ETHERNET: u8 = 1;
const RATE_TABLE: usize = 1024;

/// Have it so; what was before is taken back.
pub(super) fn shape(name: &str, traffic: &Traffic) -> Result<(), BrokerError> {
    let failed = |source| BrokerError::Traffic { name: name.to_owned(), source };
    let mut netlink = Netlink::route().map_err(failed)?;
    let found = bridge::find(&mut netlink, name).map_err(failed)?;
    let link = found.ok_or_else(|| BrokerError::NoInterface { name: name.to_owned() })?;
    let netlink = Netlink::route().map_err(failed)?;
    let mut line = Line { netlink, index: link.index, sequence: 0 };
    line.clear().map_err(failed)?;
    if let Some(rate) = &traffic.inbound {
        line.queue(rate).map_err(failed)?;
    }
    if let Some(rate) = &traffic.outbound {
        line.police(rate).map_err(failed)?;
    }
    Ok(())
}

struct Line {
    netlink: Netlink,
    index: u32,
    sequence: u32,
}

impl Line {
    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        [handle, parent, info]: [u32; 3],
        attributes: &Attributes,
    ) -> io::Result<()> {
        self.sequence += 1;
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(REQUEST_ACK | flags).to_ne_bytes());
        bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        // The kernel's answer goes where the question came from.
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.index.to_ne_bytes());
        for number in [handle, parent, info] {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        bytes.extend_from_slice(attributes.as_slice());
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.netlink.send_bytes(&bytes)?;
        match self.netlink.verdict(self.sequence)? {
            None => Ok(()),
            Some((_, error)) => Err(error),
        }
    }

    /// None there is no error.
    fn clear(&mut self) -> io::Result<()> {
        for parent in [ROOT, INGRESS] {
            match self.ask(DELETE_QDISC, 0, [0, parent, 0], &Attributes::default()) {
                Err(error)
                    if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) =>
                {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What goes to the guest: one class of a token bucket, for everything.
    fn queue(&mut self, rate: &TrafficRate) -> io::Result<()> {
        // Version 3, ten packets for a turn, what has no class to the first.
        let global = words([3, 10, 1, 0, 0]);
        let options = Attributes::default().bytes(2, &global);
        let queue = Attributes::default().text(KIND, "htb").nested(OPTIONS, &options);
        self.ask(NEW_QDISC, CREATE, [QUEUE, ROOT, 0], &queue)?;
        let peak = rate.peak.unwrap_or(rate.average).max(rate.average);
        let burst = rate.burst.unwrap_or(rate.average / 100).max(LONGEST.into());
        let mut parameters = rate_spec(rate.average, 0);
        parameters.extend(rate_spec(peak, 0));
        let buffers = [ticks(burst, rate.average), ticks(LONGEST.into(), peak)];
        // The quantum is for classes that share.
        parameters.extend(words([buffers[0], buffers[1], LONGEST, 0, 0]));
        let options = Attributes::default()
            .bytes(1, &parameters)
            .bytes(6, &rate.average.to_ne_bytes())
            .bytes(7, &peak.to_ne_bytes());
        let class = Attributes::default().text(KIND, "htb").nested(OPTIONS, &options);
        self.ask(NEW_CLASS, CREATE, [CLASS, QUEUE, 0], &class)
    }

    /// What comes from it.
    fn police(&mut self, rate: &TrafficRate) -> io::Result<()> {
        let arrivals = Attributes::default().text(KIND, "ingress");
        self.ask(NEW_QDISC, CREATE, [ARRIVALS, INGRESS, 0], &arrivals)?;
        // As tc does for libvirt: without a burst, a second's worth.
        let burst = rate.burst.unwrap_or(rate.average).max(LONGEST.into());
        const SHOT: u32 = 2;
        let mut bucket = words([0, SHOT, 0, ticks(burst, rate.average), LONGEST]);
        // The kernel wants a table, and has not looked into it since it counts by itself.
        bucket.extend(rate_spec(rate.average, 3));
        bucket.extend(rate_spec(0, 0));
        bucket.extend(words([0, 0, 0]));
        let police = Attributes::default()
            .bytes(1, &bucket)
            .bytes(2, &[0; RATE_TABLE])
            .bytes(8, &rate.average.to_ne_bytes());
        // Everything: one key that looks at nothing. The first byte says that this ends the search.
        let mut selector = vec![1, 0, 1, 0];
        selector.extend([0; 12]);
        selector.extend([0; 16]);
        let options = Attributes::default()
            .bytes(1, &1_u32.to_ne_bytes())
            .bytes(5, &selector)
            .nested(6, &police);
        let filter = Attributes::default().text(KIND, "u32").nested(OPTIONS, &options);
        let all_protocols = u32::from(0x0003_u16.to_be());
        self.ask(NEW_FILTER, CREATE, [0, ARRIVALS, 1 << 16 | all_protocols], &filter)
    }
}

fn words<const N: usize>(numbers: [u32; N]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

/// `struct tc_ratespec`; what does not fit stands beside it in 64 bits.
fn rate_spec(rate: u64, cell_log: u8) -> Vec<u8> {
    let mut bytes = vec![cell_log, ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend(u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    bytes
}

/// How long so many bytes take, in the kernel's ticks of 64 ns.
fn ticks(bytes: u64, rate: u64) -> u32 {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    u32::try_from(nanoseconds >> 6).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Lab, within};
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
                shape("out", &inbound).unwrap();
            }
            let class = tc("class show dev out");
            assert!(class.contains("rate 8Mbit ceil 16Mbit"), "{class}");
            assert!(tc("qdisc show dev out").contains("htb 1: root"), "it is the root");
            match shape("out", &Traffic { inbound: None, outbound: Some(rate) }) {
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
            shape("out", &Traffic::default()).unwrap();
            let left = tc("qdisc show dev out");
            assert!(!left.contains("htb") && !left.contains("ingress"), "{left}");
            let absent = shape("none", &inbound).unwrap_err();
            assert!(matches!(absent, BrokerError::NoInterface { .. }), "{absent}");
        });
    }

    /// Seconds that so much takes from one end of a connection to the other.
    fn seconds(from: &str, to: &str, bytes: usize) -> f64 {
        use std::io::{Read as _, Write as _};
        let listener = within(to, || std::net::TcpListener::bind("0.0.0.0:0").unwrap());
        let port = listener.local_addr().unwrap().port();
        let host = if to.contains("host") { "192.168.77.1" } else { "192.168.77.10" };
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
        let shape_bridge = |traffic: Traffic| within(&lab.host, || shape("virbr7", &traffic));
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
}
