//! Virtual networks.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use management::domain::Affects;
use management::network::{LeaseView, NetworkRef, NetworkView};
use management::ops::{self, NetworkAction};
use management::{Caller, Manager};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::device::AffectsQuery;
use super::error::Failure;
use super::extract::{JsonBody, Params, PathParams, Who, Xml, switch};
use crate::types;

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct NetworkPath {
    /// Name or UUID
    pub(super) network: String,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DefineNetworkQuery {
    /// Start it as well.
    #[serde(deserialize_with = "switch")]
    start: bool,
    /// Start it without storing the definition: it vanishes when it stops.
    #[serde(deserialize_with = "switch")]
    transient: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct NetworkXmlQuery {
    /// What is stored, also while the network is active with something else.
    #[serde(deserialize_with = "switch")]
    inactive: bool,
}

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct LeaseQuery {
    /// Of this interface alone.
    mac: Option<String>,
}

impl From<NetworkView> for types::Network {
    fn from(network: NetworkView) -> Self {
        let address = |(address, prefix)| format!("{address}/{prefix}");
        Self {
            name: network.name,
            uuid: network.uuid,
            forward: network.forward.map(str::to_owned),
            bridge: network.bridge,
            addresses: network.addresses.into_iter().map(address).collect(),
            active: network.active,
            persistent: network.persistent,
            autostart: network.autostart,
            problems: network.problems,
        }
    }
}

impl From<LeaseView> for types::Lease {
    fn from(lease: LeaseView) -> Self {
        Self {
            mac: lease.mac,
            address: lease.address.to_string(),
            prefix: lease.prefix,
            hostname: lease.hostname,
            client_id: lease.client_id,
            expires: lease.expires,
        }
    }
}

/// List networks.
#[utoipa::path(get, path = "/v1/networks", tag = "Networks", operation_id = "list_networks",
    responses((status = 200, body = types::NetworkList)))]
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Json<types::NetworkList>, Failure> {
    let networks = app.manager.call(&caller, ops::ListNetworks).await?;
    Ok(Json(types::NetworkList { networks: networks.into_iter().map(Into::into).collect() }))
}

/// Define a network from libvirt XML.
///
/// The XML of a network that exists (same name and UUID) replaces its definition; if it is active
/// it goes on as it is until it starts again.
#[utoipa::path(post, path = "/v1/networks", tag = "Networks", operation_id = "define_network",
    params(DefineNetworkQuery),
    request_body(content = String, content_type = "application/xml",
        description = "libvirt network XML, at most 1 MiB"),
    responses((status = 201, body = types::Network,
        headers(("location" = String, description = "Of the network")))))]
pub(super) async fn define(
    State(app): State<App>,
    Who(caller): Who,
    Params(DefineNetworkQuery { start, transient }): Params<DefineNetworkQuery>,
    Xml(xml): Xml,
) -> Result<Response, Failure> {
    let uuid = if transient {
        app.manager.call(&caller, ops::CreateNetwork { xml }).await?.uuid
    } else {
        let uuid = app.manager.call(&caller, ops::DefineNetwork { xml }).await?.uuid;
        if start {
            change(&app.manager, &caller, uuid.into(), NetworkAction::Start).await?;
        }
        uuid
    };
    let describe = ops::DescribeNetwork { network: uuid.into() };
    let network = app.manager.call(&caller, describe).await?;
    let location = [(header::LOCATION, format!("/v1/networks/{uuid}"))];
    Ok((StatusCode::CREATED, location, Json(types::Network::from(network))).into_response())
}

/// Describe a network.
#[utoipa::path(get, path = "/v1/networks/{network}", tag = "Networks",
    operation_id = "describe_network",
    params(NetworkPath), responses((status = 200, body = types::Network)))]
pub(super) async fn describe(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(NetworkPath { network }): PathParams<NetworkPath>,
) -> Result<Json<types::Network>, Failure> {
    let describe = ops::DescribeNetwork { network: NetworkRef(network) };
    Ok(Json(app.manager.call(&caller, describe).await?.into()))
}

/// Show a network's definition.
#[utoipa::path(get, path = "/v1/networks/{network}/xml", tag = "Networks",
    operation_id = "network_xml", params(NetworkPath, NetworkXmlQuery),
    responses((status = 200, body = String, content_type = "application/xml")))]
pub(super) async fn xml(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(NetworkPath { network }): PathParams<NetworkPath>,
    Params(NetworkXmlQuery { inactive }): Params<NetworkXmlQuery>,
) -> Result<Response, Failure> {
    let dump = ops::DumpNetworkXml { network: NetworkRef(network), inactive };
    let text = app.manager.call(&caller, dump).await?;
    Ok(([(header::CONTENT_TYPE, types::XML)], text).into_response())
}

/// Forget a network's definition. One that is active goes on, and vanishes when it stops.
#[utoipa::path(delete, path = "/v1/networks/{network}", tag = "Networks",
    operation_id = "undefine_network",
    params(NetworkPath), responses((status = 204, description = "Forgotten")))]
pub(super) async fn undefine(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(NetworkPath { network }): PathParams<NetworkPath>,
) -> Result<StatusCode, Failure> {
    change(&app.manager, &caller, NetworkRef(network), NetworkAction::Undefine).await
}

async fn change(
    manager: &Manager,
    caller: &Caller,
    network: NetworkRef,
    action: NetworkAction,
) -> Result<StatusCode, Failure> {
    manager.call(caller, ops::ChangeNetwork { network, action }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Start a network: its bridge, its rules, its DHCP and DNS.
#[utoipa::path(post, path = "/v1/networks/{network}/start", tag = "Networks",
    operation_id = "start_network",
    params(NetworkPath), responses((status = 204, description = "Started")))]
pub(super) async fn start(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(NetworkPath { network }): PathParams<NetworkPath>,
) -> Result<StatusCode, Failure> {
    change(&app.manager, &caller, NetworkRef(network), NetworkAction::Start).await
}

/// Stop a network. Its guests run on, and reach nobody until it starts again.
#[utoipa::path(post, path = "/v1/networks/{network}/stop", tag = "Networks",
    operation_id = "stop_network",
    params(NetworkPath), responses((status = 204, description = "Stopped")))]
pub(super) async fn stop(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(NetworkPath { network }): PathParams<NetworkPath>,
) -> Result<StatusCode, Failure> {
    change(&app.manager, &caller, NetworkRef(network), NetworkAction::Stop).await
}

/// Start the network when the host boots, or no longer do.
#[utoipa::path(put, path = "/v1/networks/{network}/autostart", tag = "Networks",
    operation_id = "autostart_network", params(NetworkPath),
    request_body = types::Autostart, responses((status = 204, description = "Set")))]
pub(super) async fn autostart(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(NetworkPath { network }): PathParams<NetworkPath>,
    JsonBody(types::Autostart { enabled }): JsonBody<types::Autostart>,
) -> Result<StatusCode, Failure> {
    let action = NetworkAction::SetAutostart(enabled);
    change(&app.manager, &caller, NetworkRef(network), action).await
}

/// The addresses that guests have by DHCP.
#[utoipa::path(get, path = "/v1/networks/{network}/leases", tag = "Networks",
    operation_id = "network_leases", params(NetworkPath, LeaseQuery),
    responses((status = 200, body = [types::Lease])))]
pub(super) async fn leases(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(NetworkPath { network }): PathParams<NetworkPath>,
    Params(LeaseQuery { mac }): Params<LeaseQuery>,
) -> Result<Json<Vec<types::Lease>>, Failure> {
    let leases = ops::NetworkLeases { network: NetworkRef(network), mac };
    let leases = app.manager.call(&caller, leases).await?;
    Ok(Json(leases.into_iter().map(Into::into).collect()))
}

/// Change one entry of a network, at once if it is active.
#[utoipa::path(post, path = "/v1/networks/{network}/update", tag = "Networks",
    operation_id = "update_network", params(NetworkPath, AffectsQuery),
    request_body = types::UpdateNetwork, responses((status = 204, description = "Changed")))]
pub(super) async fn update(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(NetworkPath { network }): PathParams<NetworkPath>,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
    JsonBody(body): JsonBody<types::UpdateNetwork>,
) -> Result<StatusCode, Failure> {
    let update = ops::UpdateNetwork {
        network: NetworkRef(network),
        command: body.command,
        section: body.section,
        index: body.parent_index,
        xml: body.xml,
        affects: Affects { live, config },
    };
    app.manager.call(&caller, update).await?;
    Ok(StatusCode::NO_CONTENT)
}
