//! Rules, built from what nft(8) builds them of: a value is loaded into a register and compared
//! there, until one does not match or the verdict is reached.

use std::net::IpAddr;

use ipnet::IpNet;

use super::attributes::Attributes;
use crate::network::Protocol;

/// The first register of 16 bytes; others follow.
pub(super) const R1: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Verdict {
    Accept,
    Drop,
    Return,
}

/// One rule, and what is said of it where it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Rule {
    pub(super) expressions: Attributes,
    pub(super) comment: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Equal = 0,
    Different = 1,
    Less = 2,
}

impl Rule {
    pub(in super::super) fn new(comment: impl Into<String>) -> Self {
        Self { expressions: Attributes::default(), comment: comment.into() }
    }

    pub(super) fn with(mut self, name: &str, data: &Attributes) -> Self {
        let expression = Attributes::default().text(1, name).nested(2, data);
        self.expressions = self.expressions.nested(1, &expression);
        self
    }

    pub(super) fn meta(self, key: u32) -> Self {
        self.with("meta", &Attributes::default().u32(1, R1).u32(2, key))
    }

    pub(super) fn compare(self, how: Compare, value: &[u8]) -> Self {
        let value = Attributes::default().bytes(1, value);
        let data = Attributes::default().u32(1, R1).u32(2, how as u32).nested(3, &value);
        self.with("cmp", &data)
    }

    /// A field of the link's header (base 0), of the network's (1) or of the transport's (2).
    pub(super) fn payload(self, base: u32, offset: u32, length: u32) -> Self {
        self.payload_into(R1, base, offset, length)
    }

    pub(super) fn payload_into(self, register: u32, base: u32, offset: u32, length: u32) -> Self {
        let data =
            Attributes::default().u32(1, register).u32(2, base).u32(3, offset).u32(4, length);
        self.with("payload", &data)
    }

    /// What is in the registers from the first is in the set of this name.
    pub(super) fn looked_up(self, set: &str) -> Self {
        self.with("lookup", &Attributes::default().text(1, set).u32(2, R1))
    }

    pub(super) fn mask(self, mask: &[u8]) -> Self {
        let length = u32::try_from(mask.len()).unwrap_or(0);
        let value = |bytes: &[u8]| Attributes::default().bytes(1, bytes);
        let data = Attributes::default()
            .u32(1, R1)
            .u32(2, R1)
            .u32(3, length)
            .nested(4, &value(mask))
            .nested(5, &value(&vec![0; mask.len()]));
        self.with("bitwise", &data)
    }

    fn load(self, register: u32, value: &[u8]) -> Self {
        let value = Attributes::default().bytes(1, value);
        self.with("immediate", &Attributes::default().u32(1, register).nested(2, &value))
    }

    fn interface(self, key: u32, name: &str) -> Self {
        // Names are compared with all their 16 bytes.
        let mut bytes = [0; 16];
        for (byte, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
            *byte = from;
        }
        self.meta(key).compare(Compare::Equal, &bytes)
    }

    /// `iifname`
    pub(in super::super) fn into_host_by(self, interface: &str) -> Self {
        self.interface(6, interface)
    }

    /// `oifname`
    pub(in super::super) fn out_by(self, interface: &str) -> Self {
        self.interface(7, interface)
    }

    /// `meta nfproto`
    fn family(self, is_ipv4: bool) -> Self {
        self.meta(15).compare(Compare::Equal, &[if is_ipv4 { 2 } else { 10 }])
    }

    pub(in super::super) fn of_family(self, address: IpAddr) -> Self {
        self.family(address.is_ipv4())
    }

    /// Source or destination is in `net`, or is not.
    fn address(self, source: bool, how: Compare, net: IpNet) -> Self {
        let net = net.trunc();
        let (offset, length) = match (net.addr().is_ipv4(), source) {
            (true, true) => (12, 4),
            (true, false) => (16, 4),
            (false, true) => (8, 16),
            (false, false) => (24, 16),
        };
        let rule = self.payload(1, offset, length);
        let rule = if net.prefix_len() == net.max_prefix_len() {
            rule
        } else {
            rule.mask(&octets(net.netmask()))
        };
        rule.compare(how, &octets(net.addr()))
    }

    pub(in super::super) fn from(self, net: IpNet) -> Self {
        self.family(net.addr().is_ipv4()).address(true, Compare::Equal, net)
    }

    pub(in super::super) fn to(self, net: IpNet) -> Self {
        self.family(net.addr().is_ipv4()).address(false, Compare::Equal, net)
    }

    /// After [`from`](Self::from), of its family.
    pub(in super::super) fn not_to(self, net: IpNet) -> Self {
        self.address(false, Compare::Different, net)
    }

    /// `meta l4proto`
    pub(in super::super) fn protocol(self, protocol: Protocol) -> Self {
        let number = match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        };
        self.meta(16).compare(Compare::Equal, &[number])
    }

    /// `th dport`, after [`protocol`](Self::protocol).
    pub(in super::super) fn ports(self, (first, last): (u16, u16)) -> Self {
        let rule = self.payload(2, 2, 2);
        if first == last {
            return rule.compare(Compare::Equal, &first.to_be_bytes());
        }
        let value = |port: u16| Attributes::default().bytes(1, &port.to_be_bytes());
        let data = Attributes::default()
            .u32(1, R1)
            .u32(2, 0)
            .nested(3, &value(first))
            .nested(4, &value(last));
        rule.with("range", &data)
    }

    /// `fib daddr type local`: to an address of this host.
    pub(in super::super) fn for_this_host(self) -> Self {
        const ADDRESS_TYPE: u32 = 3;
        const DESTINATION: u32 = 2;
        const LOCAL: u32 = 2;
        let data = Attributes::default().u32(1, R1).u32(2, ADDRESS_TYPE).u32(3, DESTINATION);
        self.with("fib", &data).compare(Compare::Equal, &LOCAL.to_ne_bytes())
    }

    pub(super) fn connection(self, key: u32, bits: u32) -> Self {
        let rule = self.with("ct", &Attributes::default().u32(1, R1).u32(2, key));
        rule.mask(&bits.to_ne_bytes()).compare(Compare::Different, &[0; 4])
    }

    /// `ct state established,related`
    pub(in super::super) fn known(self) -> Self {
        self.connection(0, 2 | 4)
    }

    /// `ct status dnat`
    pub(in super::super) fn redirected(self) -> Self {
        self.connection(2, 1 << 5)
    }

    pub(super) fn counted(self) -> Self {
        self.with("counter", &Attributes::default())
    }

    pub(in super::super) fn verdict(self, verdict: Verdict) -> Self {
        let code: i32 = match verdict {
            Verdict::Accept => 1,
            Verdict::Drop => 0,
            Verdict::Return => -5,
        };
        let verdict = Attributes::default().bytes(1, &code.to_be_bytes());
        let data = Attributes::default().nested(2, &verdict);
        let rule = self.counted();
        rule.with("immediate", &Attributes::default().u32(1, 0).nested(2, &data))
    }

    /// Go on with the rules of `chain`, of the same table, and come back.
    pub(in super::super) fn jump(self, chain: &str) -> Self {
        const JUMP: i32 = -3;
        let verdict = Attributes::default().bytes(1, &JUMP.to_be_bytes()).text(2, chain);
        let data = Attributes::default().nested(2, &verdict);
        let rule = self.counted();
        rule.with("immediate", &Attributes::default().u32(1, 0).nested(2, &data))
    }

    /// `reject`: the sender is told that the port is unreachable, in its family.
    pub(in super::super) fn reject(self) -> Self {
        const ANY_FAMILY: u32 = 2;
        const PORT_UNREACHABLE: u8 = 1;
        let data = Attributes::default().u32(1, ANY_FAMILY).bytes(2, &[PORT_UNREACHABLE]);
        self.counted().with("reject", &data)
    }

    /// The sender appears as the interface it leaves by, with a port of these.
    pub(in super::super) fn masquerade(self, ports: Option<(u16, u16)>) -> Self {
        const PORTS: u32 = 2;
        let rule = self.counted();
        match ports {
            None => rule.with("masq", &Attributes::default()),
            Some((first, last)) => rule
                .load(R1, &first.to_be_bytes())
                .load(R1 + 1, &last.to_be_bytes())
                .with("masq", &Attributes::default().u32(1, PORTS).u32(2, R1).u32(3, R1 + 1)),
        }
    }

    /// The sender appears as one of these.
    pub(in super::super) fn source_nat(
        self,
        (first, last): (IpAddr, IpAddr),
        ports: Option<(u16, u16)>,
    ) -> Self {
        let rule = self.counted().load(R1, &octets(first)).load(R1 + 1, &octets(last));
        let data =
            Attributes::default().u32(1, 0).u32(2, family_number(first)).u32(3, R1).u32(4, R1 + 1);
        let Some((low, high)) = ports else { return rule.with("nat", &data) };
        rule.load(R1 + 2, &low.to_be_bytes())
            .load(R1 + 3, &high.to_be_bytes())
            .with("nat", &data.u32(5, R1 + 2).u32(6, R1 + 3))
    }

    /// The packet goes to `guest`, at `port` of it or the one it had.
    pub(in super::super) fn redirect(self, guest: IpAddr, port: Option<u16>) -> Self {
        let rule = self.counted().load(R1, &octets(guest));
        let data = Attributes::default().u32(1, 1).u32(2, family_number(guest)).u32(3, R1);
        match port {
            None => rule.with("nat", &data),
            Some(port) => rule.load(R1 + 1, &port.to_be_bytes()).with("nat", &data.u32(5, R1 + 1)),
        }
    }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn family_number(address: IpAddr) -> u32 {
    if address.is_ipv4() { 2 } else { 10 }
}
