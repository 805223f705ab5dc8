//! The HTTP server: [`routes`] is the one table of what it answers, [`server`] the sockets.
//!
//! ```text
//! connection ─ server (limits, deadlines, who calls) ─ guard (foreign web pages) ─ routes
//!   ─ extract ─ Manager::call ─ convert ─ JSON, XML, a stream
//! ```

#![allow(unused_qualifications, reason = "the macro that documents a handler writes them")]

mod console;
mod convert;
mod definition;
mod device;
mod display;
mod error;
mod events;
mod extract;
mod guard;
mod memory;
mod metrics;
mod node;
mod openapi;
mod power;
mod query;
mod screen;
pub mod server;
mod stalled;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::http::{Method, Uri};
use management::Manager;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use error::{Failure, HttpCode};
pub use extract::{BODY_TIMEOUT, MAX_JSON, MAX_XML};

/// What every handler can reach.
#[derive(Clone)]
pub struct App {
    manager: Manager,
}

/// Every route with its documentation: a handler that is not described here does not exist.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(query::list, definition::define))
        .routes(routes!(query::describe, definition::redefine, definition::undefine))
        .routes(routes!(query::xml))
        .routes(routes!(query::state))
        .routes(routes!(query::stats))
        .routes(routes!(query::disks))
        .routes(routes!(query::interfaces))
        .routes(routes!(device::link))
        .routes(routes!(memory::memory))
        .routes(routes!(memory::stats_period))
        .routes(routes!(definition::rename))
        .routes(routes!(definition::autostart))
        .routes(routes!(power::start))
        .routes(routes!(power::shutdown))
        .routes(routes!(power::destroy))
        .routes(routes!(power::reboot))
        .routes(routes!(power::reset))
        .routes(routes!(power::suspend))
        .routes(routes!(power::resume))
        .routes(routes!(console::console))
        .routes(routes!(display::screenshot))
        .routes(routes!(display::vnc))
        .routes(routes!(display::send_keys))
        .routes(routes!(query::all_stats))
        .routes(routes!(node::node))
        .routes(routes!(node::capabilities))
        .routes(routes!(events::events))
        .routes(routes!(metrics::metrics))
        .routes(routes!(openapi::document))
}

/// The whole service, for any caller that stands in a request's extensions.
pub fn router(manager: Manager) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .merge(openapi::pages())
        .merge(screen::pages())
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::from_fn(guard::guard))
        .with_state(App { manager })
}

async fn no_such_route(uri: Uri) -> Failure {
    let detail = format!("there is nothing at {}; see /openapi.json", uri.path());
    Failure::new(HttpCode::NoSuchRoute, detail)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Failure {
    Failure::new(HttpCode::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
}
