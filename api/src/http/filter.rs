//! Filters of interfaces.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use management::filters::{FilterName, FilterView};
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::Failure;
use super::extract::{PathParams, Who, Xml};
use crate::types;

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct FilterPath {
    /// Name or UUID
    filter: String,
}

impl From<FilterView> for types::Filter {
    fn from(FilterView { name, uuid, builtin, xml }: FilterView) -> Self {
        Self { name, uuid, builtin, xml }
    }
}

/// The filters that an interface of a guest can name.
#[utoipa::path(get, path = "/v1/filters", tag = "Networks", operation_id = "filters",
    responses((status = 200, body = types::FilterList)))]
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Json<types::FilterList>, Failure> {
    let found = app.manager.call(&caller, ops::ListFilters).await?;
    Ok(Json(types::FilterList { filters: found.into_iter().map(Into::into).collect() }))
}

/// Define a filter from libvirt XML.
///
/// The XML of a filter that exists replaces its definition. Interfaces of running guests that have it, or
/// have one that names it, have the new rules when this returns, all of them or none.
#[utoipa::path(post, path = "/v1/filters", tag = "Networks", operation_id = "define_filter",
    request_body(content = String, content_type = "application/xml",
        description = "libvirt network filter XML, at most 1 MiB"),
    responses((status = 201, body = types::Filter,
        headers(("location" = String, description = "Of the filter")))))]
pub(super) async fn define(
    State(app): State<App>,
    Who(caller): Who,
    Xml(xml): Xml,
) -> Result<Response, Failure> {
    let filter = app.manager.call(&caller, ops::DefineFilter { xml }).await?;
    let location = [(header::LOCATION, format!("/v1/filters/{}", filter.uuid))];
    Ok((StatusCode::CREATED, location, Json(types::Filter::from(filter))).into_response())
}

/// One filter, with its rules.
#[utoipa::path(get, path = "/v1/filters/{filter}", tag = "Networks", operation_id = "filter",
    params(FilterPath), responses((status = 200, body = types::Filter)))]
pub(super) async fn describe(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(FilterPath { filter }): PathParams<FilterPath>,
) -> Result<Json<types::Filter>, Failure> {
    let describe = ops::DescribeFilter { filter: FilterName(filter) };
    Ok(Json(app.manager.call(&caller, describe).await?.into()))
}

/// Forget a filter. One that a domain's definition or a running guest needs stays.
#[utoipa::path(delete, path = "/v1/filters/{filter}", tag = "Networks",
    operation_id = "undefine_filter",
    params(FilterPath), responses((status = 204, description = "Forgotten")))]
pub(super) async fn undefine(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(FilterPath { filter }): PathParams<FilterPath>,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::UndefineFilter { filter: FilterName(filter) }).await?;
    Ok(StatusCode::NO_CONTENT)
}
