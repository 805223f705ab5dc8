//! Images that somebody needs are left alone, and who needs them is said.

use std::fs;

use image::qcow2::{CreateOptions, create};
use image::{FileStorage, Reference};

use super::rig::{Daemon, Host};
use crate::error::{Code, Error};
use crate::jobs::Phase;
use crate::ops::{
    ChangePool, CreateSnapshot, CreateVolume, DefinePool, DeleteVolume, DropManagedSave, GetJob,
    ListImageUsers, ManagedSave, PoolAction, ResizeVolume, UndefineDomain, WipeVolume,
};
use crate::storage::{VolumeRef, WipeAlgorithm};

const MIB: u64 = 1 << 20;

fn of(volume: &str) -> VolumeRef {
    VolumeRef::new("pool", volume)
}

impl Daemon {
    async fn delete_volume(&self, volume: &str) -> Result<(), Error> {
        self.call(DeleteVolume { volume: of(volume) }).await
    }

    async fn grow_volume(&self, volume: &str) -> Result<(), Error> {
        let (delta, allocate, shrink) = (true, false, false);
        let volume = of(volume);
        self.call(ResizeVolume { volume, capacity: MIB, delta, allocate, shrink }).await
    }

    async fn undefine(&self, name: &str) {
        let domain = name.into();
        let undefine =
            UndefineDomain { domain, variables: None, managed_save: false, snapshots: false };
        self.call(undefine).await.unwrap();
    }
}

/// A daemon with a volume in a pool, and beside the pool an image that lies on it.
async fn host_with_images() -> (Host, Daemon) {
    let host = Host::new();
    let daemon = host.daemon().await;
    let path = host.path("pool").display().to_string();
    let xml =
        format!("<pool type='dir'><name>pool</name><target><path>{path}</path></target></pool>");
    daemon.call(DefinePool { xml }).await.unwrap();
    let action = PoolAction::Start { build: true };
    daemon.call(ChangePool { pool: "pool".into(), action }).await.unwrap();
    let xml = format!(
        "<volume><name>base</name><capacity>{MIB}</capacity><allocation>0</allocation>\
         <target><format type='raw'/></target></volume>"
    );
    daemon.call(CreateVolume { pool: "pool".into(), xml, from: None }).await.unwrap();
    let file = fs::File::options().read(true).write(true).create_new(true).open(host.path("top"));
    let name = host.path("pool/base").display().to_string();
    let backing = Some(Reference { name, format: Some("raw".into()) });
    let options = CreateOptions { backing, ..CreateOptions::new(MIB) };
    create(&FileStorage::new(file.unwrap()).unwrap(), &options).unwrap();
    (host, daemon)
}

fn disk(host: &Host, image: &str, format: &str) -> String {
    let path = host.path(image).display().to_string();
    format!(
        "<disk type='file' device='disk'><driver name='qemu' type='{format}'/>\
         <source file='{path}'/><target dev='vda' bus='virtio'/></disk>"
    )
}

#[tokio::test]
async fn what_lies_below_a_disk_stays_whoever_else_knows_nothing_of_it() {
    let (host, daemon) = host_with_images().await;
    daemon.define(host.xml_with("web2", "", &disk(&host, "top", "qcow2"))).await;
    let expected =
        "volume \"base\" lies below disk vda of domain \"web2\", which would be lost with it";
    for error in [
        daemon.delete_volume("base").await.unwrap_err(),
        daemon.grow_volume("base").await.unwrap_err(),
        daemon
            .call(WipeVolume { volume: of("base"), algorithm: WipeAlgorithm::Zero })
            .await
            .unwrap_err(),
    ] {
        assert_eq!((error.code, error.message.as_str()), (Code::Busy, expected));
    }
    let users = daemon.call(ListImageUsers { path: host.path("pool/base") }).await.unwrap();
    let told: Vec<_> = users.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["lies below disk vda of domain \"web2\""]);
    drop(daemon);
    let daemon = host.daemon().await;
    assert_eq!(daemon.delete_volume("base").await.unwrap_err().message, expected);
    daemon.undefine("web2").await;
    daemon.delete_volume("base").await.unwrap();
}

#[tokio::test]
async fn a_snapshot_needs_what_it_goes_back_to() {
    let (host, daemon) = host_with_images().await;
    daemon.define(host.xml_with("web", "", &disk(&host, "pool/base", "raw"))).await;
    let create = CreateSnapshot {
        domain: "web".into(),
        xml: "<domainsnapshot><name>before</name></domainsnapshot>".into(),
        disk_only: true,
        reuse_external: false,
        no_metadata: false,
        quiesce: false,
        halt: false,
        live: false,
    };
    let job = daemon.call(create).await.unwrap().job;
    let wait = std::time::Duration::from_secs(20);
    let ended = daemon.call(GetJob { job: job.id, wait }).await.unwrap();
    assert_eq!(ended.phase, Phase::Done, "{ended:?}");
    let users = daemon.call(ListImageUsers { path: host.path("pool/base") }).await.unwrap();
    let told: Vec<_> = users.iter().map(ToString::to_string).collect();
    let snapshot = "is disk vda of snapshot \"before\" of domain \"web\"".to_owned();
    assert!(told.contains(&snapshot), "{told:?}");
    assert!(told.contains(&"lies below disk vda of domain \"web\"".to_owned()), "{told:?}");
    let error = daemon.delete_volume("base").await.unwrap_err();
    assert_eq!(error.code, Code::Busy);
    assert!(error.message.contains(&snapshot), "{error}");
}

/// Its file system is not mounted, say.
#[tokio::test]
async fn what_lies_below_an_image_that_cannot_be_seen_is_remembered() {
    let (host, daemon) = host_with_images().await;
    daemon.define(host.xml_with("web2", "", &disk(&host, "top", "qcow2"))).await;
    let path = host.path("pool/base");
    assert_eq!(daemon.call(ListImageUsers { path: path.clone() }).await.unwrap().len(), 1);
    fs::rename(host.path("top"), host.path("away")).unwrap();
    for _ in 0..2 {
        let error = daemon.delete_volume("base").await.unwrap_err();
        assert!(error.message.contains("lies below disk vda of domain \"web2\""), "{error}");
    }
    drop(daemon);
    let daemon = host.daemon().await;
    let error = daemon.delete_volume("base").await.unwrap_err();
    assert!(error.message.contains("lies below disk vda of domain \"web2\""), "{error}");
    // What it says itself when it is there again goes before.
    fs::rename(host.path("away"), host.path("top")).unwrap();
    let file = fs::File::options().read(true).write(true).open(host.path("top")).unwrap();
    create(&FileStorage::new(file).unwrap(), &CreateOptions::new(MIB)).unwrap();
    daemon.grow_volume("base").await.unwrap();
    daemon.undefine("web2").await;
    daemon.delete_volume("base").await.unwrap();
    assert_eq!(fs::read_to_string(host.path("state/images.json")).unwrap(), "{}");
}

#[tokio::test]
async fn whoever_has_a_domain_that_is_off_does_with_its_disk_what_he_likes() {
    let (host, daemon) = host_with_images().await;
    let own = disk(&host, "pool/base", "raw");
    daemon.define(host.xml_with("web", "", &own)).await;
    daemon.grow_volume("base").await.unwrap();
    // What is another's, too, is not his alone.
    daemon.define(host.xml_with("web2", "", &own)).await;
    let error = daemon.delete_volume("base").await.unwrap_err();
    let both = "volume \"base\" is disk vda of domain \"web\", is disk vda of domain \"web2\"";
    assert!(error.message.starts_with(both), "{error}");
    daemon.undefine("web2").await;
    daemon.delete_volume("base").await.unwrap();
}

#[tokio::test]
async fn a_saved_guest_finds_its_disk_as_it_was() {
    let (host, daemon) = host_with_images().await;
    daemon.define(host.xml_with("web", "", &disk(&host, "pool/base", "raw"))).await;
    daemon.start("web").await.unwrap();
    let save = ManagedSave {
        domain: "web".into(),
        running: None,
        bypass_cache: false,
        with_host: false,
        format: None,
    };
    let job = daemon.call(save).await.unwrap();
    let wait = std::time::Duration::from_secs(20);
    let ended = daemon.call(GetJob { job: job.id, wait }).await.unwrap();
    assert_eq!(ended.phase, Phase::Done, "{ended:?}");
    for error in [daemon.delete_volume("base").await, daemon.grow_volume("base").await] {
        let error = error.unwrap_err().message;
        let expected = "volume \"base\" is disk vda of the saved state of domain \"web\"";
        assert!(error.starts_with(expected), "{error}");
    }
    daemon.call(DropManagedSave { domain: "web".into() }).await.unwrap();
    daemon.grow_volume("base").await.unwrap();
}
