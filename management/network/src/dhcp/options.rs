//! [`Options`]: the variable part of a message (RFC 2132), read and written in whole.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Numbers of options (RFC 2132, but where said).
pub(crate) mod code {
    pub(crate) const PAD: u8 = 0;
    pub(crate) const MASK: u8 = 1;
    pub(crate) const ROUTER: u8 = 3;
    pub(crate) const DNS: u8 = 6;
    pub(crate) const HOSTNAME: u8 = 12;
    pub(crate) const DOMAIN: u8 = 15;
    pub(crate) const MTU: u8 = 26;
    pub(crate) const BROADCAST: u8 = 28;
    pub(crate) const NTP: u8 = 42;
    pub(crate) const REQUESTED: u8 = 50;
    pub(crate) const LEASE_TIME: u8 = 51;
    pub(crate) const OVERLOAD: u8 = 52;
    pub(crate) const TYPE: u8 = 53;
    pub(crate) const SERVER: u8 = 54;
    pub(crate) const PARAMETERS: u8 = 55;
    pub(crate) const MESSAGE: u8 = 56;
    pub(crate) const MAX_SIZE: u8 = 57;
    pub(crate) const T1: u8 = 58;
    pub(crate) const T2: u8 = 59;
    pub(crate) const CLIENT_ID: u8 = 61;
    pub(crate) const BOOT_SERVER: u8 = 66;
    pub(crate) const BOOT_FILE: u8 = 67;
    /// RFC 4702.
    pub(crate) const FQDN: u8 = 81;
    pub(crate) const END: u8 = 255;

    /// What the server fills in itself, or what only clients send.
    pub(crate) const OURS: [u8; 24] = [
        PAD,
        MASK,
        ROUTER,
        DNS,
        HOSTNAME,
        DOMAIN,
        MTU,
        BROADCAST,
        NTP,
        REQUESTED,
        LEASE_TIME,
        OVERLOAD,
        TYPE,
        SERVER,
        PARAMETERS,
        MESSAGE,
        MAX_SIZE,
        T1,
        T2,
        CLIENT_ID,
        BOOT_SERVER,
        BOOT_FILE,
        FQDN,
        END,
    ];
}

/// By number. An option that comes in several parts is one (RFC 3396).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// Read one field of options; what is cut off at its end is left out.
    pub(super) fn read(&mut self, mut field: &[u8]) {
        while let Some((number, rest)) = field.split_first() {
            match *number {
                code::PAD => field = rest,
                code::END => return,
                number => {
                    let Some((length, rest)) = rest.split_first() else { return };
                    let Some((value, rest)) = rest.split_at_checked((*length).into()) else {
                        return;
                    };
                    self.0.entry(number).or_default().extend(value);
                    field = rest;
                }
            }
        }
    }

    pub(super) fn get(&self, number: u8) -> Option<&[u8]> {
        self.0.get(&number).map(Vec::as_slice)
    }

    pub(super) fn array<const N: usize>(&self, number: u8) -> Option<[u8; N]> {
        self.get(number)?.try_into().ok()
    }

    pub(super) fn address(&self, number: u8) -> Option<Ipv4Addr> {
        self.array::<4>(number).map(Ipv4Addr::from)
    }
}

/// Options being written, up to a size that the client can take.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    room: usize,
}

impl Writer {
    /// `room` counts the end mark.
    pub(super) fn new(room: usize) -> Self {
        Self { bytes: Vec::new(), room: room.saturating_sub(1) }
    }

    /// Add an option, in parts if it is long; whether there was room for it.
    pub(super) fn put(&mut self, number: u8, value: &[u8]) -> bool {
        let parts = value.len().div_ceil(255).max(1);
        if self.bytes.len() + value.len() + 2 * parts > self.room {
            return false;
        }
        for part in value.chunks(255) {
            let Ok(length) = u8::try_from(part.len()) else { return false };
            self.bytes.extend([number, length]);
            self.bytes.extend(part);
        }
        if value.is_empty() {
            self.bytes.extend([number, 0]);
        }
        true
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(code::END);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_options_are_split_and_joined() {
        let long: Vec<u8> = (0..600u16).map(|byte| byte.to_le_bytes()[0]).collect();
        let mut writer = Writer::new(1000);
        assert!(writer.put(code::TYPE, &[5]));
        assert!(writer.put(200, &long));
        assert!(!writer.put(201, &[0; 400]), "no room");
        let bytes = writer.finish();
        let mut options = Options::default();
        options.read(&bytes);
        assert_eq!(options.get(200), Some(long.as_slice()));
        assert_eq!(options.get(201), None);
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let mut options = Options::default();
        options.read(&[53, 1, 1, 0, 0, 50, 4, 10, 0]);
        assert_eq!(options.get(code::TYPE), Some([1].as_slice()));
        assert_eq!(options.address(code::REQUESTED), None);
        options.read(&[12]);
        options.read(&[255, 12, 1, b'a']);
        assert_eq!(options.get(code::HOSTNAME), None, "nothing comes after the end");
    }
}
