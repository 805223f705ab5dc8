//! `<ip>`: the host's address in a network, and the addresses that its guests are given.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::dns;
use crate::cursor::Cursor;
use crate::diagnostic::Kind;
use crate::element::element;
use crate::mac::MacAddress;
use crate::value::{YesNo, names};

names! {
    pub enum Family { Ipv4 = "ipv4", Ipv6 = "ipv6" }
    pub enum LeaseUnit { Seconds = "seconds", Minutes = "minutes", Hours = "hours" }
}

element! {
    pub struct Ip {
        attr family: Option<Family>,
        attr address: IpAddr,
        attr netmask: Option<Ipv4Addr>,
        attr prefix: Option<u32>,
        /// Names of its addresses are asked of nobody else.
        attr("localPtr") local_ptr: Option<YesNo>,
        child dhcp: Option<Dhcp>,
    }
    refuse ["tftp"];
    check Ip::check;
}

element! {
    #[derive(Default)]
    pub struct Dhcp {
        child("range") ranges: Vec<DhcpRange>,
        child("host") hosts: Vec<DhcpHost>,
        child bootp: Option<Bootp>,
    }
}

element! {
    #[derive(Copy)]
    pub struct DhcpRange {
        attr start: IpAddr,
        attr end: IpAddr,
        child lease: Option<Lease>,
    }
}

element! {
    /// One guest's address.
    pub struct DhcpHost {
        attr id: Option<String>,
        attr mac: Option<MacAddress>,
        attr name: Option<String>,
        attr("ip") address: Option<IpAddr>,
        child lease: Option<Lease>,
    }
    check DhcpHost::check;
}

element! {
    /// How long an address is given for; 0: for ever.
    #[derive(Copy)]
    pub struct Lease {
        attr expiry: u32,
        attr unit: Option<LeaseUnit>,
    }
    check Lease::check;
}

element! {
    pub struct Bootp {
        attr file: PathBuf,
        attr server: Option<IpAddr>,
    }
}

element! {
    /// A subnet that is reached through a guest.
    pub struct Route {
        attr family: Option<Family>,
        attr address: IpAddr,
        attr netmask: Option<Ipv4Addr>,
        attr prefix: Option<u32>,
        attr gateway: IpAddr,
        attr metric: Option<u32>,
    }
    check Route::check;
}

/// An address and how many of its bits are the subnet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    pub address: IpAddr,
    pub prefix: u8,
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Left-aligned, so that both families compare alike.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Subnet {
    fn mask(prefix: u8) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let same = (bits(self.address) ^ bits(address)) & Self::mask(self.prefix) == 0;
        same && self.address.is_ipv4() == address.is_ipv4()
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        if self.prefix <= other.prefix {
            self.contains(other.address)
        } else {
            other.contains(self.address)
        }
    }

    /// Nobody's: the subnet itself, or everyone in it.
    fn is_reserved(&self, address: IpAddr) -> bool {
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        let all = Self::mask(width) & !Self::mask(self.prefix);
        let host = bits(address) & all;
        match self.address {
            IpAddr::V4(_) => self.prefix < 31 && (host == 0 || host == all),
            // Any router of the subnet (RFC 4291 §2.6.1).
            IpAddr::V6(_) => self.prefix < 127 && host == 0,
        }
    }
}

/// Whether family, mask and length say the same of an address.
fn subnet_of(
    address: IpAddr,
    netmask: Option<Ipv4Addr>,
    prefix: Option<u32>,
) -> Result<Subnet, (&'static str, String)> {
    let longest: u32 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match (netmask, prefix) {
        (Some(_), Some(_)) => {
            return Err(("netmask", "netmask and prefix exclude each other".into()));
        }
        (Some(_), None) if address.is_ipv6() => {
            return Err(("netmask", "IPv6 has no netmasks; write prefix='64'".into()));
        }
        (Some(mask), None) => {
            let ones = mask.to_bits().leading_ones();
            if mask.to_bits().count_ones() != ones {
                return Err(("netmask", format!("{mask} has bits behind a gap")));
            }
            ones
        }
        (None, Some(prefix)) => prefix,
        // By the classes of old, as libvirt has it.
        (None, None) => match address {
            IpAddr::V4(address) => match address.octets()[0] {
                ..128 => 8,
                128..192 => 16,
                _ => 24,
            },
            IpAddr::V6(_) => 64,
        },
    };
    match u8::try_from(prefix) {
        Ok(short) if prefix <= longest => Ok(Subnet { address, prefix: short }),
        _ => Err(("prefix", format!("{prefix} bits are more than the {longest} of an address"))),
    }
}

fn check_family(family: Option<Family>, address: IpAddr, at: Cursor<'_>) {
    let other = match family {
        Some(Family::Ipv6) => address.is_ipv4(),
        Some(Family::Ipv4) => address.is_ipv6(),
        // As libvirt has it; an address alone says enough.
        None => false,
    };
    if other {
        at.attribute_error("family", Kind::Invalid, format!("{address} is of the other family"));
    }
}

impl Ip {
    /// None of a definition that was refused.
    pub fn subnet(&self) -> Option<Subnet> {
        subnet_of(self.address, self.netmask, self.prefix).ok()
    }

    fn check(&self, at: Cursor<'_>) {
        check_family(self.family, self.address, at);
        let subnet = match subnet_of(self.address, self.netmask, self.prefix) {
            Ok(subnet) => subnet,
            Err((attribute, message)) => {
                return at.attribute_error(attribute, Kind::Invalid, message);
            }
        };
        if subnet.is_reserved(self.address)
            || self.address.is_unspecified()
            || self.address.is_multicast()
        {
            let message = format!("{subnet} cannot be the address of a host");
            at.attribute_error("address", Kind::Invalid, message);
        }
        let (Some(dhcp), Some(at)) = (&self.dhcp, at.child("dhcp")) else { return };
        if let (IpAddr::V6(_), Some(at)) = (self.address, at.child("bootp")) {
            let message = "guests load nothing by DHCPv6 here; put <bootp> into an <ip> of IPv4";
            at.error(Kind::Unsupported, message.to_owned());
        }
        dhcp.check(&subnet, at);
    }
}

/// More would not be kept track of.
const RANGE: u128 = 65536;

impl Dhcp {
    fn check(&self, subnet: &Subnet, at: Cursor<'_>) {
        for (range, at) in self.ranges.iter().zip(at.children("range")) {
            for (name, address) in [("start", range.start), ("end", range.end)] {
                if !subnet.contains(address) {
                    let message = format!("{address} is not in the subnet {subnet}");
                    at.attribute_error(name, Kind::Invalid, message);
                } else if subnet.is_reserved(address) {
                    let message = format!("{address} is no host's address in {subnet}");
                    at.attribute_error(name, Kind::Invalid, message);
                }
            }
            if range.end < range.start {
                at.attribute_error(
                    "end",
                    Kind::Invalid,
                    "the range ends before it begins".to_owned(),
                );
            } else if range.length() > RANGE {
                at.error(Kind::Limit, format!("a range has {RANGE} addresses at most"));
            }
        }
        let (mut addresses, mut macs) = (HashSet::new(), HashSet::new());
        for (host, at) in self.hosts.iter().zip(at.children("host")) {
            if let Some(address) = host.address {
                if !subnet.contains(address) || subnet.is_reserved(address) {
                    let message = format!("{address} is no host's address in {subnet}");
                    at.attribute_error("ip", Kind::Invalid, message);
                } else if address == subnet.address {
                    at.attribute_error("ip", Kind::Invalid, format!("{address} is the host's own"));
                }
            }
            if let Some(address) = host.address.filter(|address| !addresses.insert(*address)) {
                at.attribute_error("ip", Kind::Invalid, format!("{address} has two <host>"));
            }
            if let Some(mac) = host.mac.filter(|mac| !macs.insert(*mac)) {
                at.attribute_error("mac", Kind::Invalid, format!("{mac} has two <host>"));
            }
        }
    }
}

impl DhcpRange {
    /// Addresses in it, both ends included.
    fn length(&self) -> u128 {
        let unused = if self.start.is_ipv4() { 96 } else { 0 };
        (bits(self.end).saturating_sub(bits(self.start)) >> unused).saturating_add(1)
    }
}

impl DhcpHost {
    fn check(&self, at: Cursor<'_>) {
        if self.mac.is_none() && self.name.is_none() && self.id.is_none() {
            at.error(Kind::Missing, "<host> needs mac='…', name='…' or id='…'".to_owned());
        }
        let is_bytes = |id: &String| id.split(':').all(|byte| u8::from_str_radix(byte, 16).is_ok());
        if self.id.as_ref().is_some_and(|id| !is_bytes(id)) {
            let message = "an id is bytes in hexadecimal with colons between them".to_owned();
            at.attribute_error("id", Kind::Invalid, message);
        }
        if self.address.is_none() && self.name.is_none() {
            at.missing_attribute("ip");
        }
        if let Some(name) = &self.name {
            dns::check_name(name, "name", at);
        }
    }
}

impl Lease {
    /// None: for ever.
    pub fn seconds(&self) -> Option<u32> {
        let unit = match self.unit.unwrap_or(LeaseUnit::Minutes) {
            LeaseUnit::Seconds => 1,
            LeaseUnit::Minutes => 60,
            LeaseUnit::Hours => 3600,
        };
        Some(self.expiry.saturating_mul(unit)).filter(|seconds| *seconds != 0)
    }

    fn check(&self, at: Cursor<'_>) {
        if self.seconds().is_some_and(|seconds| seconds < 120) {
            let message = "a lease is of two minutes at least, or 0 for ever".to_owned();
            at.attribute_error("expiry", Kind::Limit, message);
        }
    }
}

impl Route {
    pub fn subnet(&self) -> Option<Subnet> {
        subnet_of(self.address, self.netmask, self.prefix).ok()
    }

    fn check(&self, at: Cursor<'_>) {
        check_family(self.family, self.address, at);
        if let Err((attribute, message)) = subnet_of(self.address, self.netmask, self.prefix) {
            at.attribute_error(attribute, Kind::Invalid, message);
        }
        if self.address.is_ipv4() != self.gateway.is_ipv4() {
            let message = "the route and its gateway are of two families".to_owned();
            at.attribute_error("gateway", Kind::Invalid, message);
        }
    }
}
