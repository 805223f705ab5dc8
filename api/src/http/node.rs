//! The host.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use management::ops;

use super::App;
use super::error::Failure;
use super::extract::Who;
use super::query::as_xml;
use crate::types;

/// The host in figures, and what it lacks.
#[utoipa::path(get, path = "/v1/node", tag = "Node",
    responses((status = 200, body = types::Node)))]
pub(super) async fn node(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Json<types::Node>, Failure> {
    Ok(Json(app.manager.call(&caller, ops::GetNode).await?.into()))
}

/// What guests can be given here, as libvirt's capabilities XML.
#[utoipa::path(get, path = "/v1/node/capabilities", tag = "Node",
    responses((status = 200, body = String, content_type = "application/xml")))]
pub(super) async fn capabilities(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Response, Failure> {
    Ok(as_xml(app.manager.call(&caller, ops::GetCapabilities).await?))
}
