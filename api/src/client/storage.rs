//! Pools, volumes and jobs.

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Method;
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_LENGTH;
use tokio::sync::mpsc;

use super::{Client, Payload, Result, json, percent};
use crate::types;

fn pool_path(pool: &str, rest: &str) -> String {
    format!("/v1/pools/{}{rest}", percent(pool))
}

fn volume_path(pool: &str, volume: &str, rest: &str) -> String {
    pool_path(pool, &format!("/volumes/{}{rest}", percent(volume)))
}

impl Client {
    pub async fn pool_capabilities(&self) -> Result<String> {
        self.text("/v1/node/pool-capabilities").await
    }

    /// `kind` is `logical`.
    pub async fn pool_sources(&self, kind: &str) -> Result<String> {
        self.text(&format!("/v1/node/pool-sources/{}", percent(kind))).await
    }

    pub async fn pools(&self) -> Result<Vec<types::Pool>> {
        let list: types::PoolList = self.get("/v1/pools").await?;
        Ok(list.pools)
    }

    pub async fn pool(&self, pool: &str) -> Result<types::Pool> {
        self.get(&pool_path(pool, "")).await
    }

    /// `query` begins with `?` if there is any.
    pub async fn define_pool(&self, xml: String, query: &str) -> Result<types::Pool> {
        let path = format!("/v1/pools{query}");
        self.answer(self.call(Method::POST, &path, Payload::Xml(xml)).await?)
    }

    /// `build`, `start`, `refresh`, `stop` or `delete`, with a query perhaps.
    pub async fn pool_verb(&self, pool: &str, verb: &str) -> Result<()> {
        let path = pool_path(pool, &format!("/{verb}"));
        self.call(Method::POST, &path, Payload::Nothing).await.map(drop)
    }

    pub async fn undefine_pool(&self, pool: &str) -> Result<()> {
        self.call(Method::DELETE, &pool_path(pool, ""), Payload::Nothing).await.map(drop)
    }

    pub async fn set_pool_autostart(&self, pool: &str, enabled: bool) -> Result<()> {
        let body = json(&types::Autostart { enabled });
        self.call(Method::PUT, &pool_path(pool, "/autostart"), body).await.map(drop)
    }

    pub async fn pool_xml(&self, pool: &str, inactive: bool) -> Result<String> {
        self.text(&pool_path(pool, &format!("/xml?inactive={inactive}"))).await
    }

    pub(super) async fn text(&self, path: &str) -> Result<String> {
        let reply = self.call(Method::GET, path, Payload::Nothing).await?;
        String::from_utf8(reply.into()).map_err(|_| self.foreign("the XML is not UTF-8"))
    }

    pub async fn volumes(&self, pool: &str) -> Result<Vec<types::Volume>> {
        let list: types::VolumeList = self.get(&pool_path(pool, "/volumes")).await?;
        Ok(list.volumes)
    }

    pub async fn volume(&self, pool: &str, volume: &str) -> Result<types::Volume> {
        self.get(&volume_path(pool, volume, "")).await
    }

    /// The volume of any active pool that lies at a path.
    pub async fn volume_at(&self, path: &str) -> Result<types::Volume> {
        self.get(&format!("/v1/volumes?path={}", percent(path))).await
    }

    /// Who needs the image at a path.
    pub async fn image_users(&self, path: &str) -> Result<types::ImageUserList> {
        self.get(&format!("/v1/images/users?path={}", percent(path))).await
    }

    pub async fn volume_xml(&self, pool: &str, volume: &str) -> Result<String> {
        self.text(&volume_path(pool, volume, "/xml")).await
    }

    /// `from`: pool and name of the volume whose content it gets.
    pub async fn create_volume(
        &self,
        pool: &str,
        xml: String,
        from: Option<(&str, &str)>,
    ) -> Result<types::MadeVolume> {
        let query = from
            .map(|(pool, volume)| format!("?from={}&from_pool={}", percent(volume), percent(pool)));
        let path = pool_path(pool, &format!("/volumes{}", query.unwrap_or_default()));
        self.answer(self.call(Method::POST, &path, Payload::Xml(xml)).await?)
    }

    pub async fn clone_volume(
        &self,
        pool: &str,
        volume: &str,
        name: &str,
        mode: types::CloneMode,
    ) -> Result<types::MadeVolume> {
        let body = json(&types::CloneVolume { name: name.to_owned(), mode });
        let path = volume_path(pool, volume, "/clone");
        self.answer(self.call(Method::POST, &path, body).await?)
    }

    pub async fn delete_volume(&self, pool: &str, volume: &str) -> Result<()> {
        let path = volume_path(pool, volume, "");
        self.call(Method::DELETE, &path, Payload::Nothing).await.map(drop)
    }

    pub async fn resize_volume(
        &self,
        pool: &str,
        volume: &str,
        wanted: &types::ResizeVolume,
    ) -> Result<()> {
        let path = volume_path(pool, volume, "/resize");
        self.call(Method::POST, &path, json(wanted)).await.map(drop)
    }

    /// By an algorithm of libvirt's names; with zeros if none is named.
    pub async fn wipe_volume(
        &self,
        pool: &str,
        volume: &str,
        algorithm: Option<&str>,
    ) -> Result<types::Job> {
        let query = algorithm.map(|name| format!("?algorithm={}", percent(name)));
        let path = volume_path(pool, volume, "/wipe") + &query.unwrap_or_default();
        self.answer(self.call(Method::POST, &path, Payload::Nothing).await?)
    }

    /// Send what comes through `pieces`; an error there breaks the upload off. It takes as long as
    /// it takes.
    pub async fn upload_volume(
        &self,
        pool: &str,
        volume: &str,
        offset: u64,
        length: Option<u64>,
        pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    ) -> Result<types::Job> {
        let path = volume_path(pool, volume, &format!("/content?offset={offset}"));
        let pieces = stream::unfold(pieces, |mut pieces| async move {
            Some((pieces.recv().await?.map(Frame::data), pieces))
        });
        // The stream is polled by one task; a body has to be shared all the same.
        let body = sync_body(pieces);
        let response =
            self.send(Method::PUT, &path, Payload::Bytes(body, length), |request| request).await?;
        if response.status().is_success() {
            return self.answer(self.body(response).await?);
        }
        Err(self.refusal(response).await)
    }

    pub async fn download_volume(
        &self,
        pool: &str,
        volume: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Result<Download> {
        let length = length.map(|length| format!("&length={length}")).unwrap_or_default();
        let path = volume_path(pool, volume, &format!("/content?offset={offset}{length}"));
        self.in_time(async {
            let response =
                self.send(Method::GET, &path, Payload::Nothing, |request| request).await?;
            if !response.status().is_success() {
                return Err(self.refusal(response).await);
            }
            let announced = response.headers().get(CONTENT_LENGTH);
            let total = announced.and_then(|text| text.to_str().ok()?.parse().ok()).unwrap_or(0);
            Ok(Download { client: self.clone(), body: response.into_body(), total })
        })
        .await
    }

    pub async fn jobs(&self) -> Result<Vec<types::Job>> {
        let list: types::JobList = self.get("/v1/jobs").await?;
        Ok(list.jobs)
    }

    /// A job when it has ended, or after `wait_ms`.
    pub async fn job(&self, job: &str, wait_ms: u64) -> Result<types::Job> {
        self.get(&format!("/v1/jobs/{}?wait_ms={wait_ms}", percent(job))).await
    }

    pub async fn abort_job(&self, job: &str) -> Result<()> {
        let path = format!("/v1/jobs/{}", percent(job));
        self.call(Method::DELETE, &path, Payload::Nothing).await.map(drop)
    }
}

fn sync_body(
    frames: impl futures_util::Stream<Item = std::io::Result<Frame<Bytes>>> + Send + Sync + 'static,
) -> super::Outgoing {
    StreamBody::new(frames).boxed()
}

/// A volume's bytes as they come.
#[derive(Debug)]
pub struct Download {
    client: Client,
    body: Incoming,
    /// Bytes in all.
    pub total: u64,
}

impl Download {
    /// The next bytes; none at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        loop {
            match self.body.frame().await? {
                Err(error) => return Some(Err(self.client.broken(error))),
                Ok(frame) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Some(Ok(bytes));
                    }
                }
            }
        }
    }
}
