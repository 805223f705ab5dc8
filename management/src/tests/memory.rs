//! Memory that guests are left with: while they run, in their definition, and after another daemon.

use super::rig::{Daemon, Host};
use crate::domain::Affects;
use crate::error::{Code, Error};
use crate::ops::{DumpXml, FindDomain, GetDomainStats, SetMemory, SetMemoryStatsPeriod};

const CURRENT: Affects = Affects { live: false, config: false };
const CONFIG: Affects = Affects { live: false, config: true };
const BOTH: Affects = Affects { live: true, config: true };

async fn set(daemon: &Daemon, memory: u64, affects: Affects) -> Result<(), Error> {
    daemon.call(SetMemory { domain: "web".into(), memory, affects }).await
}

async fn period(daemon: &Daemon, period: u32, affects: Affects) -> Result<(), Error> {
    daemon.call(SetMemoryStatsPeriod { domain: "web".into(), period, affects }).await
}

/// `<currentMemory>` as it runs, and as it is stored.
async fn current(daemon: &Daemon) -> [String; 2] {
    let mut found = [String::new(), String::new()];
    for (inactive, found) in [false, true].into_iter().zip(&mut found) {
        let xml = daemon.call(DumpXml { domain: "web".into(), inactive }).await.unwrap();
        let (_, rest) = xml.split_once("<currentMemory unit='KiB'>").unwrap();
        rest.split_once('<').unwrap().0.clone_into(found);
    }
    found
}

#[tokio::test]
async fn memory_is_set_where_it_is_meant_and_the_next_daemon_knows() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    set(&daemon, 40 << 10, CURRENT).await.unwrap();
    assert_eq!(current(&daemon).await, ["40960", "40960"], "it is off: its definition is meant");
    daemon.start("web").await.unwrap();
    set(&daemon, 50 << 10, CURRENT).await.unwrap();
    assert_eq!(current(&daemon).await, ["51200", "40960"]);
    let summary = daemon.call(FindDomain { domain: "web".into() }).await.unwrap();
    assert_eq!((summary.memory, summary.max_memory), (51200, 65536));
    let stats = daemon.call(GetDomainStats { domain: "web".into() }).await.unwrap();
    assert_eq!(stats.balloon.unwrap().memory, 50 << 20);
    set(&daemon, 44 << 10, BOTH).await.unwrap();
    period(&daemon, 7, CONFIG).await.unwrap();
    assert_eq!(current(&daemon).await, ["45056", "45056"]);
    drop(daemon);
    let daemon = host.daemon().await;
    assert_eq!(current(&daemon).await, ["45056", "45056"]);
    let stored = DumpXml { domain: "web".into(), inactive: true };
    assert!(daemon.call(stored).await.unwrap().contains("<stats period='7'/>"));
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_changes_nothing() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    let code = |result: Result<(), Error>| result.unwrap_err().code;
    assert_eq!(code(set(&daemon, 65537, CURRENT).await), Code::InvalidArgument);
    assert_eq!(code(set(&daemon, 0, CURRENT).await), Code::InvalidArgument);
    assert_eq!(code(set(&daemon, 40960, BOTH).await), Code::InvalidState, "it does not run");
    assert_eq!(current(&daemon).await, ["65536", "65536"]);
    daemon.define(host.xml_with("bare", "", "<memballoon model='none'/>")).await;
    let bare = SetMemoryStatsPeriod { domain: "bare".into(), period: 2, affects: CURRENT };
    assert_eq!(code(daemon.call(bare).await), Code::InvalidState);
}
