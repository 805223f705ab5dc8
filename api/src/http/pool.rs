//! Pools.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use management::ops::{self, PoolAction};
use management::storage::PoolRef;
use management::{Caller, Manager};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::{Failure, HttpCode};
use super::extract::{JsonBody, Params, PathParams, Who, Xml, switch};
use super::query::as_xml;
use crate::types;

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct PoolPath {
    /// Name or UUID
    pool: String,
}

impl PoolPath {
    pub(super) fn pool(self) -> PoolRef {
        PoolRef(self.pool)
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DefinePoolQuery {
    /// Start it as well.
    #[serde(deserialize_with = "switch")]
    start: bool,
    /// Start it without storing the definition: it vanishes when it stops.
    #[serde(deserialize_with = "switch")]
    transient: bool,
    /// Make its directory.
    #[serde(deserialize_with = "switch")]
    build: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct StartPoolQuery {
    /// Make its directory first.
    #[serde(deserialize_with = "switch")]
    build: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct PoolXmlQuery {
    /// The definition alone, without what there is of space.
    #[serde(deserialize_with = "switch")]
    inactive: bool,
}

/// List pools.
#[utoipa::path(get, path = "/v1/pools", tag = "Pools", operation_id = "list_pools",
    responses((status = 200, body = types::PoolList)))]
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Json<types::PoolList>, Failure> {
    let pools = app.manager.call(&caller, ops::ListPools).await?;
    Ok(Json(types::PoolList { pools: pools.into_iter().map(Into::into).collect() }))
}

/// Define a pool from libvirt XML.
///
/// The XML of a pool that exists (same name and UUID) replaces its definition.
#[utoipa::path(post, path = "/v1/pools", tag = "Pools", operation_id = "define_pool",
    params(DefinePoolQuery),
    request_body(content = String, content_type = "application/xml",
        description = "libvirt pool XML, at most 1 MiB"),
    responses((status = 201, body = types::Pool,
        headers(("location" = String, description = "Of the pool")))))]
pub(super) async fn define(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<DefinePoolQuery>,
    Xml(xml): Xml,
) -> Result<Response, Failure> {
    let DefinePoolQuery { start, transient, build } = query;
    if build && !start && !transient {
        let text = "build goes with start or transient";
        return Err(Failure::new(HttpCode::BadRequest, text));
    }
    let uuid = if transient {
        app.manager.call(&caller, ops::CreatePool { xml, build }).await?.uuid
    } else {
        let uuid = app.manager.call(&caller, ops::DefinePool { xml }).await?.uuid;
        if start {
            change(&app.manager, &caller, uuid.into(), PoolAction::Start { build }).await?;
        }
        uuid
    };
    let pool = app.manager.call(&caller, ops::DescribePool { pool: uuid.into() }).await?;
    let location = [(header::LOCATION, format!("/v1/pools/{uuid}"))];
    Ok((StatusCode::CREATED, location, Json(types::Pool::from(pool))).into_response())
}

/// Describe a pool.
#[utoipa::path(get, path = "/v1/pools/{pool}", tag = "Pools", operation_id = "describe_pool",
    params(PoolPath), responses((status = 200, body = types::Pool)))]
pub(super) async fn describe(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(PoolPath { pool }): PathParams<PoolPath>,
) -> Result<Json<types::Pool>, Failure> {
    let pool = app.manager.call(&caller, ops::DescribePool { pool: PoolRef(pool) }).await?;
    Ok(Json(pool.into()))
}

/// Show a pool's definition.
#[utoipa::path(get, path = "/v1/pools/{pool}/xml", tag = "Pools", operation_id = "pool_xml",
    params(PoolPath, PoolXmlQuery),
    responses((status = 200, body = String, content_type = "application/xml")))]
pub(super) async fn xml(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(PoolPath { pool }): PathParams<PoolPath>,
    Params(PoolXmlQuery { inactive }): Params<PoolXmlQuery>,
) -> Result<Response, Failure> {
    let dump = ops::DumpPoolXml { pool: PoolRef(pool), inactive };
    let text = app.manager.call(&caller, dump).await?;
    Ok(([(header::CONTENT_TYPE, types::XML)], text).into_response())
}

/// Forget a pool's definition. Its volumes stay where they are.
#[utoipa::path(delete, path = "/v1/pools/{pool}", tag = "Pools", operation_id = "undefine_pool",
    params(PoolPath), responses((status = 204, description = "Forgotten")))]
pub(super) async fn undefine(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(PoolPath { pool }): PathParams<PoolPath>,
) -> Result<StatusCode, Failure> {
    change(&app.manager, &caller, PoolRef(pool), PoolAction::Undefine).await
}

async fn change(
    manager: &Manager,
    caller: &Caller,
    pool: PoolRef,
    action: PoolAction,
) -> Result<StatusCode, Failure> {
    manager.call(caller, ops::ChangePool { pool, action }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a pool's directory.
#[utoipa::path(post, path = "/v1/pools/{pool}/build", tag = "Pools", operation_id = "build_pool",
    params(PoolPath), responses((status = 204, description = "Made, or there already")))]
pub(super) async fn build(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(PoolPath { pool }): PathParams<PoolPath>,
) -> Result<StatusCode, Failure> {
    change(&app.manager, &caller, PoolRef(pool), PoolAction::Build).await
}

/// Start a pool: look at what is in it, and let its volumes be used.
#[utoipa::path(post, path = "/v1/pools/{pool}/start", tag = "Pools", operation_id = "start_pool",
    params(PoolPath, StartPoolQuery), responses((status = 204, description = "Started")))]
pub(super) async fn start(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(PoolPath { pool }): PathParams<PoolPath>,
    Params(StartPoolQuery { build }): Params<StartPoolQuery>,
) -> Result<StatusCode, Failure> {
    change(&app.manager, &caller, PoolRef(pool), PoolAction::Start { build }).await
}

/// Look again at everything in a pool.
#[utoipa::path(post, path = "/v1/pools/{pool}/refresh", tag = "Pools",
    operation_id = "refresh_pool",
    params(PoolPath), responses((status = 204, description = "Seen")))]
pub(super) async fn refresh(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(PoolPath { pool }): PathParams<PoolPath>,
) -> Result<StatusCode, Failure> {
    change(&app.manager, &caller, PoolRef(pool), PoolAction::Refresh).await
}

/// Stop a pool. Nothing in it is lost, and guests that run go on.
#[utoipa::path(post, path = "/v1/pools/{pool}/stop", tag = "Pools", operation_id = "stop_pool",
    params(PoolPath), responses((status = 204, description = "Stopped")))]
pub(super) async fn stop(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(PoolPath { pool }): PathParams<PoolPath>,
) -> Result<StatusCode, Failure> {
    change(&app.manager, &caller, PoolRef(pool), PoolAction::Stop).await
}

/// Remove a stopped pool's directory, in which nothing may be left.
#[utoipa::path(post, path = "/v1/pools/{pool}/delete", tag = "Pools", operation_id = "delete_pool",
    params(PoolPath), responses((status = 204, description = "Removed")))]
pub(super) async fn delete(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(PoolPath { pool }): PathParams<PoolPath>,
) -> Result<StatusCode, Failure> {
    change(&app.manager, &caller, PoolRef(pool), PoolAction::Delete).await
}

/// Start the pool when the host boots, or no longer do.
#[utoipa::path(put, path = "/v1/pools/{pool}/autostart", tag = "Pools",
    operation_id = "autostart_pool", params(PoolPath),
    request_body = types::Autostart, responses((status = 204, description = "Set")))]
pub(super) async fn autostart(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(PoolPath { pool }): PathParams<PoolPath>,
    JsonBody(types::Autostart { enabled }): JsonBody<types::Autostart>,
) -> Result<StatusCode, Failure> {
    change(&app.manager, &caller, PoolRef(pool), PoolAction::SetAutostart(enabled)).await
}

/// Which pools and volumes there can be here, as libvirt's storage pool capabilities XML.
#[utoipa::path(get, path = "/v1/node/pool-capabilities", tag = "Pools",
    operation_id = "pool_capabilities",
    responses((status = 200, body = String, content_type = "application/xml")))]
pub(super) async fn capabilities(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Response, Failure> {
    Ok(as_xml(app.manager.call(&caller, ops::GetPoolCapabilities).await?))
}

/// What pools of a kind could be made of on this host, as libvirt's `<sources>`.
///
/// Volume groups are looked for: `logical`.
#[utoipa::path(get, path = "/v1/node/pool-sources/{kind}", tag = "Pools",
    operation_id = "pool_sources",
    params(("kind" = String, Path, description = "Of the pool: `logical`")),
    responses((status = 200, body = String, content_type = "application/xml")))]
pub(super) async fn sources(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(kind): PathParams<String>,
) -> Result<Response, Failure> {
    Ok(as_xml(app.manager.call(&caller, ops::FindPoolSources { kind }).await?))
}
