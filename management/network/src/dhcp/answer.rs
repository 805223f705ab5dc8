//! The server's messages (RFC 2131 §4.3.1, table 3).

use std::net::{Ipv4Addr, SocketAddrV4};

use super::options::{Writer, code};
use super::packet::{
    BOOTREPLY, CHADDR, COOKIE, COOKIE_AT, ETHERNET, FILE, FIXED, Kind, Request, SNAME,
};
use super::{Reply, Server};

const CLIENT_PORT: u16 = 68;
/// Bytes of IPv4 and UDP headers, which count for what a client says it can take.
const HEADERS: usize = 28;
/// What every client takes, and what fits any link (RFC 2132 §9.10, Ethernet).
const SMALLEST_MAX: u16 = 576;
const LARGEST_MAX: u16 = 1500;
/// Some clients drop what is shorter than a BOOTP message (RFC 951 §3).
const BOOTP: usize = 300;

impl Server {
    /// An offer or acknowledgement of `address` for `seconds`.
    pub(super) fn grant(
        &self,
        request: &Request,
        kind: Kind,
        address: Ipv4Addr,
        seconds: Option<u32>,
        hostname: Option<&str>,
    ) -> Reply {
        let mut options = self.begin(request, kind);
        // All bits set stand for no end (RFC 2131 §3.3).
        let time = seconds.unwrap_or(u32::MAX);
        options.put(code::LEASE_TIME, &time.to_be_bytes());
        if seconds.is_some() {
            options.put(code::T1, &(time / 2).to_be_bytes());
            options.put(code::T2, &(time / 8 * 7).to_be_bytes());
        }
        self.describe_link(request, &mut options);
        if let Some(hostname) = hostname.filter(|_| request.wants(code::HOSTNAME)) {
            options.put(code::HOSTNAME, hostname.as_bytes());
        }
        // The reply goes there, so it must be the address that the client was just found to have.
        let in_use = kind == Kind::Ack && request.ciaddr == address;
        let ciaddr = if in_use { address } else { Ipv4Addr::UNSPECIFIED };
        self.reply(request, ciaddr, address, options)
    }

    pub(super) fn inform_answer(&self, request: &Request) -> Reply {
        let mut options = self.begin(request, Kind::Ack);
        self.describe_link(request, &mut options);
        self.reply(request, request.ciaddr, Ipv4Addr::UNSPECIFIED, options)
    }

    pub(super) fn refuse(&self, request: &Request, reason: &str) -> Reply {
        let mut options = self.begin(request, Kind::Nak);
        options.put(code::MESSAGE, reason.as_bytes());
        let none = Ipv4Addr::UNSPECIFIED;
        let mut bytes = header(request, none, none);
        bytes.extend(options.finish());
        finish(bytes, None)
    }

    /// What every message begins with, most of all the identifier (RFC 6842: sent back as it came).
    fn begin(&self, request: &Request, kind: Kind) -> Writer {
        let most = request.options.array::<2>(code::MAX_SIZE).map_or(0, u16::from_be_bytes);
        let most = most.min(self.link.mtu.unwrap_or(LARGEST_MAX)).clamp(SMALLEST_MAX, LARGEST_MAX);
        let mut options = Writer::new(usize::from(most).saturating_sub(HEADERS + FIXED));
        options.put(code::TYPE, &[kind as u8]);
        options.put(code::SERVER, &self.link.gateway.addr().octets());
        if let Some(id) = request.options.get(code::CLIENT_ID) {
            options.put(code::CLIENT_ID, id);
        }
        options
    }

    /// In order of need, should there not be room for all.
    fn describe_link(&self, request: &Request, options: &mut Writer) {
        let gateway = self.link.gateway.addr().octets();
        options.put(code::MASK, &self.link.gateway.netmask().octets());
        if !self.link.isolated {
            options.put(code::ROUTER, &gateway);
        }
        if self.dns {
            options.put(code::DNS, &gateway);
        }
        options.put(code::BROADCAST, &self.link.gateway.broadcast().octets());
        if let Some(domain) = &self.domain {
            options.put(code::DOMAIN, domain.as_bytes());
        }
        if let Some(mtu) = self.link.mtu.filter(|_| request.wants(code::MTU)) {
            options.put(code::MTU, &mtu.to_be_bytes());
        }
        if !self.dhcp.ntp.is_empty() && request.wants(code::NTP) {
            let servers: Vec<u8> = self.dhcp.ntp.iter().flat_map(Ipv4Addr::octets).collect();
            options.put(code::NTP, &servers);
        }
        for option in &self.dhcp.options {
            options.put(option.code, &option.value.0);
        }
        if let Some(boot) = &self.dhcp.boot {
            let server = boot.server.clone();
            let server = server.unwrap_or_else(|| self.link.gateway.addr().to_string());
            // By option only for who asks: the fixed fields say it as well.
            let by_option =
                |number| request.options.get(code::PARAMETERS).is_some() && request.wants(number);
            if by_option(code::BOOT_SERVER) {
                options.put(code::BOOT_SERVER, server.as_bytes());
            }
            if by_option(code::BOOT_FILE) {
                options.put(code::BOOT_FILE, boot.file.as_bytes());
            }
        }
    }

    fn reply(
        &self,
        request: &Request,
        ciaddr: Ipv4Addr,
        yiaddr: Ipv4Addr,
        options: Writer,
    ) -> Reply {
        let mut bytes = header(request, ciaddr, yiaddr);
        if let Some(boot) = &self.dhcp.boot {
            let server = boot.server.as_deref().unwrap_or_default();
            match server.parse::<Ipv4Addr>() {
                Ok(address) => set(&mut bytes, SIADDR, &address.octets()),
                Err(_) if server.is_empty() => {
                    set(&mut bytes, SIADDR, &self.link.gateway.addr().octets());
                }
                Err(_) => set(&mut bytes, SNAME, server.as_bytes()),
            }
            set(&mut bytes, FILE, boot.file.as_bytes());
        }
        bytes.extend(options.finish());
        finish(bytes, (!ciaddr.is_unspecified()).then_some(ciaddr))
    }
}

const SIADDR: usize = 20;

fn header(request: &Request, ciaddr: Ipv4Addr, yiaddr: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0; FIXED];
    set(&mut bytes, 0, &[BOOTREPLY, ETHERNET, 6]);
    set(&mut bytes, 4, &request.xid);
    set(&mut bytes, 10, &request.flags);
    set(&mut bytes, 12, &ciaddr.octets());
    set(&mut bytes, 16, &yiaddr.octets());
    set(&mut bytes, CHADDR, &request.client.mac.0);
    set(&mut bytes, COOKIE_AT, &COOKIE);
    bytes
}

/// Put a field in its place. Fields are shorter than the room they have: the configuration was checked.
fn set(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..field.len())) {
        place.copy_from_slice(field);
    }
}

/// To the address that the client uses, or to all: a client without one has only the link layer, and
/// reaching it alone would take a raw socket.
fn finish(mut bytes: Vec<u8>, ciaddr: Option<Ipv4Addr>) -> Reply {
    if bytes.len() < BOOTP {
        bytes.resize(BOOTP, 0);
    }
    let to = SocketAddrV4::new(ciaddr.unwrap_or(Ipv4Addr::BROADCAST), CLIENT_PORT);
    Reply { to, bytes }
}
