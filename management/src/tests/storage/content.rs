//! What is in volumes: uploads, downloads, copies and what wipes it.

use super::*;

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
    // Nor does it become another by being brought here as somebody's backup.
    let forged = content(&daemon, "forged").await;
    for (name, format) in [("brought", Format::Raw), ("overlay", Format::Qcow2)] {
        daemon.create(volume_xml(name, format.name(), MIB, "")).await.unwrap();
        daemon.upload(name, forged.clone()).await;
        let found = daemon.volume(name).await.unwrap();
        assert_eq!((found.format, found.backing.is_some()), (format, format == Format::Qcow2));
    }
    assert_eq!(content(&daemon, "brought").await, forged);
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
