//! A daemon that dies between any two acts on a pool leaves whole volumes, or none.

use std::fs;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use broker::{Broker, BrokerError, Granted, PoolAct, Request};

use super::rig::{Daemon, Host, TestBroker};
use crate::jobs::Phase;
use crate::ops::{
    ChangePool, CloneMode, CloneVolume, CreateVolume, DefinePool, DeleteVolume, GetJob, ListJobs,
    ListPools, ListVolumes, MadeVolume, PoolAction,
};
use crate::storage::{VolumeRef, VolumeView};

/// Works until so many acts that change a pool are done, and then never again: what is done after
/// that would be done by a dead daemon.
struct Mortal {
    inner: TestBroker,
    left: AtomicUsize,
}

impl Broker for Mortal {
    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
        if let Request::Pool { act, .. } = &request {
            let changes =
                !matches!(act, PoolAct::Look(_) | PoolAct::Open { .. } | PoolAct::Build(_));
            let spend = |left: usize| left.checked_sub(usize::from(changes));
            let alive = |left: usize| if left == 0 { None } else { spend(left) };
            if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, alive).is_err() {
                let source = std::io::Error::other("the daemon is dead");
                return Err(BrokerError::Host { act: "go on".to_owned(), source });
            }
        }
        self.inner.perform(request, files)
    }
}

const SIZE: u64 = 1 << 20;

fn xml(name: &str, format: &str, allocation: &str) -> String {
    format!(
        "<volume><name>{name}</name><capacity>{SIZE}</capacity>{allocation}\
         <target><format type='{format}'/></target></volume>"
    )
}

/// Everything that makes or removes a volume; errors are those of a dying daemon.
async fn work(daemon: &Daemon) {
    let create = |xml: String| CreateVolume { pool: "pool".into(), xml, from: None };
    let of = |volume: &str| VolumeRef::new("pool", volume);
    let sparse = "<allocation>0</allocation>";
    let mut jobs = Vec::new();
    for made in [
        daemon.call(create(xml("qcow2", "qcow2", ""))).await,
        daemon.call(create(xml("sparse", "raw", sparse))).await,
        daemon.call(create(xml("whole", "raw", ""))).await,
    ] {
        jobs.extend(job(daemon, made).await);
    }
    for (from, name, mode) in [
        ("sparse", "copy", CloneMode::Copy),
        ("sparse", "top", CloneMode::Overlay),
        ("qcow2", "other", CloneMode::Copy),
    ] {
        let clone = CloneVolume { volume: of(from), name: name.to_owned(), mode };
        let made = daemon.call(clone).await;
        jobs.extend(job(daemon, made).await);
    }
    let _ = daemon.call(DeleteVolume { volume: of("whole") }).await;
}

async fn job(daemon: &Daemon, made: Result<MadeVolume, crate::Error>) -> Option<crate::jobs::Job> {
    let Ok(MadeVolume::Making(job)) = made else { return None };
    daemon.call(GetJob { job: job.id, wait: Duration::from_secs(20) }).await.ok()
}

fn is_whole(volume: &VolumeView) -> bool {
    volume.capacity == SIZE && volume.damaged.is_none()
}

#[tokio::test]
async fn a_daemon_that_dies_at_any_act_leaves_whole_volumes_or_none() {
    let mut counts = Vec::new();
    for acts in 1.. {
        let host = Host::new();
        fs::create_dir(host.path("pool")).unwrap();
        let broker = Mortal { inner: TestBroker::new(), left: AtomicUsize::new(acts) };
        let broker = Arc::new(broker);
        let daemon = host.daemon_with(broker.clone()).await;
        let path = host.path("pool").display().to_string();
        let pool = format!(
            "<pool type='dir'><name>pool</name><target><path>{path}</path></target></pool>"
        );
        daemon.call(DefinePool { xml: pool }).await.unwrap();
        let start = PoolAction::Start { build: false };
        daemon.call(ChangePool { pool: "pool".into(), action: start }).await.unwrap();
        work(&daemon).await;
        drop(daemon);
        let next = host.daemon().await;
        let volumes = next.call(ListVolumes { pool: "pool".into() }).await.unwrap();
        assert!(volumes.iter().all(is_whole), "after {acts} acts: {volumes:?}");
        let files = fs::read_dir(host.path("pool")).unwrap().count();
        assert_eq!(files, volumes.len(), "after {acts} acts something half made is left");
        let jobs = next.call(ListJobs).await.unwrap();
        assert!(jobs.iter().all(|job| job.phase != Phase::Running), "{jobs:?}");
        // And it goes on working.
        let more = CreateVolume { pool: "pool".into(), xml: xml("more", "qcow2", ""), from: None };
        next.call(more).await.unwrap();
        counts.push(volumes.len());
        if broker.left.load(Ordering::SeqCst) > 0 {
            break;
        }
    }
    // Six are made, and one is removed.
    assert_eq!(counts.last(), Some(&5), "{counts:?}");
    assert!(counts.len() > 10, "only {} places to die were tried", counts.len());
}

#[tokio::test]
async fn a_start_that_was_cut_short_leaves_no_pool_that_comes_back() {
    let host = Host::new();
    fs::create_dir(host.path("pool")).unwrap();
    let change = |action| ChangePool { pool: "pool".into(), action };
    let daemon = host.daemon().await;
    let path = host.path("pool").display().to_string();
    let pool =
        format!("<pool type='dir'><name>pool</name><target><path>{path}</path></target></pool>");
    daemon.call(DefinePool { xml: pool }).await.unwrap();
    daemon.call(change(PoolAction::Start { build: false })).await.unwrap();
    drop(daemon);
    // Its record has not got its name yet.
    let record = fs::read_dir(host.path("run/pools")).unwrap().next().unwrap().unwrap().path();
    fs::rename(&record, record.with_extension("tmp")).unwrap();
    let next = host.daemon().await;
    assert!(!next.call(ListPools).await.unwrap()[0].active);
    next.call(change(PoolAction::Start { build: false })).await.unwrap();
    next.call(change(PoolAction::Stop)).await.unwrap();
    assert!(fs::read_dir(host.path("run/pools")).unwrap().next().is_none());
}
