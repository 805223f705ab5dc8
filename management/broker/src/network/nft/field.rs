//! Where the fields of frames lie that filters ask for.

use super::super::filter::FrameField;
use super::attributes::Attributes;
use super::expression::{Compare, R1, Rule};

const LINK: u32 = 0;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// A BPDU lies behind Ethernet's header and that of IEEE 802.2.
const STP: u32 = 14 + 3;

impl FrameField {
    /// Which header, and where in it.
    fn place(self) -> (u32, u32) {
        match self {
            Self::MacDestination => (LINK, 0),
            Self::MacSource => (LINK, 6),
            Self::EtherType => (LINK, 12),
            Self::VlanTag => (LINK, 14),
            Self::VlanEtherType => (LINK, 16),
            // RFC 826.
            Self::ArpHardware => (NETWORK, 0),
            Self::ArpProtocol => (NETWORK, 2),
            Self::ArpOpcode => (NETWORK, 6),
            Self::ArpSenderMac => (NETWORK, 8),
            Self::ArpSenderIp => (NETWORK, 14),
            Self::ArpTargetMac => (NETWORK, 18),
            Self::ArpTargetIp => (NETWORK, 24),
            Self::Ipv4Service => (NETWORK, 1),
            Self::Ipv4Source => (NETWORK, 12),
            Self::Ipv4Destination => (NETWORK, 16),
            // The kernel knows it without a place; see `field`.
            Self::Ipv6Class | Self::Protocol => (NETWORK, 0),
            Self::Ipv6Source => (NETWORK, 8),
            Self::Ipv6Destination => (NETWORK, 24),
            Self::SourcePort | Self::IcmpType => (TRANSPORT, 0),
            Self::IcmpCode => (TRANSPORT, 1),
            Self::DestinationPort => (TRANSPORT, 2),
            Self::TcpFlags => (TRANSPORT, 13),
            // IEEE 802.1D §9.3.1.
            Self::StpType => (LINK, STP + 3),
            Self::StpFlags => (LINK, STP + 4),
            Self::StpRootPriority => (LINK, STP + 5),
            Self::StpRootAddress => (LINK, STP + 7),
            Self::StpRootCost => (LINK, STP + 13),
            Self::StpSenderPriority => (LINK, STP + 17),
            Self::StpSenderAddress => (LINK, STP + 19),
            Self::StpPort => (LINK, STP + 25),
            Self::StpAge => (LINK, STP + 27),
            Self::StpMaxAge => (LINK, STP + 29),
            Self::StpHelloTime => (LINK, STP + 31),
            Self::StpForwardDelay => (LINK, STP + 33),
        }
    }
}

impl Rule {
    fn field(self, field: FrameField) -> Self {
        const PROTOCOL: u32 = 16;
        if field == FrameField::Protocol {
            return self.meta(PROTOCOL);
        }
        let (base, offset) = field.place();
        self.payload(base, offset, u32::try_from(field.length()).unwrap_or(0))
    }

    pub(in super::super) fn field_is(
        self,
        field: FrameField,
        value: &[u8],
        inverted: bool,
    ) -> Self {
        self.field(field).compare(equal_or_not(inverted), value)
    }

    pub(in super::super) fn field_masked(
        self,
        field: FrameField,
        mask: &[u8],
        value: &[u8],
        inverted: bool,
    ) -> Self {
        let value: Vec<_> = value.iter().zip(mask).map(|(value, mask)| value & mask).collect();
        self.field(field).mask(mask).compare(equal_or_not(inverted), &value)
    }

    pub(in super::super) fn field_between(
        self,
        field: FrameField,
        (first, last): (&[u8], &[u8]),
        inverted: bool,
    ) -> Self {
        let value = |bytes: &[u8]| Attributes::default().bytes(1, bytes);
        let data = Attributes::default()
            .u32(1, R1)
            .u32(2, u32::from(inverted))
            .nested(3, &value(first))
            .nested(4, &value(last));
        self.field(field).with("range", &data)
    }

    /// `ct state`, of a packet whose connection is in one of them.
    pub(in super::super) fn in_states(self, states: u8) -> Self {
        self.connection(0, states.into())
    }

    /// No verdict.
    pub(in super::super) fn only_counted(self) -> Self {
        self.counted()
    }
}

fn equal_or_not(inverted: bool) -> Compare {
    if inverted { Compare::Different } else { Compare::Equal }
}
