//! A daemon that is killed at every act of a copy's beginning: the copy's file is an image or is not there,
//! and the next copy succeeds.

use std::path::Path;

use super::doomed::{Part, doomed};
use super::rig::{Daemon, Host};
use crate::domain::{BlockJobSpec, State};
use crate::error::Error;
use crate::ops::{DefineDomain, ListBlockJobs, StartBlockJob};

const ROLE: &str = "MANOR_TEST_COPYING_DAEMON";

async fn copy(daemon: &Daemon, dir: &Path) -> Result<(), Error> {
    let path = dir.join("copy.qcow2");
    let reuse = path.exists();
    let spec = BlockJobSpec::Copy { path, format: Some("qcow2".to_owned()), shallow: false, reuse };
    let (domain, disk) = ("web".into(), "vda".to_owned());
    daemon.call(StartBlockJob { domain, disk, spec, bandwidth: 0 }).await.map(drop)
}

/// The daemon to be killed: a process of its own, started by the test below.
#[tokio::test]
async fn plays_the_daemon_when_it_is_started_as_one() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (_host, daemon, own) = doomed(&role).await;
    let xml = std::fs::read_to_string(own.join("web.xml")).unwrap();
    daemon.call(DefineDomain { xml, cloud_init: None, check_only: false }).await.unwrap();
    daemon.start("web").await.unwrap();
    std::fs::write(own.join("started"), "").unwrap();
    copy(&daemon, &own).await.unwrap();
    std::fs::write(own.join("survived"), "").unwrap();
}

#[test]
fn a_daemon_killed_while_a_copy_begins_leaves_an_image_or_nothing() {
    let test = "tests::copy_crash::plays_the_daemon_when_it_is_started_as_one";
    let host = async || {
        let host = Host::new();
        let disk = format!(
            "<disk type='file'><source file='{}'/><target dev='vda' bus='virtio'/></disk>",
            host.path("disk.img").display()
        );
        std::fs::write(host.path("web.xml"), host.xml_with("web", "", &disk)).unwrap();
        host
    };
    let mut seen = [false; 2];
    let check = async |host: &Host, when: &str| check(host, &mut seen, when).await;
    Part { test, role: ROLE }.dies_at_every_act(1, host, check);
    assert_eq!(seen, [true, true]);
}

/// Each file and its content, if the guest was started; whether a copy was seen that is not there, and one
/// that is, goes into `seen`.
async fn check(host: &Host, seen: &mut [bool; 2], when: &str) {
    let started = host.path("started").exists();
    let daemon = host.daemon().await;
    if daemon.names().await.is_empty() {
        return;
    }
    daemon.wait_for("web", "known", |state| state != State::Unknown).await;
    if !daemon.state("web").await.is_active() {
        return;
    }
    if started {
        let files = host.dir.path().read_dir().unwrap().flatten();
        let names: Vec<_> = files.map(|file| file.file_name()).collect();
        let partial = names.iter().find(|name| name.to_string_lossy().ends_with(".partial"));
        assert_eq!(partial, None, "{when}");
        let made = std::fs::read(host.path("copy.qcow2")).ok();
        seen[usize::from(made.is_some())] = true;
        assert!(made.is_none_or(|image| image.starts_with(b"QFI\xfb")), "{when}");
        if daemon.call(ListBlockJobs { domain: "web".into() }).await.unwrap().is_empty() {
            let copied = copy(&daemon, host.dir.path()).await;
            copied.unwrap_or_else(|error| panic!("{when}: {}", error.chain()));
        }
    }
    daemon.destroy("web").await.unwrap();
}
