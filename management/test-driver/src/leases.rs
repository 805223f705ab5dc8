//! Addresses of guests that never ask for one: each interface in a network that gives addresses has a
//! lease from its start, the first that is free in the order in which guests start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use ::network::config::{Dhcp, FIRST_FD, NetworkConfig};
use ::network::{Lease, LeaseFile, Mac};

/// 2100-01-01: the same in each run.
const END: u64 = 4_102_444_800;

#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// By the names of bridges.
    networks: Mutex<BTreeMap<String, Network>>,
}

#[derive(Debug)]
struct Network {
    dhcp: Dhcp,
    file: LeaseFile,
    given: BTreeMap<Mac, IpAddr>,
}

impl Leases {
    /// A network starts, whose process gets these files.
    pub(crate) fn add(&self, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let Some(config) = files.first() else { return Ok(()) };
        // By its name, so that whoever reads it next begins at its beginning as well.
        let config = File::open(format!("/proc/self/fd/{}", config.as_raw_fd()))?;
        let config: NetworkConfig = serde_json::from_reader(io::BufReader::new(config))?;
        let place = config.files.leases.and_then(|fd| usize::try_from(fd.0 - FIRST_FD).ok());
        let file = place.and_then(|place| files.get(place));
        let (Some(dhcp), Some(file)) = (config.settings.dhcp, file) else { return Ok(()) };
        let (file, leases) = LeaseFile::load(file.try_clone_to_owned()?.into())?;
        let given = leases.into_iter().map(|lease| (lease.mac, lease.address)).collect();
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        networks.insert(config.bridge, Network { dhcp, file, given });
        Ok(())
    }

    /// A guest comes into the network of this bridge. One that has no address left has none.
    pub(crate) fn give(&self, bridge: &str, mac: [u8; 6]) -> io::Result<()> {
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(network) = networks.get_mut(bridge) else { return Ok(()) };
        let mac = Mac(mac);
        if network.given.contains_key(&mac) {
            return Ok(());
        }
        let taken: BTreeSet<IpAddr> = network.given.values().copied().collect();
        let Some(address) = choose(&network.dhcp, mac, &taken) else { return Ok(()) };
        let lease = Lease {
            mac,
            client_id: None,
            association: None,
            address: address.into(),
            hostname: None,
            expires: Some(END),
        };
        network.file.put(&lease).map_err(io::Error::other)?;
        network.given.insert(mac, lease.address);
        Ok(())
    }
}

fn choose(dhcp: &Dhcp, mac: Mac, taken: &BTreeSet<IpAddr>) -> Option<Ipv4Addr> {
    let own = dhcp.hosts.iter().find(|host| host.mac == Some(mac)).map(|host| host.address);
    let kept: Vec<_> = dhcp.hosts.iter().map(|host| host.address).collect();
    let free =
        |address: &Ipv4Addr| !taken.contains(&IpAddr::V4(*address)) && !kept.contains(address);
    let ranges = dhcp.ranges.iter();
    own.or_else(|| {
        ranges
            .flat_map(|range| u32::from(range.start)..=u32::from(range.end))
            .map(Ipv4Addr::from)
            .find(free)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_get_what_is_kept_for_them_or_the_first_that_is_free() {
        let dhcp: Dhcp = serde_json::from_value(serde_json::json!({
            "ranges": [{ "start": "10.0.0.2", "end": "10.0.0.4" }],
            "hosts": [{ "mac": "52:54:00:00:00:09", "address": "10.0.0.3" }],
        }))
        .unwrap();
        let mac = |last| Mac([0x52, 0x54, 0, 0, 0, last]);
        let first = Ipv4Addr::new(10, 0, 0, 2);
        assert_eq!(choose(&dhcp, mac(9), &BTreeSet::new()), Some(Ipv4Addr::new(10, 0, 0, 3)));
        assert_eq!(choose(&dhcp, mac(1), &BTreeSet::new()), Some(first));
        let mut taken = BTreeSet::from([IpAddr::V4(first)]);
        let last = Ipv4Addr::new(10, 0, 0, 4);
        assert_eq!(choose(&dhcp, mac(1), &taken), Some(last));
        taken.insert(last.into());
        assert_eq!(choose(&dhcp, mac(1), &taken), None);
    }
}
