//! Whom the host itself asks for names (resolv.conf(5)).

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// More are not asked, by the host either.
const MOST: usize = 3;

pub(super) fn of_host() -> Vec<SocketAddr> {
    // Where the first is a stub on the loopback, systemd keeps the real ones in the second; both
    // can be asked from this host.
    let text = std::fs::read_to_string(Path::new("/etc/resolv.conf"));
    parse(&text.unwrap_or_default())
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let rest = line.trim().strip_prefix("nameserver")?;
        let word =
            rest.split_ascii_whitespace().next().filter(|_| rest.starts_with([' ', '\t']))?;
        Some(SocketAddr::new(word.parse::<IpAddr>().ok()?, 53))
    };
    text.lines().filter_map(address).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn three_name_servers_are_taken() {
        let text = "# nameserver 1.1.1.1\nsearch x\nnameserver 192.0.2.1\n nameserver\tfd00::1 \n\
                    nameservers 1.2.3.4\nnameserver fe80::1%eth0\nnameserver 127.0.0.53\nnameserver 9.9.9.9";
        let found: Vec<_> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[fd00::1]:53", "127.0.0.53:53"]);
    }
}
