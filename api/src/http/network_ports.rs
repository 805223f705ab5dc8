//! Interfaces of guests as ports of their networks.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use management::network::{NetworkPortView, NetworkRef};
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::App;
use super::error::Failure;
use super::extract::{PathParams, Who};
use super::network::NetworkPath;
use crate::types;

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct PortPath {
    /// Name or UUID
    network: String,
    port: Uuid,
}

impl From<NetworkPortView> for types::NetworkPort {
    fn from(port: NetworkPortView) -> Self {
        let NetworkPortView { uuid, domain, domain_uuid, mac, device, group } = port;
        Self { uuid, domain, domain_uuid, mac, device, group }
    }
}

/// The interfaces of running guests that are in a network.
#[utoipa::path(get, path = "/v1/networks/{network}/ports", tag = "Networks",
    operation_id = "network_ports", params(NetworkPath),
    responses((status = 200, body = [types::NetworkPort])))]
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(NetworkPath { network }): PathParams<NetworkPath>,
) -> Result<Json<Vec<types::NetworkPort>>, Failure> {
    let list = ops::ListNetworkPorts { network: NetworkRef(network) };
    let ports = app.manager.call(&caller, list).await?;
    Ok(Json(ports.into_iter().map(Into::into).collect()))
}

/// One of them, as libvirt XML.
#[utoipa::path(get, path = "/v1/networks/{network}/ports/{port}/xml", tag = "Networks",
    operation_id = "network_port_xml", params(PortPath),
    responses((status = 200, body = String, content_type = "application/xml")))]
pub(super) async fn xml(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(PortPath { network, port }): PathParams<PortPath>,
) -> Result<Response, Failure> {
    let dump = ops::DumpNetworkPortXml { network: NetworkRef(network), port };
    let text = app.manager.call(&caller, dump).await?;
    Ok(([(header::CONTENT_TYPE, types::XML)], text).into_response())
}
