//! Pools, volumes, and the jobs that make them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use image::Format;

use super::rig::{Daemon, Host, next};
use crate::auth::Access;
use crate::error::{Code, Error};
use crate::events::{EventKind, PoolChange};
use crate::jobs::{Job, Phase};
use crate::ops::{
    AbortJob, ChangePool, CloneMode, CloneVolume, CreatePool, CreateVolume, DefinePool,
    DeleteVolume, DescribePool, DescribeVolume, DownloadVolume, DumpPoolXml, DumpXml, FindVolume,
    GetJob, ListJobs, ListPools, ListVolumes, MadeVolume, PoolAction, ResizeVolume, UploadVolume,
    WipeVolume,
};
use crate::storage::{Piece, VolumeRef, VolumeView, WipeAlgorithm};

const MIB: u64 = 1 << 20;

fn pool_xml(host: &Host, name: &str) -> String {
    let path = host.path(name).display().to_string();
    format!("<pool type='dir'><name>{name}</name><target><path>{path}</path></target></pool>")
}

fn volume_xml(name: &str, format: &str, capacity: u64, more: &str) -> String {
    format!(
        "<volume><name>{name}</name><capacity>{capacity}</capacity><allocation>0</allocation>\
         <target><format type='{format}'/></target>{more}</volume>"
    )
}

fn of(volume: &str) -> VolumeRef {
    VolumeRef::new("pool", volume)
}

impl Daemon {
    async fn pool(&self, host: &Host) {
        self.call(DefinePool { xml: pool_xml(host, "pool") }).await.unwrap();
        self.change(PoolAction::Start { build: true }).await.unwrap();
    }

    async fn change(&self, action: PoolAction) -> Result<(), Error> {
        self.call(ChangePool { pool: "pool".into(), action }).await
    }

    async fn job(&self, id: uuid::Uuid) -> Job {
        self.call(GetJob { job: id, wait: Duration::from_secs(20) }).await.unwrap()
    }

    /// Make it, and wait for whatever job makes it.
    async fn made(&self, made: Result<MadeVolume, Error>) -> Result<VolumeView, Error> {
        match made? {
            MadeVolume::Made(volume) => Ok(*volume),
            MadeVolume::Making(job) => {
                let ended = self.job(job.id).await;
                assert_eq!(ended.phase, Phase::Done, "{ended:?}");
                let (_, name) = ended.object.split_once('/').unwrap();
                self.call(DescribeVolume { volume: of(name) }).await
            }
        }
    }

    async fn create(&self, xml: String) -> Result<VolumeView, Error> {
        let made = self.call(CreateVolume { pool: "pool".into(), xml, from: None }).await;
        self.made(made).await
    }

    async fn clone(&self, from: &str, to: &str, mode: CloneMode) -> Result<VolumeView, Error> {
        let made = self.call(CloneVolume { volume: of(from), name: to.to_owned(), mode }).await;
        self.made(made).await
    }

    async fn volume(&self, name: &str) -> Result<VolumeView, Error> {
        self.call(DescribeVolume { volume: of(name) }).await
    }

    async fn volumes(&self) -> Vec<String> {
        let volumes = self.call(ListVolumes { pool: "pool".into() }).await.unwrap();
        volumes.into_iter().map(|volume| volume.name).collect()
    }

    async fn upload(&self, volume: &str, data: Vec<u8>) -> Job {
        let upload = UploadVolume { volume: of(volume), offset: 0, length: None };
        let mut upload = self.call(upload).await.unwrap();
        let job = upload.job;
        upload.write(data).await.unwrap();
        upload.finish().await.unwrap();
        self.job(job).await
    }

    async fn resize(&self, volume: &str, capacity: u64, shrink: bool) -> Result<(), Error> {
        let (volume, delta, allocate) = (of(volume), false, false);
        self.call(ResizeVolume { volume, capacity, delta, allocate, shrink }).await
    }
}

fn file(host: &Host, volume: &str) -> PathBuf {
    host.path("pool").join(volume)
}

/// What QEMU says of an image, where there is one to ask.
fn check(host: &Host, volume: &str) {
    let mut command = Command::new("qemu-img");
    match command.args(["check", "-q", "-f", "qcow2"]).arg(file(host, volume)).output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => {
            let storage = image::FileStorage::new(fs::File::open(file(host, volume)).unwrap());
            image::describe(&storage.unwrap(), Format::Qcow2).unwrap();
        }
    }
}

#[tokio::test]
async fn a_pool_lives_as_long_as_it_is_stored_or_active() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let defined = daemon.call(DefinePool { xml: pool_xml(&host, "pool") }).await.unwrap();
    assert!(!defined.active && defined.persistent && !defined.autostart);
    let error = daemon.change(PoolAction::Start { build: false }).await.unwrap_err();
    assert_eq!(error.code, Code::ResourceMissing);
    assert!(error.message.contains("does not exist"), "{error}");
    daemon.change(PoolAction::Start { build: true }).await.unwrap();
    for refused in [PoolAction::Undefine, PoolAction::Delete, PoolAction::Start { build: false }] {
        assert_eq!(daemon.change(refused).await.unwrap_err().code, Code::InvalidState);
    }
    let info = daemon.call(DescribePool { pool: defined.uuid.into() }).await.unwrap();
    assert!(info.capacity > 0 && info.available > 0, "{info:?}");
    let xml = DumpPoolXml { pool: "pool".into(), inactive: false };
    assert!(daemon.call(xml).await.unwrap().contains("<available unit='bytes'>"));
    daemon.change(PoolAction::SetAutostart(true)).await.unwrap();
    daemon.change(PoolAction::Stop).await.unwrap();
    daemon.change(PoolAction::Delete).await.unwrap();
    assert!(!host.path("pool").exists());
    daemon.change(PoolAction::Undefine).await.unwrap();
    assert_eq!(daemon.change(PoolAction::Undefine).await.unwrap_err().code, Code::NotFound);
    let transient = CreatePool { xml: pool_xml(&host, "pool"), build: true };
    assert!(!daemon.call(transient).await.unwrap().persistent);
    daemon.change(PoolAction::Stop).await.unwrap();
    assert_eq!(daemon.call(ListPools).await.unwrap(), []);
}

#[tokio::test]
async fn a_failed_start_of_a_transient_pool_leaves_nothing() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let transient = CreatePool { xml: pool_xml(&host, "pool"), build: false };
    daemon.call(transient.clone()).await.unwrap_err();
    assert_eq!(daemon.call(ListPools).await.unwrap(), []);
    fs::create_dir(host.path("pool")).unwrap();
    daemon.call(transient).await.unwrap();
}

#[tokio::test]
async fn names_and_directories_belong_to_one_pool() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    let same_name = pool_xml(&host, "pool");
    let same_dir = pool_xml(&host, "pool").replace("<name>pool<", "<name>other<");
    for xml in [same_name, same_dir] {
        assert_eq!(daemon.call(DefinePool { xml }).await.unwrap_err().code, Code::Exists);
    }
}

#[tokio::test]
async fn pools_come_back_as_they_were() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    daemon.create(volume_xml("a", "qcow2", MIB, "")).await.unwrap();
    let other = CreatePool { xml: pool_xml(&host, "transient"), build: true };
    daemon.call(other).await.unwrap();
    daemon.call(DefinePool { xml: pool_xml(&host, "idle") }).await.unwrap();
    let before = daemon.call(ListPools).await.unwrap();
    drop(daemon);
    // What a daemon leaves that died while it made a volume.
    let left = format!(".manor-{}.partial", uuid::Uuid::new_v4());
    fs::write(file(&host, &left), "half").unwrap();
    let daemon = host.daemon().await;
    let after = daemon.call(ListPools).await.unwrap();
    let facts = |pools: &[crate::storage::PoolView]| -> Vec<_> {
        pools.iter().map(|p| (p.name.clone(), p.active, p.persistent, p.volumes)).collect()
    };
    assert_eq!(facts(&after), facts(&before));
    assert!(!file(&host, &left).exists());
    fs::remove_dir_all(host.path("pool")).unwrap();
    drop(daemon);
    let daemon = host.daemon().await;
    assert!(!daemon.call(DescribePool { pool: "pool".into() }).await.unwrap().active);
}

#[tokio::test]
async fn volumes_are_made_as_asked() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    let raw = daemon.create(volume_xml("raw", "raw", 3 * MIB, "")).await.unwrap();
    assert_eq!((raw.format, raw.capacity, raw.allocation), (Format::Raw, 3 * MIB, 0));
    let whole = "<volume><name>whole</name><capacity unit='MiB'>2</capacity></volume>".to_owned();
    let whole = daemon.create(whole).await.unwrap();
    assert!(whole.allocation >= 2 * MIB, "{whole:?}");
    let more = "<backingStore><path>PATH</path><format type='raw'/></backingStore>"
        .replace("PATH", &raw.path.display().to_string());
    let top = daemon.create(volume_xml("top", "qcow2", 4 * MIB, &more)).await.unwrap();
    assert_eq!((top.format, top.capacity), (Format::Qcow2, 4 * MIB));
    assert_eq!(top.backing, Some((raw.path.clone(), Some("raw".into()))));
    check(&host, "top");
    let old = "<volume><name>old</name><capacity unit='MiB'>1</capacity><target>\
               <format type='qcow2'/><permissions><mode>0640</mode></permissions>\
               <compat>0.10</compat><clusterSize unit='KiB'>4</clusterSize></target></volume>";
    let old = daemon.create(old.to_owned()).await.unwrap();
    assert_eq!((old.compat.as_deref(), old.cluster_size), (Some("0.10"), Some(4096)));
    assert_eq!(old.mode, 0o640);
    check(&host, "old");
    assert_eq!(daemon.volumes().await, ["old", "raw", "top", "whole"]);
    let found = daemon.call(FindVolume { path: raw.path.clone() }).await.unwrap();
    assert_eq!(found.name, "raw");
    let xml = top.to_xml().unwrap();
    assert!(xml.contains("<volume type='file'>") && xml.contains("<compat>1.1</compat>"), "{xml}");
    // Nothing half made is left.
    let hidden = fs::read_dir(host.path("pool")).unwrap().flatten();
    assert!(!hidden.into_iter().any(|e| e.file_name().to_str().unwrap().starts_with('.')));
}

#[tokio::test]
async fn what_no_volume_can_be_is_refused_and_leaves_nothing() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    daemon.create(volume_xml("a", "raw", MIB, "")).await.unwrap();
    let below = |path: &str| format!("<backingStore><path>{path}</path></backingStore>");
    for (xml, code, says) in [
        (volume_xml("a", "raw", MIB, ""), Code::Exists, "already"),
        (volume_xml(".a", "raw", MIB, ""), Code::InvalidXml, "hidden"),
        (volume_xml("a/b", "raw", MIB, ""), Code::InvalidXml, "without '/'"),
        (volume_xml("b", "vmdk", MIB, ""), Code::Unsupported, "vmdk"),
        (volume_xml("b", "qcow2", MIB, &below("/etc/shadow")), Code::InvalidXml, "no volume"),
        (volume_xml("b", "raw", MIB, &below("/x")), Code::InvalidXml, "nothing below"),
        ("<volume><name>b</name></volume>".into(), Code::InvalidXml, "capacity"),
        (
            "<volume><name>b</name><capacity>9</capacity><target><format type='qcow2'/>\
             <clusterSize>7</clusterSize></target></volume>"
                .into(),
            Code::InvalidArgument,
            "cluster",
        ),
    ] {
        let error = daemon.create(xml).await.unwrap_err();
        assert_eq!(error.code, code, "{}", error.chain());
        assert!(error.chain().contains(says), "{}", error.chain());
    }
    assert_eq!(fs::read_dir(host.path("pool")).unwrap().count(), 1);
    daemon.change(PoolAction::Stop).await.unwrap();
    let error = daemon.create(volume_xml("b", "raw", MIB, "")).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidState);
    assert!(error.message.contains("pool-start pool"), "{error}");
}

fn pattern(len: u64) -> Vec<u8> {
    (0..len).map(|at| (at / 1024 % 251) as u8 + 1).collect()
}

async fn content(daemon: &Daemon, volume: &str) -> Vec<u8> {
    let download = DownloadVolume { volume: of(volume), offset: 0, length: None };
    let mut download = daemon.call(download).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = download.next().await {
        all.extend(piece.unwrap());
    }
    all
}

#[tokio::test]
async fn what_is_uploaded_is_cloned_converted_and_downloaded() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    daemon.create(volume_xml("raw", "raw", 3 * MIB, "")).await.unwrap();
    let mut data = pattern(3 * MIB);
    data[MIB as usize..2 * MIB as usize].fill(0);
    let job = daemon.upload("raw", data.clone()).await;
    assert_eq!((job.phase, job.kind.as_str()), (Phase::Done, "volume-upload"));
    let raw = daemon.volume("raw").await.unwrap();
    assert!(raw.allocation <= 2 * MIB + 65536, "zeros are holes: {raw:?}");
    daemon.clone("raw", "copy", CloneMode::Copy).await.unwrap();
    assert_eq!(content(&daemon, "copy").await, data);
    let convert = CreateVolume {
        pool: "pool".into(),
        xml: volume_xml("converted", "qcow2", 5 * MIB, ""),
        from: Some(of("raw")),
    };
    let made = daemon.call(convert).await;
    let converted = daemon.made(made).await.unwrap();
    assert_eq!((converted.format, converted.capacity), (Format::Qcow2, 5 * MIB));
    check(&host, "converted");
    let back = CreateVolume {
        pool: "pool".into(),
        xml: volume_xml("back", "raw", 0, ""),
        from: Some(of("converted")),
    };
    let made = daemon.call(back).await;
    assert_eq!(daemon.made(made).await.unwrap().capacity, 5 * MIB);
    let mut longer = data.clone();
    longer.resize(5 * MIB as usize, 0);
    assert_eq!(content(&daemon, "back").await, longer);
    // On top of it, and then out of the whole chain again.
    let top = daemon.clone("converted", "top", CloneMode::Overlay).await.unwrap();
    assert_eq!(top.backing, Some((converted.path, Some("qcow2".into()))));
    let flat = daemon.clone("top", "flat", CloneMode::Copy).await.unwrap();
    assert_eq!((flat.backing, flat.capacity), (None, 5 * MIB));
    check(&host, "flat");
    // An image that was uploaded is what it is.
    let bytes = fs::read(file(&host, "flat")).unwrap();
    daemon.upload("copy", bytes).await;
    assert_eq!(daemon.volume("copy").await.unwrap().format, Format::Qcow2);
    assert!(daemon.call(ListJobs).await.unwrap().iter().all(|job| job.phase == Phase::Done));
}

#[tokio::test]
async fn a_raw_volume_stays_raw_whatever_its_guest_writes() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    daemon.create(volume_xml("victim", "raw", MIB, "")).await.unwrap();
    daemon.create(volume_xml("forged", "raw", MIB, "")).await.unwrap();
    // The guest's own header, which names its neighbour.
    let victim = file(&host, "victim").display().to_string();
    let mut options = image::qcow2::CreateOptions::new(MIB);
    options.backing = Some(image::Reference { name: victim, format: Some("raw".into()) });
    let memory = image::MemoryStorage::default();
    image::qcow2::create(&memory, &options).unwrap();
    let mut header = vec![0; 65536];
    image::Storage::read(&memory, &mut header, 0).unwrap();
    let disk = fs::File::options().write(true).open(file(&host, "forged")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&disk, &header, 0).unwrap();
    daemon.change(PoolAction::Refresh).await.unwrap();
    let forged = daemon.volume("forged").await.unwrap();
    assert_eq!((forged.format, forged.backing), (Format::Raw, None));
    drop(daemon);
    let daemon = host.daemon().await;
    assert_eq!(daemon.volume("forged").await.unwrap().format, Format::Raw);
    let clone = daemon.clone("forged", "clone", CloneMode::Copy).await.unwrap();
    assert_eq!((clone.format, clone.backing), (Format::Raw, None));
}

#[tokio::test]
async fn a_chain_that_leaves_the_pools_is_not_followed() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    fs::write(host.path("secret"), vec![7; MIB as usize]).unwrap();
    for (name, backing) in [("outside", "../secret"), ("loop", "loop"), ("remote", "nbd:host:1")] {
        let made =
            fs::File::options().read(true).write(true).create_new(true).open(file(&host, name));
        let storage = image::FileStorage::new(made.unwrap());
        let mut options = image::qcow2::CreateOptions::new(MIB);
        let format = Some("qcow2".to_owned());
        options.backing = Some(image::Reference { name: backing.to_owned(), format });
        image::qcow2::create(&storage.unwrap(), &options).unwrap();
    }
    daemon.change(PoolAction::Refresh).await.unwrap();
    for name in ["outside", "loop", "remote"] {
        let clone = CloneVolume { volume: of(name), name: "x".into(), mode: CloneMode::Copy };
        let MadeVolume::Making(job) = daemon.call(clone).await.unwrap() else {
            panic!("no job");
        };
        let job = daemon.job(job.id).await;
        assert_eq!(job.phase, Phase::Failed, "{name}");
        // Nor does a guest get to see what lies there.
        let disk = format!(
            "<disk type='volume'><driver name='qemu' type='qcow2'/>\
             <source pool='pool' volume='{name}'/><target dev='vda' bus='virtio'/></disk>"
        );
        daemon.define(host.xml_with(name, "", &disk)).await;
        let error = daemon.start(name).await.unwrap_err();
        assert_eq!(error.code, Code::ResourceMissing, "{}", error.chain());
    }
    // The failed jobs left nothing.
    assert_eq!(fs::read_dir(host.path("pool")).unwrap().count(), 3);
}

#[tokio::test]
async fn volumes_are_resized() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    daemon.create(volume_xml("raw", "raw", 2 * MIB, "")).await.unwrap();
    daemon.create(volume_xml("qcow2", "qcow2", 2 * MIB, "")).await.unwrap();
    for name in ["raw", "qcow2"] {
        daemon.resize(name, 4 * MIB, false).await.unwrap();
        assert_eq!(daemon.volume(name).await.unwrap().capacity, 4 * MIB);
        let error = daemon.resize(name, MIB, false).await.unwrap_err();
        assert!(error.message.contains("--shrink"), "{error}");
    }
    check(&host, "qcow2");
    daemon.resize("raw", MIB, true).await.unwrap();
    assert_eq!(daemon.volume("raw").await.unwrap().capacity, MIB);
    assert_eq!(daemon.resize("qcow2", MIB, true).await.unwrap_err().code, Code::InvalidArgument);
    let by = |delta, shrink| ResizeVolume {
        volume: of("raw"),
        capacity: u64::MAX,
        delta,
        allocate: false,
        shrink,
    };
    for shrink in [true, false] {
        daemon.call(by(true, shrink)).await.unwrap_err();
    }
}

#[tokio::test]
async fn what_a_volumes_file_does_not_keep_comes_as_a_hole() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    daemon.create(volume_xml("raw", "raw", 2 * MIB, "")).await.unwrap();
    let file = fs::OpenOptions::new().write(true).open(host.path("pool").join("raw")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 65536], MIB).unwrap();
    let volume = of("raw");
    let asked = DownloadVolume { volume, offset: 4096, length: None };
    let mut download = daemon.call(asked).await.unwrap();
    let (mut at, mut data) = (4096, Vec::new());
    while let Some(piece) = download.next_or_hole().await {
        at += match piece.unwrap() {
            Piece::Hole(length) => length,
            Piece::Data(bytes) => {
                data.push((at, bytes.len()));
                bytes.len() as u64
            }
        };
    }
    assert_eq!((at, data), (2 * MIB, vec![(MIB, 65536)]));
}

#[tokio::test]
async fn a_wiped_volume_is_empty_and_as_large_as_it_was() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    daemon.create(volume_xml("raw", "raw", 2 * MIB, "")).await.unwrap();
    daemon.upload("raw", pattern(2 * MIB)).await;
    let from = Some(of("raw"));
    let xml = volume_xml("qcow2", "qcow2", 2 * MIB, "");
    let made = daemon.call(CreateVolume { pool: "pool".into(), xml, from }).await;
    daemon.made(made).await.unwrap();
    for (name, algorithm) in [("raw", WipeAlgorithm::Dod), ("qcow2", WipeAlgorithm::Trim)] {
        let job = daemon.call(WipeVolume { volume: of(name), algorithm }).await.unwrap();
        assert_eq!(daemon.job(job.id).await.phase, Phase::Done);
        let after = daemon.volume(name).await.unwrap();
        assert_eq!(after.capacity, 2 * MIB);
        assert!(after.allocation < MIB, "{after:?}");
    }
    assert!(content(&daemon, "raw").await.iter().all(|byte| *byte == 0));
    check(&host, "qcow2");
}

#[tokio::test]
async fn a_volume_in_use_is_left_alone_and_its_domain_is_named() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    daemon.create(volume_xml("base", "raw", MIB, "")).await.unwrap();
    daemon.clone("base", "top", CloneMode::Overlay).await.unwrap();
    let disk = "<disk type='volume'><driver name='qemu' type='qcow2'/>\
                <source pool='pool' volume='top'/><target dev='vda' bus='virtio'/></disk>";
    daemon.define(host.xml_with("web", "", disk)).await;
    daemon.start("web").await.unwrap();
    let shown = DumpXml { domain: "web".into(), inactive: false };
    let shown = daemon.call(shown).await.unwrap();
    assert!(shown.contains("<disk type='volume'"), "{shown}");
    assert!(shown.contains("pool='pool' volume='top'"), "{shown}");
    let error = daemon.call(DeleteVolume { volume: of("top") }).await.unwrap_err();
    assert_eq!(error.code, Code::Locked);
    assert_eq!(error.message, "volume \"top\" is in use by domain \"web\"");
    for error in [
        daemon.resize("top", 2 * MIB, false).await.unwrap_err(),
        daemon
            .call(WipeVolume { volume: of("top"), algorithm: WipeAlgorithm::Zero })
            .await
            .unwrap_err(),
        daemon.clone("top", "copy", CloneMode::Copy).await.unwrap_err(),
    ] {
        assert!(error.message.ends_with("is in use by domain \"web\""), "{error}");
    }
    let error = daemon.call(DeleteVolume { volume: of("base") }).await.unwrap_err();
    assert_eq!(error.code, Code::Busy);
    assert!(error.message.contains("below volume \"top\""), "{error}");
    daemon.destroy("web").await.unwrap();
    daemon.call(DeleteVolume { volume: of("top") }).await.unwrap();
    daemon.call(DeleteVolume { volume: of("base") }).await.unwrap();
    assert_eq!(daemon.volumes().await, Vec::<String>::new());
    let error = daemon.start("web").await.unwrap_err();
    assert_eq!(error.code, Code::ResourceMissing, "{error}");
    daemon.change(PoolAction::Stop).await.unwrap();
    let error = daemon.start("web").await.unwrap_err();
    assert!(error.message.contains("pool-start pool"), "{error}");
}

#[tokio::test]
async fn an_aborted_or_broken_upload_ends_its_job_and_frees_the_volume() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    daemon.create(volume_xml("v", "raw", MIB, "")).await.unwrap();
    let upload = UploadVolume { volume: of("v"), offset: 0, length: Some(MIB) };
    let mut going = daemon.call(upload.clone()).await.unwrap();
    going.write(vec![1; 4096]).await.unwrap();
    let busy = daemon.call(DeleteVolume { volume: of("v") }).await.unwrap_err();
    assert_eq!(busy.code, Code::Busy);
    assert!(daemon.change(PoolAction::Stop).await.unwrap_err().message.contains("busy"));
    let job = daemon.call(GetJob { job: going.job, wait: Duration::ZERO }).await.unwrap();
    assert_eq!((job.phase, job.total), (Phase::Running, MIB));
    daemon.call(AbortJob { job: going.job }).await.unwrap();
    going.write(vec![1; 4096]).await.unwrap_err();
    let id = going.job;
    drop(going);
    assert_eq!(daemon.job(id).await.phase, Phase::Cancelled);
    let broken = daemon.call(upload).await.unwrap();
    let id = broken.job;
    drop(broken);
    let job = daemon.job(id).await;
    assert_eq!((job.phase, job.error.as_deref()), (Phase::Failed, Some("the upload broke off")));
    daemon.call(DeleteVolume { volume: of("v") }).await.unwrap();
}

#[tokio::test]
async fn readers_see_pools_and_not_what_guests_keep() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    daemon.create(volume_xml("v", "raw", MIB, "")).await.unwrap();
    let reader = crate::Caller::new("reader", Access::Read);
    let manager = &daemon.manager;
    manager.call(&reader, ListVolumes { pool: "pool".into() }).await.unwrap();
    let download = DownloadVolume { volume: of("v"), offset: 0, length: None };
    let error = manager.call(&reader, download).await.err().unwrap();
    assert_eq!(error.code, Code::Denied);
    let error = manager.call(&reader, DeleteVolume { volume: of("v") }).await.unwrap_err();
    assert_eq!(error.code, Code::Denied);
}

#[tokio::test]
async fn a_damaged_header_is_told_and_costs_its_volume_alone() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    daemon.create(volume_xml("good", "qcow2", MIB, "")).await.unwrap();
    for (name, tail) in [("cut", 0), ("wild", 4096)] {
        let mut bytes = b"QFI\xfb\0\0\0\x03".to_vec();
        bytes.resize(8 + tail, 0xff);
        fs::write(file(&host, name), bytes).unwrap();
    }
    daemon.change(PoolAction::Refresh).await.unwrap();
    assert_eq!(daemon.volumes().await, ["cut", "good", "wild"]);
    for name in ["cut", "wild"] {
        let damaged = daemon.volume(name).await.unwrap();
        assert!(damaged.damaged.is_some_and(|reason| reason.contains("qcow2")), "{name}");
        let clone = CloneVolume { volume: of(name), name: "x".into(), mode: CloneMode::Copy };
        let error = daemon.call(clone).await.unwrap_err();
        assert_eq!(error.code, Code::ResourceMissing);
        daemon.resize(name, 2 * MIB, false).await.unwrap_err();
        daemon.call(DeleteVolume { volume: of(name) }).await.unwrap();
    }
    assert_eq!(daemon.volumes().await, ["good"]);
}

/// Without a refresh, and with an event for each.
#[tokio::test]
async fn what_others_do_in_a_directory_is_seen() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    let mut events = daemon.subscribe(0).await;
    let names = async || {
        let volumes = daemon.call(ListVolumes { pool: "pool".into() }).await.unwrap();
        volumes.into_iter().map(|volume| volume.name).collect::<Vec<_>>()
    };
    assert_eq!(names().await, [""; 0]);
    fs::write(file(&host, "a"), "content").unwrap();
    fs::write(file(&host, "b"), "content").unwrap();
    assert_eq!(names().await, ["a", "b"]);
    fs::rename(file(&host, "b"), file(&host, "c")).unwrap();
    let volume = VolumeRef::new("pool", "c");
    assert_eq!(daemon.call(DescribeVolume { volume }).await.unwrap().capacity, 7);
    fs::remove_file(file(&host, "a")).unwrap();
    let found = FindVolume { path: file(&host, "a") };
    assert_eq!(daemon.call(found).await.unwrap_err().code, Code::NotFound);
    assert_eq!(names().await, ["c"]);
    let mut said = Vec::new();
    while said.len() < 5 {
        let event = next(&mut events).await;
        if let EventKind::Pool { change, volume: Some(volume), .. } = &event.kind {
            said.push((*change, volume.clone()));
        }
    }
    let is = |change, name: &str| said.contains(&(change, name.to_owned()));
    for name in ["a", "b", "c"] {
        assert!(is(PoolChange::VolumeCreated, name), "{name}: {said:?}");
        assert!(name == "c" || is(PoolChange::VolumeDeleted, name), "{name}: {said:?}");
    }
    // A directory that rests is not read again, whatever its files are like.
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    fs::File::open(host.path("pool")).unwrap().set_modified(old).unwrap();
    assert_eq!(names().await, ["c"]);
    fs::write(file(&host, "d"), "content").unwrap();
    fs::File::open(host.path("pool")).unwrap().set_modified(old).unwrap();
    assert_eq!(names().await, ["c"]);
}

#[tokio::test]
async fn a_refresh_removes_what_was_half_made_and_is_nobodys() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.pool(&host).await;
    let id = uuid::Uuid::new_v4();
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    let names = [format!(".web.img.{id}.partial"), format!(".manor-{id}.partial")];
    let others = [".hidden", "web.partial", ".web.1.partial"].map(str::to_owned);
    for name in names.iter().chain(&others) {
        fs::write(file(&host, name), "half").unwrap();
        fs::File::options().write(true).open(file(&host, name)).unwrap().set_modified(old).unwrap();
    }
    let fresh = format!(".web.img.{}.partial", uuid::Uuid::new_v4());
    fs::write(file(&host, &fresh), "half").unwrap();
    let refresh = ChangePool { pool: "pool".into(), action: PoolAction::Refresh };
    daemon.call(refresh).await.unwrap();
    let there = |name: &String| file(&host, name).exists();
    assert!(!names.iter().any(there));
    assert!(others.iter().all(there) && there(&fresh));
}
