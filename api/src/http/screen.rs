//! The page that shows a guest's screen: noVNC on our own WebSocket. Part of the binary, so that it
//! works without any other server.

use axum::Router;
use axum::routing::get;

use super::App;
use super::openapi::page;

const PAGE: &str = include_str!("../../../resources/web/screen.html");
const SCRIPT: &str = include_str!("../../../resources/web/screen.js");
const STYLE: &str = include_str!("../../../resources/web/screen.css");
/// Of others, under a licence of its own: see the directory.
const NOVNC: &str = include_str!("../../../resources/web/novnc/novnc.js");

pub(super) fn pages() -> Router<App> {
    Router::new()
        .route("/screen", get(async || page("text/html; charset=utf-8", PAGE)))
        .route("/screen/screen.js", get(async || page("text/javascript; charset=utf-8", SCRIPT)))
        .route("/screen/screen.css", get(async || page("text/css; charset=utf-8", STYLE)))
        .route("/screen/novnc.js", get(async || page("text/javascript; charset=utf-8", NOVNC)))
}
