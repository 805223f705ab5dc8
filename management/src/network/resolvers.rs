//! Whom the host itself asks for names (resolv.conf(5)).

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// More are not asked, by the host either.
const MOST: usize = 3;

pub(super) fn of_host() -> Vec<SocketAddr> {
    // Where the first is a stub on the loopback, systemd keeps the real ones in the second; both
    // can be asked from this host.
    let text = std::fs::read_to_string(Path::new("/etc/resolv.conf"));
    parse(&text.unwrap_or_default())
}

/// How often it is looked at. The file is replaced, linked, and mounted over, so that nothing but
/// reading it tells what it says.
const PAUSE: Duration = Duration::from_secs(5);

/// Tells when the host asks others than before.
pub(super) struct Watch(Vec<SocketAddr>);

impl Watch {
    pub(super) fn new() -> Self {
        Self(of_host())
    }

    /// May be given up at any point, and waited for again.
    pub(super) async fn changed(&mut self) {
        loop {
            tokio::time::sleep(PAUSE).await;
            if self.is_other(of_host()) {
                return;
            }
        }
    }

    /// A file that says nothing is one that is being written, or a host without a network: who was
    /// asked before is the better guess.
    fn is_other(&mut self, now: Vec<SocketAddr>) -> bool {
        let other = !now.is_empty() && now != self.0;
        if other {
            self.0 = now;
        }
        other
    }
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
    use super::{Watch, parse};

    #[test]
    fn three_name_servers_are_taken() {
        let text = "# nameserver 1.1.1.1\nsearch x\nnameserver 192.0.2.1\n nameserver\tfd00::1 \n\
                    nameservers 1.2.3.4\nnameserver fe80::1%eth0\nnameserver 127.0.0.53\nnameserver 9.9.9.9";
        let found: Vec<_> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[fd00::1]:53", "127.0.0.53:53"]);
    }

    #[test]
    fn others_are_asked_when_there_are_others() {
        let (one, two) = (parse("nameserver 192.0.2.1"), parse("nameserver 192.0.2.2"));
        let mut watch = Watch(one.clone());
        assert!(!watch.is_other(one.clone()));
        assert!(!watch.is_other(Vec::new()), "a file that is being written");
        assert!(watch.is_other(two.clone()));
        assert!(!watch.is_other(two) && watch.is_other(one));
    }
}
