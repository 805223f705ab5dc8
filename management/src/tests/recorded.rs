//! Files that a daemon of an earlier version has left, in `recorded/`: this version goes on with them. They are
//! never changed; a new version of a file gets a recording of its own.

use std::fs;
use std::path::Path;

use super::rig::Host;
use crate::domain::record::Record;
use crate::ops::{DumpXml, ListNetworks, ListPools, ListSnapshots};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn the_files_of_version_1_are_read() {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/recorded");
    let host = Host::new();
    for kind in ["domains", "pools", "networks", "snapshots"] {
        copy(&recorded.join(kind), &host.config.state_dir.join(kind));
    }
    // Of a guest that ran when its host went down.
    let record = fs::read_to_string(recorded.join("record.json")).unwrap();
    let uuid = Record::from_text(&record).unwrap().uuid;
    let run_dir = host.path("run/domains").join(uuid.to_string());
    fs::create_dir_all(&run_dir).unwrap();
    fs::write(run_dir.join("record.json"), record).unwrap();

    let daemon = host.daemon().await;
    assert_eq!(daemon.names().await, ["off", "web"]);
    daemon.wait_for("web", "off", |state| !state.is_active()).await;
    let web = daemon.describe("web").await;
    assert_eq!((web.summary.uuid, web.summary.autostart), (uuid, true));
    let xml = daemon.call(DumpXml { domain: "web".into(), inactive: true }).await.unwrap();
    assert!(xml.contains("<title>One of version 1</title>"), "{xml}");
    let snapshots = daemon.call(ListSnapshots { domain: "off".into() }).await.unwrap();
    assert_eq!(snapshots.len(), 1);
    assert_eq!(daemon.call(ListPools).await.unwrap()[0].name, "pond");
    let networks = daemon.call(ListNetworks).await.unwrap();
    assert!(networks.iter().any(|network| network.name == "lab"));
    assert!(fs::read_dir(host.path("state/quarantine")).unwrap().next().is_none());
}
