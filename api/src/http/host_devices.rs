//! The host's devices and interfaces, and which filters are in force.

use axum::Json;
use axum::extract::State;
use management::ops;

use super::App;
use super::error::Failure;
use super::extract::{PathParams, Who};
use crate::types;

fn device(device: ops::NodeDevice) -> types::NodeDevice {
    let (name, kind) = (device.name, device.kind.name().to_owned());
    types::NodeDevice { name, kind, parent: device.parent, xml: device.xml }
}

fn binding(binding: ops::FilterBinding) -> types::FilterBinding {
    types::FilterBinding { device: binding.device, filter: binding.filter, xml: binding.xml }
}

/// The host's devices, as libvirt names them.
///
/// That one came, went or changed is the event `node-device`; there are such events from when this was
/// asked for the first time.
#[utoipa::path(get, path = "/v1/node/devices", tag = "Node", operation_id = "node_devices",
    responses((status = 200, body = types::NodeDeviceList)))]
pub(super) async fn devices(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Json<types::NodeDeviceList>, Failure> {
    app.manager.call(&caller, ops::WatchNodeDevices).await?;
    let devices = app.manager.call(&caller, ops::ListNodeDevices).await?;
    Ok(Json(types::NodeDeviceList { devices: devices.into_iter().map(device).collect() }))
}

/// One of them.
#[utoipa::path(get, path = "/v1/node/devices/{device}", tag = "Node", operation_id = "node_device",
    params(("device" = String, Path, description = "Its name")),
    responses((status = 200, body = types::NodeDevice)))]
pub(super) async fn one_device(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(name): PathParams<String>,
) -> Result<Json<types::NodeDevice>, Failure> {
    Ok(Json(device(app.manager.call(&caller, ops::DescribeNodeDevice { name }).await?)))
}

/// The host's network interfaces.
#[utoipa::path(get, path = "/v1/node/interfaces", tag = "Node", operation_id = "node_interfaces",
    responses((status = 200, body = types::HostInterfaceList)))]
pub(super) async fn interfaces(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Json<types::HostInterfaceList>, Failure> {
    let found = app.manager.call(&caller, ops::ListHostInterfaces).await?;
    let interface = |found: ops::HostInterface| types::HostInterface {
        name: found.name,
        mac: found.mac,
        active: found.active,
        xml: found.xml,
    };
    Ok(Json(types::HostInterfaceList { interfaces: found.into_iter().map(interface).collect() }))
}

/// Which filter is in force at which interface of a running guest.
#[utoipa::path(get, path = "/v1/filter-bindings", tag = "Networks", operation_id = "filter_bindings",
    responses((status = 200, body = types::FilterBindingList)))]
pub(super) async fn bindings(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Json<types::FilterBindingList>, Failure> {
    let found = app.manager.call(&caller, ops::ListFilterBindings).await?;
    Ok(Json(types::FilterBindingList { bindings: found.into_iter().map(binding).collect() }))
}

/// That of one interface.
#[utoipa::path(get, path = "/v1/filter-bindings/{device}", tag = "Networks",
    operation_id = "filter_binding",
    params(("device" = String, Path, description = "The tap")),
    responses((status = 200, body = types::FilterBinding)))]
pub(super) async fn one_binding(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(device): PathParams<String>,
) -> Result<Json<types::FilterBinding>, Failure> {
    Ok(Json(binding(app.manager.call(&caller, ops::DescribeFilterBinding { device }).await?)))
}
