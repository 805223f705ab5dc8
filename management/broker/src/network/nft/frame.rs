//! What rules of the bridge family match: fields of frames, as a bridge has them.
//!
//! A field that a frame is too short for matches nothing, so what must not pass by being cut off is
//! dropped by a last rule, and what is right returns before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::expression::{Compare, Rule, octets};
use super::set::Set;

/// Of frames (IEEE 802 numbers, "EtherTypes").
pub(in super::super) mod ether_type {
    pub(in super::super::super) const IPV4: u16 = 0x0800;
    pub(in super::super::super) const ARP: u16 = 0x0806;
    pub(in super::super::super) const IPV6: u16 = 0x86dd;
    /// A customer's VLAN tag (IEEE 802.1Q).
    pub(in super::super::super) const TAG: u16 = 0x8100;
    /// A provider's (IEEE 802.1ad), and the one from before that.
    pub(in super::super::super) const OUTER_TAG: u16 = 0x88a8;
    pub(in super::super::super) const OLD_OUTER_TAG: u16 = 0x9100;
}

/// Where a frame says which address is its sender's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Claim {
    Arp,
    Ipv4,
    Ipv6,
    /// An advertisement of a neighbour.
    Neighbour,
}

impl Claim {
    /// Base, offset and length of the address.
    fn field(self) -> (u32, u32, u32) {
        match self {
            Self::Arp => (NETWORK, 14, 4),
            Self::Ipv4 => (NETWORK, 12, 4),
            Self::Ipv6 => (NETWORK, 8, 16),
            Self::Neighbour => (TRANSPORT, 8, 16),
        }
    }
}

const LINK: u32 = 0;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// Of ICMPv6 (RFC 4861 §4.4).
pub(in super::super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

impl Rule {
    fn is(self, (base, offset): (u32, u32), value: &[u8]) -> Self {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.payload(base, offset, length).compare(Compare::Equal, value)
    }

    fn differs(self, (base, offset): (u32, u32), value: &[u8]) -> Self {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.payload(base, offset, length).compare(Compare::Different, value)
    }

    /// `ether saddr !=`
    pub(in super::super) fn not_from_mac(self, mac: [u8; 6]) -> Self {
        self.differs((LINK, 6), &mac)
    }

    /// `ether saddr`
    pub(in super::super) fn sent_by(self, mac: [u8; 6]) -> Self {
        self.is((LINK, 6), &mac)
    }

    /// To one of the groups that no bridge forwards (IEEE 802.1D §7.12.6), 01:80:c2:00:00:00 to 0f.
    pub(in super::super) fn for_reserved_groups(self) -> Self {
        self.payload(LINK, 0, 6)
            .mask(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xf0])
            .compare(Compare::Equal, &[0x01, 0x80, 0xc2, 0, 0, 0])
    }

    /// `ether type`; of a tagged frame, the tag's.
    pub(in super::super) fn ether_type(self, number: u16) -> Self {
        self.is((LINK, 12), &number.to_be_bytes())
    }

    /// A length in place of the type, and the type behind it (RFC 1042).
    pub(in super::super) fn encapsulated(self) -> Self {
        self.payload(LINK, 12, 2)
            .compare(Compare::Less, &0x600u16.to_be_bytes())
            .is((NETWORK, 0), &[0xaa, 0xaa, 0x03, 0, 0, 0])
    }

    /// Of other addresses than those of Ethernet and IPv4 (RFC 826).
    pub(in super::super) fn other_arp(self) -> Self {
        self.differs((NETWORK, 0), &[0, 1, 8, 0, 6, 4])
    }

    /// `arp saddr ether !=`
    pub(in super::super) fn not_arp_from_mac(self, mac: [u8; 6]) -> Self {
        self.differs((NETWORK, 8), &mac)
    }

    /// `arp saddr ip`
    pub(in super::super) fn arp_from(self, address: Ipv4Addr) -> Self {
        self.is((NETWORK, 14), &address.octets())
    }

    /// `ip saddr` or `ip6 saddr`, of packets of that family alone.
    pub(in super::super) fn ip_from(self, address: IpAddr) -> Self {
        let offset = if address.is_ipv4() { 12 } else { 8 };
        self.is((NETWORK, offset), &octets(address))
    }

    /// Frames that make this claim, though the chain has others no more: nft(8) knows by it what stands
    /// there, and a listing of it can be loaded again.
    fn that(self, claim: Claim) -> Self {
        match claim {
            Claim::Arp => self.ether_type(ether_type::ARP),
            Claim::Ipv4 => self.ether_type(ether_type::IPV4),
            Claim::Ipv6 => self.ether_type(ether_type::IPV6),
            Claim::Neighbour => self.icmpv6_type(NEIGHBOUR_ADVERTISEMENT),
        }
    }

    /// The address that the frame claims to be the sender's is in `net`.
    pub(in super::super) fn claims_in(self, claim: Claim, net: IpNet) -> Self {
        let (base, offset, length) = claim.field();
        let net = net.trunc();
        let rule = self.that(claim).payload(base, offset, length).mask(&octets(net.netmask()));
        rule.compare(Compare::Equal, &octets(net.addr()))
    }

    /// It is in the set.
    pub(in super::super) fn claims_one_of(self, claim: Claim, set: &Set) -> Self {
        let (base, offset, length) = claim.field();
        self.that(claim).payload(base, offset, length).looked_up(set.name)
    }

    /// It is in the set together with the MAC address that the frame comes from.
    pub(in super::super) fn claims_own_of(self, claim: Claim, set: &Set) -> Self {
        // The registers behind an address: of four bytes each, and of sixteen.
        const FIFTH: u32 = 9;
        const SECOND: u32 = 2;
        let (base, offset, length) = claim.field();
        let after = if length == 4 { FIFTH } else { SECOND };
        let rule = self.that(claim).payload(base, offset, length);
        rule.payload_into(after, LINK, 6, 6).looked_up(set.name)
    }

    /// `ip daddr`, of packets of IPv4 alone.
    pub(in super::super) fn ipv4_to(self, address: Ipv4Addr) -> Self {
        self.is((NETWORK, 16), &address.octets())
    }

    fn carries(self, protocol: u8) -> Self {
        const PROTOCOL: u32 = 16;
        self.meta(PROTOCOL).compare(Compare::Equal, &[protocol])
    }

    /// `udp sport`
    pub(in super::super) fn udp_from_port(self, port: u16) -> Self {
        self.carries(UDP).is((TRANSPORT, 0), &port.to_be_bytes())
    }

    /// `udp dport`
    pub(in super::super) fn udp_to_port(self, port: u16) -> Self {
        self.carries(UDP).is((TRANSPORT, 2), &port.to_be_bytes())
    }

    /// `meta l4proto ipv6-icmp`
    pub(in super::super) fn icmpv6(self) -> Self {
        self.carries(ICMPV6)
    }

    /// `icmpv6 type`
    pub(in super::super) fn icmpv6_type(self, number: u8) -> Self {
        self.ether_type(ether_type::IPV6).icmpv6().is((TRANSPORT, 0), &[number])
    }

    /// The target of a neighbour's advertisement (RFC 4861 §4.4).
    pub(in super::super) fn neighbour_target(self, address: Ipv6Addr) -> Self {
        self.is((TRANSPORT, 8), &address.octets())
    }
}
