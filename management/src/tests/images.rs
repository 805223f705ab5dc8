//! Disks whose images have others below them.

use std::time::Duration;

use image::qcow2::{CreateOptions, create};
use image::{FileStorage, Reference, Storage as _};

use super::rig::{Daemon, Host};
use crate::domain::BlockJobSpec;
use crate::error::{Code, Error};
use crate::jobs::{Job, Phase};
use crate::ops::{DumpXml, GetJob, PlanDomain, StartBlockJob};

/// An image of `host` that names another one.
fn make(host: &Host, name: &str, backing: Option<(&str, Option<&str>)>) {
    let file = std::fs::File::options();
    let file =
        file.clone().read(true).write(true).create(true).truncate(true).open(host.path(name));
    let mut options = CreateOptions::new(1 << 20);
    options.backing = backing.map(|(name, format)| Reference {
        name: name.to_owned(),
        format: format.map(str::to_owned),
    });
    create(&FileStorage::new(file.unwrap()).unwrap(), &options).unwrap();
}

fn disk(host: &Host, image: &str, dev: &str, more: &str) -> String {
    let path = host.path(image).display().to_string();
    format!(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>\
         <source file='{path}'/>{more}<target dev='{dev}' bus='virtio'/></disk>"
    )
}

async fn start(host: &Host, daemon: &Daemon, name: &str, devices: &str) -> Result<(), Error> {
    daemon.define(host.xml_with(name, "", devices)).await;
    daemon.start(name).await
}

#[tokio::test]
async fn the_chain_is_opened_shown_and_locked() {
    let host = Host::new();
    let daemon = host.daemon().await;
    std::fs::write(host.path("base.raw"), vec![0; 1 << 20]).unwrap();
    make(&host, "middle", Some(("base.raw", Some("raw"))));
    let middle = host.path("middle").display().to_string();
    for top in ["one", "other"] {
        make(&host, top, Some((&middle, Some("qcow2"))));
    }
    // Two guests can share what lies below.
    start(&host, &daemon, "one", &disk(&host, "one", "vda", "")).await.unwrap();
    start(&host, &daemon, "other", &disk(&host, "other", "vda", "")).await.unwrap();
    let shown = DumpXml { domain: "one".into(), inactive: false };
    let shown = daemon.call(shown).await.unwrap();
    let base = host.path("base.raw").display().to_string();
    let expected = format!(
        "      <backingStore type='file' index='2'>\n        <format type='qcow2'/>\n        \
         <source file='{middle}'/>\n        <backingStore type='file' index='3'>\n          \
         <format type='raw'/>\n          <source file='{base}'/>\n          <backingStore/>\n        \
         </backingStore>\n      </backingStore>\n"
    );
    assert!(shown.contains(&expected), "{shown}");
    // Of the images below nobody wrote anything, so a plan has nothing to say of them.
    let xml = daemon.call(DumpXml { domain: "one".into(), inactive: true }).await.unwrap();
    let plan = daemon.call(PlanDomain { domain: "one".into(), xml }).await.unwrap();
    assert_eq!(plan.changes, []);
    // Nobody writes to it meanwhile.
    let error =
        start(&host, &daemon, "writer", &disk(&host, "middle", "vda", "")).await.unwrap_err();
    assert_eq!(error.code, Code::Locked, "{error}");
    daemon.destroy("one").await.unwrap();
    daemon.destroy("other").await.unwrap();
    daemon.start("writer").await.unwrap();
}

#[tokio::test]
async fn the_definition_can_say_what_lies_below() {
    let host = Host::new();
    let daemon = host.daemon().await;
    std::fs::write(host.path("moved.raw"), vec![0; 1 << 20]).unwrap();
    make(&host, "top", Some(("gone.raw", None)));
    let moved = host.path("moved.raw").display().to_string();
    let store = format!(
        "<backingStore type='file'><format type='raw'/><source file='{moved}'/><backingStore/>\
         </backingStore>"
    );
    start(&host, &daemon, "web", &disk(&host, "top", "vda", &store)).await.unwrap();
    let error = start(&host, &daemon, "cut", &disk(&host, "top", "vdb", "<backingStore/>")).await;
    let error = error.unwrap_err();
    assert!([Code::ResourceMissing, Code::Locked].contains(&error.code), "{error}");
}

#[tokio::test]
async fn what_a_strangers_image_names_is_refused_by_name() {
    let host = Host::new();
    let daemon = host.daemon().await;
    std::fs::write(host.path("base"), vec![0; 1 << 20]).unwrap();
    std::fs::write(host.path("noise"), vec![1; 4096]).unwrap();
    make(&host, "no-format", Some(("base", None)));
    make(&host, "json", Some(("json:{\"driver\":\"raw\"}", Some("raw"))));
    make(&host, "nbd", Some(("nbd:unix:/run/x", Some("raw"))));
    make(&host, "lost", Some(("nowhere", Some("raw"))));
    make(&host, "other-format", Some(("base", Some("cloop"))));
    make(&host, "not-qcow2", Some(("base", Some("qcow2"))));
    make(&host, "loop", Some(("pool", Some("qcow2"))));
    make(&host, "pool", Some(("loop", Some("qcow2"))));
    make(&host, "device", Some(("/dev/null", Some("raw"))));
    make(&host, "directory", Some((".", Some("raw"))));
    make(&host, "pipe", Some(("fifo", Some("raw"))));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        host.path("fifo"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    make(&host, "circle", Some(("link", Some("raw"))));
    std::os::unix::fs::symlink("link", host.path("link")).unwrap();
    make(&host, "itself", Some(("itself", Some("qcow2"))));
    for number in 0..=200 {
        let below = format!("deep{}", number + 1);
        make(&host, &format!("deep{number}"), Some((&below, Some("qcow2"))));
    }
    make(&host, "encrypted", None);
    let extent =
        "# Disk DescriptorFile\ncreateType=\"monolithicFlat\"\nRW 1 FLAT \"/etc/passwd\" 0\n";
    std::fs::write(host.path("elsewhere"), extent).unwrap();
    let file = std::fs::File::options().write(true).open(host.path("encrypted")).unwrap();
    FileStorage::new(file).unwrap().write(&2_u32.to_be_bytes(), 32).unwrap();
    for (number, (image, words)) in (0..).zip([
        ("no-format", "does not say which format its backing image \"base\" has"),
        ("json", "begins with \"json\":, and only files are followed"),
        ("nbd", "begins with \"nbd\":, and only files are followed"),
        ("lost", "what lies below it: image"),
        ("lost", "nowhere does not exist"),
        ("directory", "is a directory; it must be a regular file or a block device"),
        ("pipe", "fifo is a FIFO; it must be a regular file or a block device"),
        ("circle", "what lies below it: "),
        ("itself", "it lies below itself"),
        ("deep0", "deep200: there are more than 200 images on top of each other"),
        ("other-format", "there is no image format \"cloop\""),
        ("not-qcow2", "base: this is no qcow2 image"),
        ("loop", "it lies below itself"),
        ("device", "/dev/null is a character device"),
        ("encrypted", "it uses LUKS encryption"),
        ("noise", "noise: this is no qcow2 image"),
        ("elsewhere", "its data lies in /etc/passwd, which is not beside it"),
    ]) {
        let name = format!("guest{number}");
        let disk = disk(&host, image, "vda", "");
        let disk = if image == "elsewhere" { disk.replace("qcow2", "vmdk") } else { disk };
        let error = start(&host, &daemon, &name, &disk).await.unwrap_err();
        assert!(error.message.contains(words), "{image}: {error}");
        let about = host.path(image).display().to_string();
        let below = ["not-qcow2", "deep0"].contains(&image);
        assert!(error.message.contains(&about) || below, "{error}");
    }
    assert!(host.run_dirs().is_empty(), "something was left behind");
}

fn link(host: &Host, name: &str) -> String {
    let file = std::fs::File::open(host.path(name)).unwrap();
    let found = image::qcow2::describe(&FileStorage::new(file).unwrap()).unwrap();
    found.backing.unwrap().name
}

async fn ended(daemon: &Daemon, job: Job) -> Phase {
    let wait = Duration::from_secs(60);
    daemon.call(GetJob { job: job.id, wait }).await.unwrap().phase
}

/// Each but the top names the one below it relative to itself.
#[tokio::test]
async fn a_link_stays_relative_where_all_between_are() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let commit = |top: &str, relative| StartBlockJob {
        domain: "web".into(),
        disk: "vda".to_owned(),
        spec: BlockJobSpec::Commit {
            base: Some(host.path("base").display().to_string()),
            top: Some(host.path(top).display().to_string()),
            shallow: false,
            active: false,
            delete: false,
            relative,
        },
        bandwidth: 0,
    };
    make(&host, "base", None);
    for (name, below) in [("low", "base"), ("middle", "low"), ("high", "middle")] {
        make(&host, name, Some((below, Some("qcow2"))));
    }
    let high = host.path("high").display().to_string();
    make(&host, "top", Some((&high, Some("qcow2"))));
    start(&host, &daemon, "web", &disk(&host, "top", "vda", "")).await.unwrap();

    let error = daemon.call(commit("high", true)).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.message.contains("leave relative out"), "{error}");
    let base = host.path("base").display().to_string();
    let pull = StartBlockJob {
        spec: BlockJobSpec::Pull { base: Some(base.clone()), relative: true },
        ..commit("high", true)
    };
    assert!(daemon.call(pull).await.unwrap_err().message.contains("leave relative out"));
    let no_base = StartBlockJob {
        spec: BlockJobSpec::Pull { base: None, relative: true },
        ..commit("high", true)
    };
    assert!(daemon.call(no_base).await.unwrap_err().message.contains("without a base"));
    assert_eq!(link(&host, "middle"), "low", "nothing was done");

    let job = daemon.call(commit("low", true)).await.unwrap();
    assert_eq!(ended(&daemon, job).await, Phase::Done);
    assert_eq!(link(&host, "middle"), "base");
    let job = daemon.call(commit("middle", false)).await.unwrap();
    assert_eq!(ended(&daemon, job).await, Phase::Done);
    assert_eq!(link(&host, "high"), base);
    daemon.destroy("web").await.unwrap();
}
