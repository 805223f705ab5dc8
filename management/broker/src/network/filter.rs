//! Filters of people's own: what they let through a port, in both directions. What is asked of a frame is
//! named here field by field; where a field lies and how long it is, is known by
//! [`nft`](super::nft) alone.

use serde::{Deserialize, Serialize};

/// Of both directions together; more is a mistake.
pub const MOST_FILTER_RULES: usize = 4096;

/// After [`Checks`](super::Checks), what a filter says of a port's frames.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortFilter {
    /// What the guest sends.
    pub sent: FilterSide,
    /// What is sent to it.
    pub received: FilterSide,
}

/// What no rule decides about is let through, by either list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterSide {
    /// Asked of every frame.
    pub frames: Vec<FilterStep>,
    /// Asked of what these let through.
    pub packets: Vec<FilterRule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FilterStep {
    Rule(FilterRule),
    /// Rules for frames that match; behind the last of them, and where one returns, the next step is
    /// asked.
    Chain {
        /// Once in a side.
        name: String,
        matching: Vec<FrameMatch>,
        rules: Vec<FilterRule>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterRule {
    /// What it is called where rules are listed.
    pub label: String,
    /// All of them.
    pub matching: Vec<FrameMatch>,
    /// States of the packet's connection, by the kernel's bits; 0: any, and none.
    pub states: u8,
    pub verdict: FilterVerdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterVerdict {
    Accept,
    Drop,
    /// Drop, and tell who sent it. Of packets of a guest alone.
    Reject,
    Return,
    /// Count it, and go on.
    Continue,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameMatch {
    pub field: FrameField,
    pub test: FieldTest,
    /// It is otherwise.
    pub inverted: bool,
}

/// Values are as long as the field, as they are on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FieldTest {
    Is(Vec<u8>),
    Masked { mask: Vec<u8>, value: Vec<u8> },
    Between(Vec<u8>, Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrameField {
    MacDestination,
    MacSource,
    EtherType,
    /// Of a frame with a tag: number and priority, and the type behind it.
    VlanTag,
    VlanEtherType,
    ArpHardware,
    ArpProtocol,
    ArpOpcode,
    ArpSenderMac,
    ArpSenderIp,
    ArpTargetMac,
    ArpTargetIp,
    /// Type of service, with the DSCP in its upper six bits.
    Ipv4Service,
    Ipv4Source,
    Ipv4Destination,
    /// Version and traffic class, with the DSCP in the middle.
    Ipv6Class,
    Ipv6Source,
    Ipv6Destination,
    /// What is in the packet, whatever lies between.
    Protocol,
    SourcePort,
    DestinationPort,
    TcpFlags,
    IcmpType,
    IcmpCode,
    StpType,
    StpFlags,
    StpRootPriority,
    StpRootAddress,
    StpRootCost,
    StpSenderPriority,
    StpSenderAddress,
    StpPort,
    StpAge,
    StpMaxAge,
    StpHelloTime,
    StpForwardDelay,
}

impl FrameField {
    /// The same of the other side.
    #[must_use]
    pub fn reversed(self) -> Self {
        match self {
            Self::MacDestination => Self::MacSource,
            Self::MacSource => Self::MacDestination,
            Self::ArpSenderMac => Self::ArpTargetMac,
            Self::ArpTargetMac => Self::ArpSenderMac,
            Self::ArpSenderIp => Self::ArpTargetIp,
            Self::ArpTargetIp => Self::ArpSenderIp,
            Self::Ipv4Source => Self::Ipv4Destination,
            Self::Ipv4Destination => Self::Ipv4Source,
            Self::Ipv6Source => Self::Ipv6Destination,
            Self::Ipv6Destination => Self::Ipv6Source,
            Self::SourcePort => Self::DestinationPort,
            Self::DestinationPort => Self::SourcePort,
            same => same,
        }
    }

    /// Bytes.
    #[must_use]
    pub fn length(self) -> usize {
        match self {
            Self::MacDestination
            | Self::MacSource
            | Self::ArpSenderMac
            | Self::ArpTargetMac
            | Self::StpRootAddress
            | Self::StpSenderAddress => 6,
            Self::ArpSenderIp
            | Self::ArpTargetIp
            | Self::Ipv4Source
            | Self::Ipv4Destination
            | Self::StpRootCost => 4,
            Self::Ipv6Source | Self::Ipv6Destination => 16,
            Self::Ipv4Service
            | Self::Protocol
            | Self::TcpFlags
            | Self::IcmpType
            | Self::IcmpCode
            | Self::StpType
            | Self::StpFlags => 1,
            _ => 2,
        }
    }
}

impl FilterSide {
    /// Each rule, with those in chains.
    pub fn rules(&self) -> impl Iterator<Item = &FilterRule> {
        let frames = self.frames.iter().flat_map(|step| match step {
            FilterStep::Rule(rule) => std::slice::from_ref(rule),
            FilterStep::Chain { rules, .. } => rules.as_slice(),
        });
        frames.chain(&self.packets)
    }

    fn matches(&self) -> impl Iterator<Item = &FrameMatch> {
        let of_chains = self.frames.iter().flat_map(|step| match step {
            FilterStep::Rule(_) => &[][..],
            FilterStep::Chain { matching, .. } => matching.as_slice(),
        });
        self.rules().flat_map(|rule| &rule.matching).chain(of_chains)
    }
}

impl PortFilter {
    pub fn rules(&self) -> impl Iterator<Item = &FilterRule> {
        self.sent.rules().chain(self.received.rules())
    }

    /// What is wrong with it, if anything is: a value of another length than its field would be compared
    /// with what lies behind that.
    pub(super) fn problem(&self) -> Option<&'static str> {
        if self.rules().count() > MOST_FILTER_RULES {
            return Some("has too many rules");
        }
        let is_long = |it: &FrameMatch| {
            let is = |value: &[u8]| value.len() == it.field.length();
            match &it.test {
                FieldTest::Is(value) => is(value),
                FieldTest::Masked { mask, value } => is(mask) && is(value),
                FieldTest::Between(first, last) => is(first) && is(last),
            }
        };
        let mut matches = self.sent.matches().chain(self.received.matches());
        (!matches.all(is_long)).then_some("compares a field with a value of another length")
    }
}
