//! Whether a message is a solicitation to be answered (RFC 4861 §6.1.1).

use std::net::Ipv6Addr;

const ROUTER_SOLICITATION: u8 = 133;
const SOURCE_LINK_LAYER: u8 = 1;
/// Type, code, checksum and four bytes of no use.
const FIXED: usize = 8;
/// What no router has passed on.
const FRESH: u8 = 255;

/// `message` begins with the ICMPv6 header, whose checksum the kernel has verified.
pub(crate) fn is_valid(message: &[u8], hop_limit: Option<u8>, source: Ipv6Addr) -> bool {
    let Some(([kind, code, ..], mut options)) = message.split_first_chunk::<FIXED>() else {
        return false;
    };
    // Our own neighbours have a link-local address, or none yet.
    let near = source.is_unspecified() || source.is_unicast_link_local();
    if (*kind, *code) != (ROUTER_SOLICITATION, 0) || hop_limit != Some(FRESH) || !near {
        return false;
    }
    while let Some((number, rest)) = options.split_first() {
        let Some(units) = rest.first().copied().filter(|units| *units > 0) else { return false };
        let Some(after) = options.get(usize::from(units) * 8..) else { return false };
        // Who has no address cannot be answered at the link layer either.
        if *number == SOURCE_LINK_LAYER && source.is_unspecified() {
            return false;
        }
        options = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NEAR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    const BARE: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];

    fn with_link_layer(units: u8) -> Vec<u8> {
        [&BARE[..], &[1, units, 2, 0, 0, 0, 0, 9]].concat()
    }

    #[test]
    fn neighbours_are_heard() {
        assert!(is_valid(&BARE, Some(255), NEAR));
        assert!(is_valid(&BARE, Some(255), Ipv6Addr::UNSPECIFIED));
        assert!(is_valid(&with_link_layer(1), Some(255), NEAR));
    }

    #[test]
    fn what_is_malformed_or_from_far_is_not() {
        assert!(!is_valid(&BARE, Some(254), NEAR), "passed on by a router");
        assert!(!is_valid(&BARE, None, NEAR));
        assert!(!is_valid(&BARE, Some(255), "2001:db8::1".parse().unwrap()));
        assert!(!is_valid(&BARE[..7], Some(255), NEAR));
        assert!(!is_valid(&with_link_layer(0), Some(255), NEAR), "an option without length");
        assert!(!is_valid(&with_link_layer(2), Some(255), NEAR), "an option beyond the end");
        assert!(!is_valid(&with_link_layer(1), Some(255), Ipv6Addr::UNSPECIFIED));
        assert!(!is_valid(&[134, 0, 0, 0, 0, 0, 0, 0], Some(255), NEAR));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            is_valid(&bytes, Some(255), NEAR);
            is_valid(&[&BARE[..], &bytes].concat(), Some(255), NEAR);
        }
    }
}
