//! Pools, volumes, and the jobs that make them.

mod content;
mod pools;
mod volumes;

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
