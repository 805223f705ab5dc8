//! Pools that are mounted, and pools that are volume groups, on a host that has neither.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use broker::{Broker, BrokerError, Granted, GroupAct, MountSource, PoolAct, Request};

use super::rig::{Daemon, Host, TestBroker};
use crate::error::{Code, Error};
use crate::ops::{
    ChangePool, CloneMode, CloneVolume, CreateVolume, DefinePool, DeleteVolume, DescribeVolume,
    DumpPoolXml, ListPools, ListVolumes, MadeVolume, PoolAction, ResizeVolume,
};
use crate::storage::{PoolView, VolumeRef};

const MIB: u64 = 1 << 20;

/// What the host would have: mounts, and a volume group `vg0` of 64 MiB.
#[derive(Default)]
struct Things {
    mounted: BTreeMap<PathBuf, MountSource>,
    busy: bool,
    broken: bool,
    active: bool,
    volumes: BTreeMap<String, u64>,
}

struct StorageBroker {
    inner: TestBroker,
    files: PathBuf,
    things: Arc<Mutex<Things>>,
}

fn failed(act: &str) -> BrokerError {
    BrokerError::Host { act: act.to_owned(), source: std::io::Error::other("it would not") }
}

impl StorageBroker {
    fn group(&self, act: GroupAct) -> Result<Granted, BrokerError> {
        let mut things = self.things.lock().unwrap();
        let used: u64 = things.volumes.values().sum();
        match act {
            GroupAct::ReportGroup => {
                let (size, free) = (64 * MIB, 64 * MIB - used);
                let report = format!(
                    r#"{{"report":[{{"vg":[{{"vg_size":"{size}","vg_free":"{free}"}}]}}]}}"#
                );
                return Ok(Granted::Answer(report.into()));
            }
            GroupAct::ReportVolumes => {
                let volume = |(name, size): (&String, &u64)| serde_json::json!({"lv_name": name, "lv_size": size.to_string(), "lv_attr": "-wi-a-----"});
                let all: Vec<_> = things.volumes.iter().map(volume).collect();
                let report = serde_json::json!({"report": [{"lv": all}]});
                return Ok(Granted::Answer(report.to_string().into()));
            }
            GroupAct::Activate(active) => things.active = active,
            GroupAct::Create { volume, bytes } if used + bytes <= 64 * MIB => {
                // What lay there before.
                let junk = vec![0xa5; usize::try_from(bytes).unwrap()];
                fs::write(self.files.join(&volume), junk).unwrap();
                things.volumes.insert(volume, bytes);
            }
            GroupAct::Rename { volume, to } => {
                let size = things.volumes.remove(&volume).unwrap();
                fs::rename(self.files.join(&volume), self.files.join(&to)).unwrap();
                things.volumes.insert(to, size);
            }
            GroupAct::Create { .. } => return Err(failed("make a volume")),
            GroupAct::Resize { volume, bytes } => drop(things.volumes.insert(volume, bytes)),
            GroupAct::Remove { volume } => drop(things.volumes.remove(&volume)),
            GroupAct::Build { .. } | GroupAct::Delete => {}
        }
        Ok(Granted::Done)
    }
}

impl Broker for StorageBroker {
    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
        match request {
            Request::Group { group, act } => {
                assert_eq!(group, "vg0");
                self.group(act)
            }
            Request::Pool { pool, act: PoolAct::Mount(source) } => {
                let mut things = self.things.lock().unwrap();
                if things.broken {
                    return Err(failed("mount it"));
                }
                things.mounted.insert(pool, source);
                Ok(Granted::Done)
            }
            Request::Pool { pool, act: PoolAct::Unmount(_) } => {
                let mut things = self.things.lock().unwrap();
                if things.busy {
                    return Err(BrokerError::MountBusy { path: pool });
                }
                things.mounted.remove(&pool);
                Ok(Granted::Done)
            }
            Request::Pool { pool, act } if pool.starts_with("/dev") => {
                let PoolAct::Open { volume, .. } = act else { panic!("{act:?} in a group") };
                let file = fs::File::options().read(true).write(true).open(self.files.join(volume));
                Ok(Granted::File(file.unwrap().into()))
            }
            other => self.inner.perform(other, files),
        }
    }
}

struct Rig {
    host: Host,
    things: Arc<Mutex<Things>>,
}

impl Rig {
    fn new() -> Self {
        let host = Host::new();
        fs::create_dir(host.path("pool")).unwrap();
        Self { host, things: Arc::default() }
    }

    async fn daemon(&self) -> Daemon {
        let broker = StorageBroker {
            inner: TestBroker::new(),
            files: self.host.path(""),
            things: self.things.clone(),
        };
        self.host.daemon_with(Arc::new(broker)).await
    }

    fn is_mounted(&self) -> bool {
        self.things.lock().unwrap().mounted.contains_key(&self.host.path("pool"))
    }
}

async fn change(daemon: &Daemon, action: PoolAction) -> Result<(), Error> {
    daemon.call(ChangePool { pool: "pool".into(), action }).await
}

async fn pool(daemon: &Daemon) -> PoolView {
    daemon.call(ListPools).await.unwrap().remove(0)
}

const START: PoolAction = PoolAction::Start { build: false };

#[tokio::test]
async fn a_pool_on_a_device_is_mounted_as_long_as_it_is_active() {
    let rig = Rig::new();
    let daemon = rig.daemon().await;
    let path = rig.host.path("pool").display().to_string();
    let xml = format!(
        "<pool type='fs'><name>pool</name><source><device path='/dev/vdb1'/><format type='ext4'/>\
         </source><target><path>{path}</path></target></pool>"
    );
    daemon.call(DefinePool { xml }).await.unwrap();
    rig.things.lock().unwrap().broken = true;
    let error = change(&daemon, START).await.unwrap_err();
    assert!(error.chain().contains("it would not"), "{error}");
    assert!(!pool(&daemon).await.active);
    rig.things.lock().unwrap().broken = false;

    change(&daemon, START).await.unwrap();
    let expected =
        MountSource::Device { device: "/dev/vdb1".into(), format: Some("ext4".to_owned()) };
    assert_eq!(rig.things.lock().unwrap().mounted[&rig.host.path("pool")], expected);
    let xml = daemon.call(DumpPoolXml { pool: "pool".into(), inactive: true }).await.unwrap();
    assert!(xml.contains("<device path='/dev/vdb1'/>") && xml.contains("type='ext4'"), "{xml}");

    // The next daemon finds it active, and mounts it where that is gone.
    drop(daemon);
    rig.things.lock().unwrap().mounted.clear();
    let daemon = rig.daemon().await;
    assert!(pool(&daemon).await.active && rig.is_mounted());

    rig.things.lock().unwrap().busy = true;
    let error = change(&daemon, PoolAction::Stop).await.unwrap_err();
    assert_eq!(error.code, Code::Busy);
    assert!(pool(&daemon).await.active, "it is in use, and stays");
    rig.things.lock().unwrap().busy = false;
    change(&daemon, PoolAction::Stop).await.unwrap();
    assert!(!rig.is_mounted() && !pool(&daemon).await.active);
}

#[tokio::test]
async fn a_pool_that_is_mounted_and_cannot_be_read_is_unmounted_again() {
    let rig = Rig::new();
    let daemon = rig.daemon().await;
    let path = rig.host.path("none").display().to_string();
    let xml = format!(
        "<pool type='netfs'><name>pool</name><source><host name='nas'/><dir path='/srv'/></source>\
         <target><path>{path}</path></target></pool>"
    );
    daemon.call(DefinePool { xml }).await.unwrap();
    change(&daemon, START).await.unwrap_err();
    assert!(rig.things.lock().unwrap().mounted.is_empty());
}

async fn group(rig: &Rig) -> Daemon {
    let daemon = rig.daemon().await;
    let xml = "<pool type='logical'><name>pool</name><source><name>vg0</name></source></pool>";
    daemon.call(DefinePool { xml: xml.to_owned() }).await.unwrap();
    change(&daemon, START).await.unwrap();
    daemon
}

async fn create(daemon: &Daemon, name: &str, format: &str, mib: u64) -> Result<MadeVolume, Error> {
    let xml = format!(
        "<volume><name>{name}</name><capacity unit='MiB'>{mib}</capacity>\
         <target><format type='{format}'/></target></volume>"
    );
    daemon.call(CreateVolume { pool: "pool".into(), xml, from: None }).await
}

#[tokio::test]
async fn the_volumes_of_a_volume_group_are_devices() {
    let rig = Rig::new();
    let daemon = group(&rig).await;
    assert!(rig.things.lock().unwrap().active);
    assert_eq!(pool(&daemon).await.path, PathBuf::from("/dev/vg0"));
    let made = create(&daemon, "web", "raw", 16).await.unwrap();
    let MadeVolume::Made(made) = made else { panic!("{made:?}") };
    assert_eq!((made.path, made.capacity), ("/dev/vg0/web".into(), 16 * MIB));
    let view = pool(&daemon).await;
    assert_eq!((view.capacity, view.available, view.volumes), (64 * MIB, 48 * MIB, 1));
    assert_eq!(create(&daemon, "web", "raw", 1).await.unwrap_err().code, Code::Exists);
    assert!(create(&daemon, "large", "raw", 100).await.is_err());

    let web = || VolumeRef::new("pool", "web");
    let resize = |mib: u64, shrink| ResizeVolume {
        volume: web(),
        capacity: mib * MIB,
        delta: false,
        allocate: false,
        shrink,
    };
    daemon.call(resize(32, false)).await.unwrap();
    assert_eq!(daemon.call(resize(8, false)).await.unwrap_err().code, Code::InvalidArgument);
    daemon.call(resize(8, true)).await.unwrap();
    let view = daemon.call(DescribeVolume { volume: web() }).await.unwrap();
    assert_eq!(view.capacity, 8 * MIB);
    assert!(view.to_xml().unwrap().contains("<volume type='block'>"));

    daemon.call(DeleteVolume { volume: web() }).await.unwrap();
    assert_eq!(daemon.call(ListVolumes { pool: "pool".into() }).await.unwrap().len(), 0);
    change(&daemon, PoolAction::Stop).await.unwrap();
    assert!(!rig.things.lock().unwrap().active);
}

#[tokio::test]
async fn what_devices_cannot_be_is_refused() {
    let rig = Rig::new();
    let daemon = group(&rig).await;
    let error = create(&daemon, "web", "qcow2", 1).await.unwrap_err();
    assert_eq!(error.code, Code::Unsupported);
    create(&daemon, "web", "raw", 1).await.unwrap();
    let volume = VolumeRef::new("pool", "web");
    let clone = CloneVolume { volume, name: "copy".to_owned(), mode: CloneMode::Overlay };
    let error = daemon.call(clone).await.unwrap_err();
    assert!(error.message.contains("are block devices, and raw; not qcow2"), "{error}");
    let error =
        change(&daemon, PoolAction::Stop).await.and(change(&daemon, PoolAction::Build).await);
    assert!(error.unwrap_err().message.contains("names no <device"));
}

/// Under another name until it is whole, as files are.
#[tokio::test]
async fn a_volume_of_a_volume_group_is_cloned_and_a_broken_clone_leaves_nothing() {
    let rig = Rig::new();
    let daemon = group(&rig).await;
    create(&daemon, "web", "raw", 4).await.unwrap();
    let mut content = vec![0; 4 << 20];
    content[1 << 20..][..9].copy_from_slice(b"something");
    fs::write(rig.host.path("web"), &content).unwrap();
    let clone = |name: &str, mode| {
        let volume = VolumeRef::new("pool", "web");
        daemon.call(CloneVolume { volume, name: name.to_owned(), mode })
    };
    let ended = async |made: MadeVolume| {
        let MadeVolume::Making(job) = made else { panic!("{made:?}") };
        let wait = std::time::Duration::from_secs(20);
        daemon.call(crate::ops::GetJob { job: job.id, wait }).await.unwrap()
    };
    let job = ended(clone("copy", CloneMode::Copy).await.unwrap()).await;
    assert_eq!(job.phase, crate::jobs::Phase::Done, "{job:?}");
    assert!(fs::read(rig.host.path("copy")).unwrap() == content);
    let names = || rig.things.lock().unwrap().volumes.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(), ["copy", "web"]);
    let shared = ended(clone("shared", CloneMode::Reflink).await.unwrap()).await;
    assert!(shared.error.unwrap().contains("cannot share its blocks"));
    assert_eq!(clone("copy", CloneMode::Copy).await.unwrap_err().code, Code::Exists);
    assert_eq!(names(), ["copy", "web"]);
    // What a daemon leaves that died.
    drop(daemon);
    let left = format!(".manor-{}.partial", uuid::Uuid::new_v4());
    rig.things.lock().unwrap().volumes.insert(left, MIB);
    let daemon = rig.daemon().await;
    assert_eq!(daemon.call(ListVolumes { pool: "pool".into() }).await.unwrap().len(), 2);
    assert_eq!(names(), ["copy", "web"]);
}
