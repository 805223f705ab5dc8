//! The host.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::Failure;
use super::extract::{Params, Who};
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

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct KindOfGuest {
    /// `x86_64`.
    architecture: Option<String>,
    /// `q35`, `pc` or `microvm`; q35 if it is not said.
    machine: Option<String>,
    /// `kvm`.
    virt_type: Option<String>,
}

/// What a guest of one kind can have here, as libvirt's domain capabilities XML.
#[utoipa::path(get, path = "/v1/node/domain-capabilities", tag = "Node", params(KindOfGuest),
    responses((status = 200, body = String, content_type = "application/xml")))]
pub(super) async fn domain_capabilities(
    State(app): State<App>,
    Who(caller): Who,
    Params(kind): Params<KindOfGuest>,
) -> Result<Response, Failure> {
    let KindOfGuest { architecture, machine, virt_type } = kind;
    let get = ops::GetDomainCapabilities { architecture, machine, virt_type };
    Ok(as_xml(app.manager.call(&caller, get).await?))
}
