//! One rule of a filter as what is asked of frames: once for each combination of the values that its
//! variables have.

use std::collections::BTreeMap;

use broker::{FieldTest, FrameField, FrameMatch, MOST_FILTER_RULES};
use xml::filter::{Attribute, Datum, FilterRule, Operand, Pick, Protocol, ProtocolKind, Variable};

/// By their names.
pub(super) type Values = BTreeMap<String, Vec<String>>;

/// A rule with one combination of values.
pub(super) struct Asked {
    /// Which frames it is about at all: the same whoever sends them.
    pub(super) of: Vec<FrameMatch>,
    pub(super) matching: Vec<FrameMatch>,
    /// Of their connections, where the rule says so itself; 0: any.
    pub(super) states: Option<u8>,
}

/// # Errors
/// A variable that has no value, or one that cannot stand there.
pub(super) fn compile(rule: &FilterRule, values: &Values) -> Result<Vec<Asked>, String> {
    let lengths = lengths(rule, values)?;
    let all = lengths.values().fold(1, |all: usize, length| all.saturating_mul(*length));
    if all > MOST_FILTER_RULES {
        return Err(format!(
            "its variables have {all} combinations of values, more than {MOST_FILTER_RULES}"
        ));
    }
    (0..all).map(|number| one(rule, &Chosen { values, lengths: &lengths, number })).collect()
}

/// How many values each number stands for (`$NAME[@1]`).
fn lengths(rule: &FilterRule, values: &Values) -> Result<BTreeMap<u16, usize>, String> {
    let mut lengths: BTreeMap<u16, (usize, &str)> = BTreeMap::new();
    for variable in variables(rule) {
        let length = list(variable, values)?.len();
        let Pick::Each(number) = variable.pick else { continue };
        let (known, first) = *lengths.entry(number).or_insert((length, &variable.name));
        if known != length {
            return Err(format!(
                "${first} has {known} values and ${} has {length}, and they stand side by side; write one as \
                 $NAME[@1] for all combinations",
                variable.name
            ));
        }
    }
    Ok(lengths.into_iter().map(|(number, (length, _))| (number, length)).collect())
}

fn variables(rule: &FilterRule) -> impl Iterator<Item = &Variable> {
    let attributes = rule.protocols.iter().flat_map(|protocol| &protocol.attributes);
    attributes.filter_map(|attribute| match &attribute.operand {
        Operand::Variable(variable) => Some(variable),
        Operand::Value(_) => None,
    })
}

fn list<'a>(variable: &Variable, values: &'a Values) -> Result<&'a [String], String> {
    let name = &variable.name;
    let missing = || {
        format!(
            "${name} has no value: give it one (<parameter name='{name}' value='…'/> in <filterref>)"
        )
    };
    values.get(name).map(Vec::as_slice).ok_or_else(missing)
}

/// One combination of values.
struct Chosen<'a> {
    values: &'a Values,
    lengths: &'a BTreeMap<u16, usize>,
    number: usize,
}

impl Chosen<'_> {
    fn text(&self, variable: &Variable) -> Result<&str, String> {
        let list = list(variable, self.values)?;
        let at = match variable.pick {
            Pick::At(place) => usize::from(place),
            Pick::Each(wanted) => {
                // As digits of a number, the last of which counts fastest.
                let mut rest = self.number;
                let mut at = 0;
                for (number, length) in self.lengths.iter().rev() {
                    let length = (*length).max(1);
                    if *number == wanted {
                        at = rest % length;
                    }
                    rest /= length;
                }
                at
            }
        };
        list.get(at).map(String::as_str).ok_or_else(|| {
            let name = &variable.name;
            format!("${name} has {} values, and none at place {at} from 0", list.len())
        })
    }

    fn datum(&self, attribute: &Attribute) -> Result<Datum, String> {
        match &attribute.operand {
            Operand::Value(datum) => Ok(*datum),
            Operand::Variable(variable) => {
                let text = self.text(variable)?;
                attribute.form.read(text).map_err(|expected| {
                    let (name, attribute) = (&variable.name, attribute.name);
                    format!("${name} is {text:?}, which is no {attribute} (expected {expected})")
                })
            }
        }
    }
}

fn one(rule: &FilterRule, chosen: &Chosen<'_>) -> Result<Asked, String> {
    let mut asked = Asked { of: Vec::new(), matching: Vec::new(), states: None };
    let Some(kind) = rule.kind() else { return Ok(asked) };
    asked.of = of_kind(kind);
    for protocol in &rule.protocols {
        for attribute in &protocol.attributes {
            match attribute.name {
                "comment" => {}
                "state" => {
                    if let Datum::States(bits) = chosen.datum(attribute)? {
                        let known = if protocol.is_inverted() { !bits & 15 } else { bits };
                        asked.states = Some(known);
                    }
                }
                name if is_second(name) => {}
                _ => asked.matching.push(matching(protocol, attribute, chosen)?),
            }
        }
    }
    Ok(asked)
}

fn is_second(name: &str) -> bool {
    xml::filter::SECONDS.iter().any(|(_, second)| *second == name)
}

fn second<'a>(protocol: &'a Protocol, first: &str) -> Option<&'a Attribute> {
    let mut seconds = xml::filter::SECONDS.iter().filter(|(name, _)| *name == first);
    seconds.find_map(|(_, second)| protocol.get(second))
}

fn matching(
    protocol: &Protocol,
    attribute: &Attribute,
    chosen: &Chosen<'_>,
) -> Result<FrameMatch, String> {
    let is_ipv6 = is_ipv6(protocol.kind);
    let name = attribute.name;
    let field = field(protocol.kind, name).ok_or_else(|| format!("{name} cannot be asked for"))?;
    let datum = chosen.datum(attribute)?;
    let value = bytes(datum, field);
    let test = match (name, datum, second(protocol, name)) {
        ("vlanid", ..) => FieldTest::Masked { mask: vec![0x0f, 0xff], value },
        ("dscp", Datum::Number(number), _) if is_ipv6 => FieldTest::Masked {
            mask: vec![0x0f, 0xc0],
            value: bytes(Datum::Number(number << 6), field),
        },
        ("dscp", Datum::Number(number), _) => {
            FieldTest::Masked { mask: vec![0xfc], value: bytes(Datum::Number(number << 2), field) }
        }
        (_, Datum::TcpFlags { looked_at, set }, _) => {
            FieldTest::Masked { mask: vec![looked_at], value: vec![set] }
        }
        (_, _, Some(second)) => {
            let other = bytes(chosen.datum(second)?, field);
            if second.name.ends_with("mask") {
                FieldTest::Masked { mask: other, value }
            } else if other < value {
                return Err(format!("{} is below {name}", second.name));
            } else {
                FieldTest::Between(value, other)
            }
        }
        _ => FieldTest::Is(value),
    };
    Ok(FrameMatch { field, test, inverted: protocol.is_inverted() })
}

/// As it is on the wire.
fn bytes(datum: Datum, field: FrameField) -> Vec<u8> {
    match datum {
        Datum::Mac(mac) => mac.to_vec(),
        Datum::Ipv4(address) => address.octets().to_vec(),
        Datum::Ipv6(address) => address.octets().to_vec(),
        Datum::Number(number) => {
            let bytes = number.to_be_bytes();
            bytes[bytes.len().saturating_sub(field.length())..].to_vec()
        }
        Datum::TcpFlags { .. } | Datum::States(_) | Datum::Text => Vec::new(),
    }
}

pub(super) fn is_packet(kind: ProtocolKind) -> bool {
    use ProtocolKind::{Arp, Ip, Ipv6, Mac, Rarp, Stp, Vlan};
    !matches!(kind, Mac | Vlan | Stp | Arp | Rarp | Ip | Ipv6)
}

fn is_ipv6(kind: ProtocolKind) -> bool {
    use ProtocolKind as Kind;
    matches!(
        kind,
        Kind::Ipv6
            | Kind::TcpIpv6
            | Kind::UdpIpv6
            | Kind::UdpLiteIpv6
            | Kind::EspIpv6
            | Kind::AhIpv6
            | Kind::SctpIpv6
            | Kind::Icmpv6
            | Kind::AllIpv6
    )
}

fn is(field: FrameField, value: &[u8]) -> FrameMatch {
    FrameMatch { field, test: FieldTest::Is(value.to_vec()), inverted: false }
}

pub(super) fn of_ether_type(number: u16) -> FrameMatch {
    is(FrameField::EtherType, &number.to_be_bytes())
}

/// The group that IEEE 802.1D's bridges speak to.
pub(super) fn of_bridges() -> FrameMatch {
    is(FrameField::MacDestination, &[0x01, 0x80, 0xc2, 0, 0, 0])
}

pub(super) mod ether_type {
    pub(in super::super) const IPV4: u16 = 0x800;
    pub(in super::super) const ARP: u16 = 0x806;
    pub(in super::super) const RARP: u16 = 0x8035;
    pub(in super::super) const VLAN: u16 = 0x8100;
    pub(in super::super) const IPV6: u16 = 0x86dd;
}

fn of_kind(kind: ProtocolKind) -> Vec<FrameMatch> {
    use ProtocolKind as Kind;
    let carried = match kind {
        Kind::Mac => return Vec::new(),
        Kind::Stp => return vec![of_bridges()],
        Kind::Vlan => return vec![of_ether_type(ether_type::VLAN)],
        Kind::Arp => return vec![of_ether_type(ether_type::ARP)],
        Kind::Rarp => return vec![of_ether_type(ether_type::RARP)],
        Kind::Ip | Kind::Ipv6 | Kind::All | Kind::AllIpv6 => None,
        Kind::Tcp | Kind::TcpIpv6 => Some(6),
        Kind::Udp | Kind::UdpIpv6 => Some(17),
        Kind::UdpLite | Kind::UdpLiteIpv6 => Some(136),
        Kind::Esp | Kind::EspIpv6 => Some(50),
        Kind::Ah | Kind::AhIpv6 => Some(51),
        Kind::Sctp | Kind::SctpIpv6 => Some(132),
        Kind::Icmp => Some(1),
        Kind::Igmp => Some(2),
        Kind::Icmpv6 => Some(58),
    };
    let family = if is_ipv6(kind) { ether_type::IPV6 } else { ether_type::IPV4 };
    let carried = carried.map(|number| is(FrameField::Protocol, &[number]));
    std::iter::once(of_ether_type(family)).chain(carried).collect()
}

fn field(kind: ProtocolKind, name: &str) -> Option<FrameField> {
    use FrameField as Field;
    let (is_ipv6, is_stp) = (is_ipv6(kind), kind == ProtocolKind::Stp);
    Some(match name {
        "srcmacaddr" => Field::MacSource,
        "dstmacaddr" => Field::MacDestination,
        "protocolid" => Field::EtherType,
        "vlanid" => Field::VlanTag,
        "encap-protocol" => Field::VlanEtherType,
        "hwtype" => Field::ArpHardware,
        "protocoltype" => Field::ArpProtocol,
        "opcode" => Field::ArpOpcode,
        "arpsrcmacaddr" => Field::ArpSenderMac,
        "arpdstmacaddr" => Field::ArpTargetMac,
        "arpsrcipaddr" => Field::ArpSenderIp,
        "arpdstipaddr" => Field::ArpTargetIp,
        "srcipaddr" | "srcipfrom" if is_ipv6 => Field::Ipv6Source,
        "dstipaddr" | "dstipfrom" if is_ipv6 => Field::Ipv6Destination,
        "srcipaddr" | "srcipfrom" => Field::Ipv4Source,
        "dstipaddr" | "dstipfrom" => Field::Ipv4Destination,
        "protocol" => Field::Protocol,
        "srcportstart" => Field::SourcePort,
        "dstportstart" => Field::DestinationPort,
        "dscp" if is_ipv6 => Field::Ipv6Class,
        "dscp" => Field::Ipv4Service,
        "type" if is_stp => Field::StpType,
        "type" => Field::IcmpType,
        "code" => Field::IcmpCode,
        "flags" if is_stp => Field::StpFlags,
        "flags" => Field::TcpFlags,
        "root-priority" => Field::StpRootPriority,
        "root-address" => Field::StpRootAddress,
        "root-cost" => Field::StpRootCost,
        "sender-priority" => Field::StpSenderPriority,
        "sender-address" => Field::StpSenderAddress,
        "port" => Field::StpPort,
        "age" => Field::StpAge,
        "max-age" => Field::StpMaxAge,
        "hello-time" => Field::StpHelloTime,
        "forward-delay" => Field::StpForwardDelay,
        _ => return None,
    })
}
