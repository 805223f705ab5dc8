//! Leases as the process of a network writes them down, and what followers hear of them.

use std::net::IpAddr;
use std::time::Duration;

use network::{Hex, Lease, LeaseFile, Mac};
use uuid::Uuid;

use super::networks::NetworkHost;
use super::rig::{Host, next};
use crate::events::{EventKind, LeaseChange, Subscription};
use crate::network::seconds_now;
use crate::ops::{DescribeNetwork, NetworkAction};

/// The file of a network's leases, as its process has it.
fn file(host: &Host, network: Uuid) -> LeaseFile {
    let path = host.config.state_dir.join("leases").join(format!("{network}.leases"));
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    LeaseFile::load(file).unwrap().0
}

fn lease(address: &str, last: u8) -> Lease {
    let mac = if last == 0 { Mac::UNKNOWN } else { Mac([0x52, 0x54, 0, 0, 0, last]) };
    Lease {
        mac,
        client_id: Some(Hex(vec![0, 4, last])),
        association: None,
        address: address.parse().unwrap(),
        hostname: Some("web".to_owned()),
        expires: Some(seconds_now() + 3600),
    }
}

/// What is told of leases, and up to which event.
struct Told(Subscription, u64);

impl Told {
    /// Address, MAC address, and what became of the lease.
    async fn next(&mut self) -> (IpAddr, Option<String>, LeaseChange) {
        loop {
            let event = next(&mut self.0).await;
            self.1 = event.id;
            if let EventKind::NetworkLease { network, address, mac, change, .. } = event.kind {
                assert_eq!(network, "one");
                return (address, mac, change);
            }
        }
    }
}

#[tokio::test]
async fn leases_of_both_families_are_told_as_they_are_given_and_end() {
    let (host, made) = (Host::new(), NetworkHost::new());
    let daemon = host.daemon_with(made.clone()).await;
    daemon.define_network("one", 1).await.unwrap();
    daemon.network("one", NetworkAction::Start).await.unwrap();
    let uuid = daemon.call(DescribeNetwork { network: "one".into() }).await.unwrap().uuid;
    let mut events = Told(daemon.subscribe(0).await, 0);
    let mut leases = file(&host, uuid);
    let [v4, v6]: [IpAddr; 2] = ["10.9.1.5", "fd00::5"].map(|address| address.parse().unwrap());
    let mac = |last: u8| Some(format!("52:54:00:00:00:0{last}"));

    leases.put(&lease("10.9.1.5", 1)).unwrap();
    assert_eq!(events.next().await, (v4, mac(1), LeaseChange::Given));
    leases.put(&lease("fd00::5", 0)).unwrap();
    assert_eq!(events.next().await, (v6, None, LeaseChange::Given));
    // More time is no news, and another client is.
    leases.put(&Lease { expires: None, ..lease("10.9.1.5", 1) }).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    leases.put(&lease("10.9.1.5", 2)).unwrap();
    assert_eq!(events.next().await, (v4, mac(1), LeaseChange::Ended));
    assert_eq!(events.next().await, (v4, mac(2), LeaseChange::Given));
    leases.remove(v6).unwrap();
    assert_eq!(events.next().await, (v6, None, LeaseChange::Ended));
    // One that ends by itself is noticed; in a second that is about to end it would be over already.
    let soon = Lease { expires: Some(seconds_now() + 2), ..lease("10.9.1.6", 3) };
    leases.put(&soon).unwrap();
    assert_eq!(events.next().await, (soon.address, mac(3), LeaseChange::Given));
    assert_eq!(events.next().await, (soon.address, mac(3), LeaseChange::Ended));

    // What the next daemon finds is no news; what it sees is.
    let last = events.1;
    drop((events, daemon));
    let daemon = host.daemon_with(made.clone()).await;
    let mut events = Told(daemon.subscribe(last).await, last);
    leases.put(&lease("10.9.1.7", 4)).unwrap();
    let other = "10.9.1.7".parse().unwrap();
    assert_eq!(events.next().await, (other, mac(4), LeaseChange::Given));
    daemon.network("one", NetworkAction::Stop).await.unwrap();
}
