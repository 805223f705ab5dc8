//! Volumes: how they are made, resized, refused and deleted.

use super::*;

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
