//! `<mac>`, `<arp>`, `<tcp>` …: which frames a rule is about. One table says what each of them may ask, and
//! in which form; from it come the reader, the writer and the names in what is said about mistakes.

use super::form::{Datum, Form};
use super::variable::Variable;
use crate::cursor::{Cursor, Slot, trim};
use crate::diagnostic::Kind;
use crate::element::Attribute as _;
use crate::value::{YesNo, names};
use crate::write::Writer;

names! {
    pub enum ProtocolKind {
        Mac = "mac", Vlan = "vlan", Stp = "stp", Arp = "arp", Rarp = "rarp", Ip = "ip", Ipv6 = "ipv6",
        Tcp = "tcp", Udp = "udp", UdpLite = "udplite", Esp = "esp", Ah = "ah", Sctp = "sctp", Icmp = "icmp",
        Igmp = "igmp", All = "all",
        TcpIpv6 = "tcp-ipv6", UdpIpv6 = "udp-ipv6", UdpLiteIpv6 = "udplite-ipv6", EspIpv6 = "esp-ipv6",
        AhIpv6 = "ah-ipv6", SctpIpv6 = "sctp-ipv6", Icmpv6 = "icmpv6", AllIpv6 = "all-ipv6",
    }
}

type Group = &'static [(&'static str, Form)];

const BYTE: Form = Form::Number(0xff);
const WORD: Form = Form::Number(0xffff);

const SOURCE: Group = &[("srcmacaddr", Form::Mac)];
const SOURCE_MASK: Group = &[("srcmacmask", Form::Mac)];
const DESTINATION: Group = &[("dstmacaddr", Form::Mac), ("dstmacmask", Form::Mac)];
const ETHER_TYPE: Group = &[("protocolid", Form::EtherType)];
const VLAN: Group = &[("vlanid", Form::Number(0xfff)), ("encap-protocol", Form::EtherType)];
const STP: Group = &[
    ("type", BYTE),
    ("flags", BYTE),
    ("root-priority", WORD),
    ("root-priority-hi", WORD),
    ("root-address", Form::Mac),
    ("root-address-mask", Form::Mac),
    ("root-cost", Form::Number(u32::MAX)),
    ("root-cost-hi", Form::Number(u32::MAX)),
    ("sender-priority", WORD),
    ("sender-priority-hi", WORD),
    ("sender-address", Form::Mac),
    ("sender-address-mask", Form::Mac),
    ("port", WORD),
    ("port-hi", WORD),
    ("age", WORD),
    ("age-hi", WORD),
    ("max-age", WORD),
    ("max-age-hi", WORD),
    ("hello-time", WORD),
    ("hello-time-hi", WORD),
    ("forward-delay", WORD),
    ("forward-delay-hi", WORD),
];
const ARP: Group = &[
    ("hwtype", WORD),
    ("protocoltype", WORD),
    ("opcode", Form::ArpOpcode),
    ("arpsrcmacaddr", Form::Mac),
    ("arpdstmacaddr", Form::Mac),
    ("arpsrcipaddr", Form::Ipv4),
    ("arpsrcipmask", Form::Ipv4Mask),
    ("arpdstipaddr", Form::Ipv4),
    ("arpdstipmask", Form::Ipv4Mask),
];
const IPV4: Group = &[
    ("srcipaddr", Form::Ipv4),
    ("srcipmask", Form::Ipv4Mask),
    ("dstipaddr", Form::Ipv4),
    ("dstipmask", Form::Ipv4Mask),
];
const IPV6: Group = &[
    ("srcipaddr", Form::Ipv6),
    ("srcipmask", Form::Ipv6Mask),
    ("dstipaddr", Form::Ipv6),
    ("dstipmask", Form::Ipv6Mask),
];
const IPV4_RANGES: Group = &[
    ("srcipfrom", Form::Ipv4),
    ("srcipto", Form::Ipv4),
    ("dstipfrom", Form::Ipv4),
    ("dstipto", Form::Ipv4),
];
const IPV6_RANGES: Group = &[
    ("srcipfrom", Form::Ipv6),
    ("srcipto", Form::Ipv6),
    ("dstipfrom", Form::Ipv6),
    ("dstipto", Form::Ipv6),
];
const IP_PROTOCOL: Group = &[("protocol", Form::IpProtocol)];
const PORTS: Group =
    &[("srcportstart", WORD), ("srcportend", WORD), ("dstportstart", WORD), ("dstportend", WORD)];
const DSCP: Group = &[("dscp", Form::Number(63))];
const TCP: Group = &[("flags", Form::TcpFlags)];
const ICMP: Group = &[("type", BYTE), ("code", BYTE)];
const ICMP_RANGES: Group = &[("type", BYTE), ("typeend", BYTE), ("code", BYTE), ("codeend", BYTE)];
const STATE: Group = &[("state", Form::States)];
const COMMENT: Group = &[("comment", Form::Text)];

/// Pairs, of which the second means something beside the first alone.
pub const SECONDS: &[(&str, &str)] = &[
    ("srcmacaddr", "srcmacmask"),
    ("dstmacaddr", "dstmacmask"),
    ("root-address", "root-address-mask"),
    ("sender-address", "sender-address-mask"),
    ("root-priority", "root-priority-hi"),
    ("root-cost", "root-cost-hi"),
    ("sender-priority", "sender-priority-hi"),
    ("port", "port-hi"),
    ("age", "age-hi"),
    ("max-age", "max-age-hi"),
    ("hello-time", "hello-time-hi"),
    ("forward-delay", "forward-delay-hi"),
    ("arpsrcipaddr", "arpsrcipmask"),
    ("arpdstipaddr", "arpdstipmask"),
    ("srcipaddr", "srcipmask"),
    ("dstipaddr", "dstipmask"),
    ("srcipfrom", "srcipto"),
    ("dstipfrom", "dstipto"),
    ("srcportstart", "srcportend"),
    ("dstportstart", "dstportend"),
    ("type", "typeend"),
    ("code", "codeend"),
];

/// libvirt's that there are none of: counting connections, sets of another tool, and comparing one part of a
/// frame with another.
const REFUSED: &[&str] = &["@connlimit-above", "@ipset", "@ipsetflags", "@option", "@gratuitous"];

impl ProtocolKind {
    fn groups(self) -> &'static [Group] {
        match self {
            Self::Mac => &[SOURCE, SOURCE_MASK, DESTINATION, ETHER_TYPE, COMMENT],
            Self::Vlan => &[SOURCE, SOURCE_MASK, DESTINATION, VLAN, COMMENT],
            Self::Stp => &[SOURCE, SOURCE_MASK, STP, COMMENT],
            Self::Arp | Self::Rarp => &[SOURCE, SOURCE_MASK, DESTINATION, ARP, COMMENT],
            Self::Ip => {
                &[SOURCE, SOURCE_MASK, DESTINATION, IPV4, IP_PROTOCOL, PORTS, DSCP, COMMENT]
            }
            Self::Ipv6 => {
                &[SOURCE, SOURCE_MASK, DESTINATION, IPV6, IP_PROTOCOL, PORTS, ICMP_RANGES, COMMENT]
            }
            Self::Tcp => &[SOURCE, IPV4, IPV4_RANGES, PORTS, TCP, DSCP, STATE, COMMENT],
            Self::Udp | Self::Sctp => &[SOURCE, IPV4, IPV4_RANGES, PORTS, DSCP, STATE, COMMENT],
            Self::Icmp => &[SOURCE, IPV4, IPV4_RANGES, ICMP, DSCP, STATE, COMMENT],
            Self::UdpLite | Self::Esp | Self::Ah | Self::Igmp | Self::All => {
                &[SOURCE, IPV4, IPV4_RANGES, DSCP, STATE, COMMENT]
            }
            Self::TcpIpv6 => &[SOURCE, IPV6, IPV6_RANGES, PORTS, TCP, DSCP, STATE, COMMENT],
            Self::UdpIpv6 | Self::SctpIpv6 => {
                &[SOURCE, IPV6, IPV6_RANGES, PORTS, DSCP, STATE, COMMENT]
            }
            Self::Icmpv6 => &[SOURCE, IPV6, IPV6_RANGES, ICMP, DSCP, STATE, COMMENT],
            Self::UdpLiteIpv6 | Self::EspIpv6 | Self::AhIpv6 | Self::AllIpv6 => {
                &[SOURCE, IPV6, IPV6_RANGES, DSCP, STATE, COMMENT]
            }
        }
    }

    fn attributes(self) -> impl Iterator<Item = (&'static str, Form)> {
        self.groups().iter().flat_map(|group| group.iter().copied())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    pub kind: ProtocolKind,
    /// `match='no'`: each attribute asks whether it is otherwise.
    pub matched: Option<YesNo>,
    pub attributes: Vec<Attribute>,
}

/// What is asked of one part of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    pub name: &'static str,
    pub form: Form,
    /// As it was written.
    text: String,
    pub operand: Operand,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    Value(Datum),
    Variable(Variable),
}

impl Protocol {
    pub fn is_inverted(&self) -> bool {
        self.matched == Some(YesNo::No)
    }

    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    /// `None` after reporting why.
    pub(super) fn read(kind: ProtocolKind, at: Cursor<'_>) -> Option<Self> {
        let known = kind.attributes().map(|(name, _)| Slot::Attribute(name));
        let slots: Vec<_> = std::iter::once(Slot::Attribute("match")).chain(known).collect();
        at.expect(&slots, REFUSED);
        let matched = Option::<YesNo>::read(at, "match");
        let mut attributes = Some(Vec::new());
        for (name, form) in kind.attributes() {
            let Some(text) = at.attribute(name) else { continue };
            let read = Attribute::read(at, name, form, text);
            attributes = attributes.zip(read).map(|(mut attributes, read)| {
                attributes.push(read);
                attributes
            });
        }
        let protocol = Self { kind, matched: matched?, attributes: attributes? };
        protocol.check(at);
        Some(protocol)
    }

    fn check(&self, at: Cursor<'_>) {
        for (first, second) in SECONDS {
            if self.get(second).is_some() && self.get(first).is_none() {
                let text = format!("{second} means something beside {first} alone; add that");
                at.attribute_error(second, Kind::Missing, text);
            }
        }
        if matches!(self.kind, ProtocolKind::Ip | ProtocolKind::Ipv6) {
            self.check_carried(at);
        }
    }

    /// What lies at the place of ports, or of ICMP's type, is another thing in other protocols.
    fn check_carried(&self, at: Cursor<'_>) {
        const WITH_PORTS: &[u32] = &[6, 17, 132, 136];
        const ICMPV6: u32 = 58;
        let (is_absent, number) = match self.get("protocol").map(|protocol| &protocol.operand) {
            Some(Operand::Variable(_)) => return,
            Some(Operand::Value(Datum::Number(number))) => (false, *number),
            _ => (true, 0),
        };
        for (name, is_fine, needed) in [
            ("srcportstart", WITH_PORTS.contains(&number), "tcp, udp, udplite or sctp"),
            ("dstportstart", WITH_PORTS.contains(&number), "tcp, udp, udplite or sctp"),
            ("type", number == ICMPV6, "icmpv6"),
            ("code", number == ICMPV6, "icmpv6"),
        ] {
            if self.get(name).is_some() && (is_absent || !is_fine) {
                let mut report = at.at_attribute(name);
                report.expected = Some(format!("protocol= to be {needed}"));
                let text = format!("{name} is of packets of some protocols alone");
                report.report(Kind::Invalid, text);
            }
        }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        let mut tag = out.tag(self.kind.name());
        self.matched.write("match", &mut tag);
        for attribute in &self.attributes {
            tag.attribute(attribute.name, &attribute.text);
        }
        tag.empty();
    }
}

impl Attribute {
    fn read(at: Cursor<'_>, name: &'static str, form: Form, text: &str) -> Option<Self> {
        let written = if form == Form::Text { text } else { trim(text) };
        let operand = match written.strip_prefix('$').filter(|_| form != Form::Text) {
            Some(variable) => {
                let Some(variable) = Variable::parse(variable) else {
                    let mut report = at.at_attribute(name);
                    report.expected =
                        Some("$NAME, $NAME[0] or $NAME[@1], of letters, digits and '_'".to_owned());
                    let text = format!("{name}={} names no variable", crate::report::quote(text));
                    report.report(Kind::Invalid, text);
                    return None;
                };
                Operand::Variable(variable)
            }
            None => match form.parse(written) {
                Ok(datum) => Operand::Value(datum),
                Err(expected) => {
                    at.bad_value(text, Some(name), expected);
                    return None;
                }
            },
        };
        Some(Self { name, form, text: written.to_owned(), operand })
    }
}
