//! A guest's screen: a picture of it, VNC over a WebSocket, and keys.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use management::ops;

use super::App;
use super::console::{MAX_FRAME, relay};
use super::error::{Failure, HttpCode};
use super::extract::{Domain, JsonBody, Who};
use crate::types;

/// What noVNC asks for, as VNC viewers in browsers have since before WebSockets had binary frames.
const SUBPROTOCOL: &str = "binary";

/// Take a picture of what the guest shows.
///
/// A PNG file, as the guest's screen is now.
#[utoipa::path(get, path = "/v1/domains/{domain}/screenshot", tag = "Devices",
    params(Domain),
    responses((status = 200, description = "The picture", content_type = "image/png", body = [u8]),
        (status = 404, body = types::Problem, content_type = "application/problem+json",
            description = "There is no such domain, or it has no graphics card"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "The domain does not run")))]
pub(super) async fn screenshot(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Response, Failure> {
    let picture = app.manager.call(&caller, ops::TakeScreenshot { domain }).await?;
    let headers = [(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, picture).into_response())
}

/// See the guest's screen and work at it, over a WebSocket.
///
/// Binary frames carry the RFB protocol (VNC), as noVNC and other viewers in browsers speak it; the
/// subprotocol `binary` is agreed to. No VNC password is asked for: whoever may call this is in.
#[utoipa::path(get, path = "/v1/domains/{domain}/vnc", tag = "Devices",
    params(Domain),
    responses((status = 101, description = "Switching to WebSocket"),
        (status = 426, body = types::Problem, content_type = "application/problem+json",
            description = "Not a WebSocket request")))]
pub(super) async fn vnc(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let upgrade = upgrade
        .map_err(|error| Failure::new(HttpCode::UpgradeRequired, error.body_text()))?
        .max_frame_size(MAX_FRAME)
        .max_message_size(MAX_FRAME)
        .protocols([SUBPROTOCOL]);
    // Opened before the upgrade, so that a refusal is an ordinary error.
    let stream = app.manager.call(&caller, ops::OpenViewer { domain }).await?;
    Ok(upgrade.on_upgrade(|socket| relay(socket, stream)))
}

/// Press keys of the guest's keyboard together, and let them go.
///
/// The reply comes when they are let go.
#[utoipa::path(post, path = "/v1/domains/{domain}/send-keys", tag = "Devices",
    params(Domain),
    request_body = types::SendKeys,
    responses((status = 204, description = "Pressed"),
        (status = 400, body = types::Problem, content_type = "application/problem+json",
            description = "There is no such key or codeset"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "The domain does not run, or has no driver for a keyboard")))]
pub(super) async fn send_keys(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(body): JsonBody<types::SendKeys>,
) -> Result<StatusCode, Failure> {
    let types::SendKeys { keys, codeset, hold_ms } = body;
    let hold = Duration::from_millis(hold_ms.into());
    app.manager.call(&caller, ops::SendKeys { domain, keys, codeset, hold }).await?;
    Ok(StatusCode::NO_CONTENT)
}
