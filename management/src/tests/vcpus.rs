//! vCPUs that come and go: in the running guest, in its definition, and by a plan.

use super::rig::{Daemon, Host, next};
use crate::domain::{Affects, Sizes, Tuning};
use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::ops::{DumpXml, GetDomainStats, TuneDomain};
use crate::tests::plan::{apply, plan, said};

const NOW: Affects = Affects { live: false, config: false };
const LIVE: Affects = Affects { live: true, config: false };
const BOTH: Affects = Affects { live: true, config: true };

fn written(host: &Host, script: &str, vcpu: &str) -> String {
    host.xml_with("web", script, "").replace("<vcpu>2</vcpu>", vcpu)
}

async fn started(host: &Host, script: &str, vcpu: &str) -> Daemon {
    let daemon = host.daemon().await;
    daemon.define(written(host, script, vcpu)).await;
    daemon.start("web").await.unwrap();
    daemon
}

async fn set(daemon: &Daemon, sizes: Sizes, affects: Affects) -> Result<(), Error> {
    let change = Tuning { sizes, ..Tuning::default() };
    daemon.call(TuneDomain { domain: "web".into(), change, affects }).await
}

async fn vcpus(daemon: &Daemon, count: u16, affects: Affects) -> Result<(), Error> {
    set(daemon, Sizes { vcpus: Some(count), ..Sizes::default() }, affects).await
}

/// What the running and the stored definition say.
async fn has(daemon: &Daemon, part: &str) -> [bool; 2] {
    let mut found = [false; 2];
    for (found, inactive) in found.iter_mut().zip([false, true]) {
        let xml = daemon.call(DumpXml { domain: "web".into(), inactive }).await.unwrap();
        *found = xml.contains(part);
    }
    found
}

async fn online(daemon: &Daemon) -> Vec<bool> {
    let stats = daemon.call(GetDomainStats { domain: "web".into() }).await.unwrap();
    stats.vcpus.iter().map(|vcpu| vcpu.online).collect()
}

#[tokio::test]
async fn more_and_fewer_vcpus_are_set_where_they_are_meant() {
    let host = Host::new();
    let daemon = started(&host, "", "<vcpu current='1'>4</vcpu>").await;
    let mut events = daemon.subscribe(0).await;
    vcpus(&daemon, 3, LIVE).await.unwrap();
    assert_eq!(has(&daemon, "current='3'>4<").await, [true, false]);
    assert_eq!(online(&daemon).await, [true, true, true, false]);
    while next(&mut events).await.kind != (EventKind::VcpusChange { count: 3 }) {}
    vcpus(&daemon, 4, BOTH).await.unwrap();
    assert_eq!(has(&daemon, "current='4'>4<").await, [true, true], "they may go again");
    vcpus(&daemon, 2, NOW).await.unwrap();
    assert_eq!(has(&daemon, "current='2'>4<").await, [true, false]);
    // The next daemon finds what there is.
    drop(daemon);
    let daemon = host.daemon().await;
    assert_eq!(has(&daemon, "current='2'>4<").await, [true, false]);
    assert_eq!(online(&daemon).await, [true, true, false, false]);
}

#[tokio::test]
async fn a_guest_that_clings_to_its_vcpus_keeps_them_and_so_does_the_definition() {
    let host = Host::new();
    let daemon = started(&host, "clinging", "<vcpu current='2'>4</vcpu>").await;
    let refused = vcpus(&daemon, 1, BOTH).await.unwrap_err();
    assert!(refused.to_string().contains("does not do without"), "{refused}");
    assert_eq!(has(&daemon, "current='2'>4<").await, [true, true]);
    vcpus(&daemon, 4, BOTH).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_reason() {
    let host = Host::new();
    let daemon = started(&host, "", "<vcpu>2</vcpu>").await;
    let refused = vcpus(&daemon, 1, LIVE).await.unwrap_err();
    assert!(refused.to_string().contains("for good"), "{refused}");
    let most = Sizes { max_vcpus: Some(8), ..Sizes::default() };
    assert_eq!(set(&daemon, most, LIVE).await.unwrap_err().code, Code::InvalidState);
    let host = Host::new();
    let daemon = started(&host, "", "<vcpu current='1'>2</vcpu>").await;
    for count in [0, 3] {
        let refused = vcpus(&daemon, count, LIVE).await.unwrap_err();
        assert_eq!(refused.code, Code::InvalidArgument, "{refused}");
    }
    assert_eq!(has(&daemon, "current='1'>2<").await, [true, true]);
}

#[tokio::test]
async fn another_number_of_vcpus_is_planned_and_applied_live() {
    let host = Host::new();
    let daemon = started(&host, "", "<vcpu current='1'>4</vcpu>").await;
    for (vcpu, count) in [("<vcpu current='3'>4</vcpu>", 3), ("<vcpu>4</vcpu>", 4)] {
        let new = written(&host, "", vcpu);
        assert_eq!(said(&plan(&daemon, &new).await.unwrap()), ["live /domain/vcpu/@current"]);
        apply(&daemon, &new).await.unwrap();
        assert_eq!(online(&daemon).await.iter().filter(|online| **online).count(), count);
        assert_eq!(said(&plan(&daemon, &new).await.unwrap()), [""; 0]);
    }
    let more = said(&plan(&daemon, &written(&host, "", "<vcpu>8</vcpu>")).await.unwrap());
    assert!(more.iter().all(|line| line.starts_with("next-start")), "{more:?}");
}
