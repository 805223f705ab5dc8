//! A seed comes with its domain, and goes with it.

use std::fs;

use super::rig::{Daemon, Host};
use crate::cloud_init::CloudInit;
use crate::domain::State;
use crate::error::Code;
use crate::ops::{CreateDomain, DefineDomain, DumpXml, UndefineDomain};

fn documents(user_data: &str) -> Option<CloudInit> {
    Some(CloudInit { user_data: format!("#cloud-config\n{user_data}"), ..CloudInit::default() })
}

fn seeds(host: &Host) -> Vec<Vec<u8>> {
    let files = fs::read_dir(host.path("state/cloud-init")).into_iter().flatten();
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

async fn define(daemon: &Daemon, xml: String, cloud_init: Option<CloudInit>) {
    daemon.call(DefineDomain { xml, cloud_init, check_only: false }).await.unwrap();
}

async fn dump(daemon: &Daemon) -> String {
    daemon.call(DumpXml { domain: "web".into(), inactive: true }).await.unwrap()
}

fn holds(seed: &[u8], text: &str) -> bool {
    seed.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_defined_domain_has_its_seed_in_a_drive_until_it_is_forgotten() {
    let host = Host::new();
    let daemon = host.daemon().await;
    define(&daemon, host.xml("web", ""), documents("a: 1")).await;
    let xml = dump(&daemon).await;
    assert!(xml.contains("device=\"cdrom\"") || xml.contains("device='cdrom'"), "{xml}");
    assert!(xml.contains("state/cloud-init/") && xml.contains("<readonly"), "{xml}");
    let uuid = daemon.find("web").await.unwrap().uuid;
    assert!(holds(&seeds(&host)[0], &format!("instance-id: {uuid}")));

    // What was dumped is defined again: it goes on naming its seed, which can be replaced.
    define(&daemon, xml.clone(), None).await;
    assert!(holds(&seeds(&host)[0], "a: 1"));
    define(&daemon, xml.clone(), documents("a: 2")).await;
    assert!(holds(&seeds(&host)[0], "a: 2"));
    assert_eq!(dump(&daemon).await, xml, "there is no second drive");

    daemon.start("web").await.unwrap();
    daemon
        .call(UndefineDomain {
            domain: "web".into(),
            variables: None,
            managed_save: false,
            snapshots: false,
        })
        .await
        .unwrap();
    assert_eq!(seeds(&host).len(), 1, "its guest runs");
    daemon.destroy("web").await.unwrap();
    assert_eq!(seeds(&host), [] as [Vec<u8>; 0]);
}

#[tokio::test]
async fn a_seed_that_no_definition_names_any_more_goes() {
    let host = Host::new();
    let daemon = host.daemon().await;
    define(&daemon, host.xml("web", ""), documents("")).await;
    let uuid = daemon.find("web").await.unwrap().uuid;
    let without = host.xml("web", "").replace("<memory", &format!("<uuid>{uuid}</uuid><memory"));
    define(&daemon, without, None).await;
    assert_eq!(seeds(&host).len(), 0);
}

#[tokio::test]
async fn a_transient_domain_takes_its_seed_along() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let create = |script: &str, cloud_init| CreateDomain {
        xml: host.xml("web", script),
        cloud_init,
        paused: false,
        reset_variables: false,
    };
    daemon.call(create("", documents(""))).await.unwrap();
    assert!(matches!(daemon.state("web").await, State::Running(_)));
    assert_eq!(seeds(&host).len(), 1);
    daemon.destroy("web").await.unwrap();
    assert_eq!(seeds(&host).len(), 0);

    fs::remove_file(host.path("kernel")).unwrap();
    daemon.call(create("", documents(""))).await.unwrap_err();
    assert_eq!(seeds(&host).len(), 0, "nothing is left of a start that failed");
    let bad = Some(CloudInit { user_data: "a: 1".to_owned(), ..CloudInit::default() });
    let error = daemon.call(create("", bad)).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
}

#[tokio::test]
async fn what_a_daemon_that_died_left_is_removed_and_what_is_named_stays() {
    let host = Host::new();
    let daemon = host.daemon().await;
    define(&daemon, host.xml("web", ""), documents("")).await;
    let own = daemon.find("web").await.unwrap().uuid;
    drop(daemon);
    let dir = host.path("state/cloud-init");
    let orphan = uuid::Uuid::new_v4();
    fs::write(dir.join(format!("{orphan}.iso")), "written, and never named").unwrap();
    fs::write(dir.join(format!("{own}.tmp")), "half").unwrap();
    fs::write(dir.join("notes.iso"), "somebody's").unwrap();
    let _daemon = host.daemon().await;
    let mut left: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let mut expected = vec![format!("{own}.iso"), "notes.iso".to_owned()];
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn a_definition_that_cannot_be_read_keeps_its_seed() {
    let host = Host::new();
    let daemon = host.daemon().await;
    define(&daemon, host.xml("web", ""), documents("")).await;
    let uuid = daemon.find("web").await.unwrap().uuid;
    drop(daemon);
    for ending in ["xml", "prev"] {
        let _ = fs::write(host.path(&format!("state/domains/{uuid}.{ending}")), "<torn");
    }
    let _daemon = host.daemon().await;
    assert_eq!(seeds(&host).len(), 1);
}
