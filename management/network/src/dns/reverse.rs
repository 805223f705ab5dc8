//! Names that stand for addresses: `in-addr.arpa` (RFC 1035 §3.5) and `ip6.arpa` (RFC 3596 §2.5).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The address that `name` stands for, or the prefix where it has only the first parts of one.
pub(super) fn net_of(name: &str) -> Option<IpNet> {
    let ipv4 = name.strip_suffix(".in-addr.arpa").and_then(ipv4_of);
    ipv4.map(IpNet::V4).or_else(|| name.strip_suffix(".ip6.arpa").and_then(ipv6_of).map(IpNet::V6))
}

fn ipv4_of(reversed: &str) -> Option<Ipv4Net> {
    let mut octets = [0; 4];
    let mut places = octets.iter_mut();
    let mut length = 0;
    for part in reversed.rsplit('.') {
        let digits = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
        *places.next()? = part.parse().ok().filter(|_| digits)?;
        length += 8;
    }
    Ipv4Net::new(Ipv4Addr::from(octets), length).ok()
}

fn ipv6_of(reversed: &str) -> Option<Ipv6Net> {
    let mut bits: u128 = 0;
    let mut length: u8 = 0;
    for part in reversed.rsplit('.') {
        let mut letters = part.chars();
        let digit = letters.next()?.to_digit(16)?;
        if letters.next().is_some() || length == 128 {
            return None;
        }
        length += 4;
        bits |= u128::from(digit) << (128 - length);
    }
    Ipv6Net::new(Ipv6Addr::from_bits(bits), length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_addresses_and_their_first_parts() {
        let net = |name| net_of(name).map(|net| net.to_string());
        assert_eq!(net("9.7.168.192.in-addr.arpa").as_deref(), Some("192.168.7.9/32"));
        assert_eq!(net("7.168.192.in-addr.arpa").as_deref(), Some("192.168.7.0/24"));
        assert_eq!(net("0.d.f.ip6.arpa").as_deref(), Some("fd00::/12"));
        let whole = format!("{}.ip6.arpa", vec!["1"; 32].join("."));
        assert_eq!(net(&whole).as_deref(), Some("1111:1111:1111:1111:1111:1111:1111:1111/128"));
        for name in ["in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "+1.in-addr.arpa", "x.ip6.arpa"] {
            assert_eq!(net(name), None, "{name}");
        }
        assert_eq!(net(&format!("1.{whole}")), None);
    }
}
