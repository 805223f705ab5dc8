//! A volume's bytes as a body: a piece at a time, in both directions.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use management::ops;
use management::storage::VolumeRef;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::{Failure, HttpCode};
use super::extract::{Params, PathParams, Who};
use super::volume::VolumePath;
use crate::types;

/// A client that sends nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(60);
const BYTES: &str = "application/octet-stream";

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DownloadQuery {
    /// Where to begin, in bytes.
    offset: u64,
    /// Bytes; all that follow if it is not given.
    length: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct UploadQuery {
    /// Where to begin, in bytes.
    offset: u64,
}

/// Read a volume's file.
#[utoipa::path(get, path = "/v1/pools/{pool}/volumes/{volume}/content", tag = "Volumes",
    operation_id = "download_volume", params(VolumePath, DownloadQuery),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
pub(super) async fn download(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(path): PathParams<VolumePath>,
    Params(DownloadQuery { offset, length }): Params<DownloadQuery>,
) -> Result<Response, Failure> {
    let volume: VolumeRef = path.into();
    let download =
        app.manager.call(&caller, ops::DownloadVolume { volume, offset, length }).await?;
    let length = download.left();
    let pieces =
        stream::unfold(
            download,
            |mut download| async move { Some((download.next().await?, download)) },
        );
    let headers =
        [(header::CONTENT_TYPE, BYTES.to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// Write a volume's file.
///
/// The volume is as large as it was, or larger; what it holds now may be of another format. A job
/// goes along with it, by which it can be watched and aborted; the answer is that job at its end.
#[utoipa::path(put, path = "/v1/pools/{pool}/volumes/{volume}/content", tag = "Volumes",
    operation_id = "upload_volume", params(VolumePath, UploadQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = types::Job)))]
pub(super) async fn upload(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(path): PathParams<VolumePath>,
    Params(UploadQuery { offset }): Params<UploadQuery>,
    request: Request,
) -> Result<Json<types::Job>, Failure> {
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let length = announced.and_then(|text| text.to_str().ok()?.parse().ok());
    let upload = ops::UploadVolume { volume: path.into(), offset, length };
    let mut upload = app.manager.call(&caller, upload).await?;
    let job = upload.job;
    let mut pieces = request.into_body().into_data_stream();
    loop {
        let piece = tokio::time::timeout(PATIENCE, pieces.next()).await.map_err(|_| {
            let text = format!("nothing came for {} s", PATIENCE.as_secs());
            Failure::new(HttpCode::SlowRequest, text)
        })?;
        match piece {
            None => break,
            Some(Ok(piece)) => upload.write(piece).await?,
            Some(Err(error)) => {
                let text = format!("the body broke off: {error}");
                return Err(Failure::new(HttpCode::BadRequest, text));
            }
        }
    }
    upload.finish().await?;
    let get = ops::GetJob { job, wait: PATIENCE };
    Ok(Json(app.manager.call(&caller, get).await?.into()))
}
