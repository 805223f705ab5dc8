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

/// What a guest of a bridge gets of its rate, whatever others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    pub mac: [u8; 6],
    /// Bytes each second.
    pub rate: u64,
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
/// Where guests have floors, of the class of everybody else, and of those of the first of them.
const REST: u32 = QUEUE | 2;
const FIRST_FLOOR: u32 = QUEUE | 3;
/// More are not counted.
const MOST_FLOORS: usize = 0xff00;
const ARRIVALS: u32 = 0xffff_0000;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;

/// The largest frame that a tap takes at once: segments are cut apart later.
const LONGEST: u32 = 65_536 + 64;
const ETHERNET: u8 = 1;
const RATE_TABLE: usize = 1024;

/// Have it so; what was before is taken back.
pub(super) fn shape(name: &str, traffic: &Traffic, floors: &[Floor]) -> Result<(), BrokerError> {
    let failed = |source| BrokerError::Traffic { name: name.to_owned(), source };
    let mut netlink = Netlink::route().map_err(failed)?;
    let found = bridge::find(&mut netlink, name).map_err(failed)?;
    let link = found.ok_or_else(|| BrokerError::NoInterface { name: name.to_owned() })?;
    let netlink = Netlink::route().map_err(failed)?;
    let mut line = Line { netlink, index: link.index, sequence: 0 };
    line.clear().map_err(failed)?;
    if let Some(rate) = &traffic.inbound {
        line.queue(rate, floors).map_err(failed)?;
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

    /// What goes to guests: one class of a token bucket for everything, and in it one for each that has a
    /// floor, which lend each other what they do not use.
    fn queue(&mut self, rate: &TrafficRate, floors: &[Floor]) -> io::Result<()> {
        let floors = &floors[..floors.len().min(MOST_FLOORS)];
        let default = if floors.is_empty() { CLASS } else { REST };
        // Version 3, ten packets for a turn, and where what has no class goes.
        let global = words([3, 10, default & 0xffff, 0, 0]);
        let options = Attributes::default().bytes(2, &global);
        let queue = Attributes::default().text(KIND, "htb").nested(OPTIONS, &options);
        self.ask(NEW_QDISC, CREATE, [QUEUE, ROOT, 0], &queue)?;
        self.class(CLASS, QUEUE, rate.average, rate)?;
        if floors.is_empty() {
            return Ok(());
        }
        let given = floors.iter().fold(0, |sum: u64, floor| sum.saturating_add(floor.rate));
        // Where all is given away the others live of what is lent to them.
        let left = rate.average.saturating_sub(given).max(rate.average / 100);
        self.class(REST, CLASS, left, rate)?;
        for (class, floor) in (FIRST_FLOOR..).zip(floors) {
            self.class(class, CLASS, floor.rate, rate)?;
            self.direct(floor.mac, class)?;
        }
        Ok(())
    }

    /// A class of its own rate that may go as high as `whole` does.
    fn class(&mut self, class: u32, parent: u32, own: u64, whole: &TrafficRate) -> io::Result<()> {
        let own = own.max(1);
        let peak = whole.peak.unwrap_or(whole.average).max(whole.average).max(own);
        let burst = whole.burst.unwrap_or(own / 100).max(LONGEST.into());
        let mut parameters = rate_spec(own, 0);
        parameters.extend(rate_spec(peak, 0));
        let buffers = [ticks(burst, own), ticks(LONGEST.into(), peak)];
        // The quantum is what a class sends in its turn where several borrow.
        parameters.extend(words([buffers[0], buffers[1], LONGEST, 0, 0]));
        let options = Attributes::default()
            .bytes(1, &parameters)
            .bytes(6, &own.to_ne_bytes())
            .bytes(7, &peak.to_ne_bytes());
        let described = Attributes::default().text(KIND, "htb").nested(OPTIONS, &options);
        self.ask(NEW_CLASS, CREATE, [class, parent, 0], &described)
    }

    /// What is for this MAC address goes to the class.
    fn direct(&mut self, [a, b, c, d, e, f]: [u8; 6], class: u32) -> io::Result<()> {
        // Two keys, from where the frame begins, which is before its packet.
        let key = |mask: [u8; 4], value: [u8; 4], offset: i32| {
            [&mask[..], &value, &offset.to_ne_bytes(), &[0; 4]].concat()
        };
        let mut selector = vec![1, 0, 2, 0];
        selector.extend([0; 12]);
        selector.extend(key([0xff; 4], [a, b, c, d], -14));
        selector.extend(key([0xff, 0xff, 0, 0], [e, f, 0, 0], -10));
        let options = Attributes::default().bytes(1, &class.to_ne_bytes()).bytes(5, &selector);
        self.filter(QUEUE, &options)
    }

    fn filter(&mut self, parent: u32, options: &Attributes) -> io::Result<()> {
        let filter = Attributes::default().text(KIND, "u32").nested(OPTIONS, options);
        let all_protocols = u32::from(0x0003_u16.to_be());
        self.ask(NEW_FILTER, CREATE, [0, parent, 1 << 16 | all_protocols], &filter)
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
        self.filter(ARRIVALS, &options)
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
#[path = "traffic_tests.rs"]
mod tests;
