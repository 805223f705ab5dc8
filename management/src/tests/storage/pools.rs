//! Pools: what they are called, how long they live, and what else happens in their directories.

use super::*;

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
