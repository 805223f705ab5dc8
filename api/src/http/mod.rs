//! The HTTP server: [`routes`] is the one table of what it answers, [`server`] the sockets.
//!
//! ```text
//! connection ─ server (limits, deadlines, who calls) ─ guard (foreign web pages)
//!   ─ remote (over TLS: who calls) ─ routes ─ extract ─ Manager::call ─ convert ─ JSON, XML, a stream
//! ```

#![allow(unused_qualifications, reason = "the macro that documents a handler writes them")]

mod audit;
mod backup;
mod block_job;
mod bodiless;
mod console;
mod convert;
mod definition;
mod device;
mod display;
mod error;
mod events;
mod extract;
mod filter;
mod guard;
mod guest;
mod guest_convert;
mod guest_cpus;
mod host;
mod host_devices;
mod image;
mod import;
mod job;
mod media;
mod memory;
mod metadata;
mod metrics;
mod network;
mod network_ports;
mod node;
mod openapi;
mod peek;
mod plan;
mod plug;
mod pool;
mod power;
mod query;
pub mod remote;
mod saved;
mod screen;
pub mod server;
mod snapshot;
mod stalled;
mod storage_convert;
#[cfg(test)]
mod tests;
mod token;
mod transfer;
mod tuning;
mod turned_away;
mod user;
mod volume;

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
        .routes(routes!(query::addresses))
        .routes(routes!(query::security))
        .routes(routes!(device::link))
        .routes(routes!(plan::plan))
        .routes(routes!(plan::apply))
        .routes(routes!(plug::attach, plug::update))
        .routes(routes!(plug::detach))
        .routes(routes!(plug::detach_like))
        .routes(routes!(media::medium))
        .routes(routes!(media::size, media::sizes))
        .routes(routes!(media::threshold))
        .routes(routes!(block_job::list))
        .routes(routes!(block_job::start, block_job::end, block_job::limit))
        .routes(routes!(memory::memory))
        .routes(routes!(memory::stats_period))
        .routes(routes!(memory::dirty_rate))
        .routes(routes!(peek::peek_memory))
        .routes(routes!(peek::peek_disk))
        .routes(routes!(metadata::metadata, metadata::change))
        .routes(routes!(tuning::tuning, tuning::tune))
        .routes(routes!(tuning::add_io_thread, tuning::remove_io_thread))
        .routes(routes!(definition::rename))
        .routes(routes!(definition::autostart))
        .routes(routes!(saved::save))
        .routes(routes!(saved::dump))
        .routes(routes!(saved::clone))
        .routes(routes!(saved::managed_save, saved::drop_managed_save, saved::define_managed_save))
        .routes(routes!(saved::managed_save_xml))
        .routes(routes!(backup::begin, backup::xml))
        .routes(routes!(backup::create, backup::list))
        .routes(routes!(backup::checkpoint, backup::delete))
        .routes(routes!(saved::restore))
        .routes(routes!(saved::xml))
        .routes(routes!(saved::define))
        .routes(routes!(saved::check))
        .routes(routes!(snapshot::list, snapshot::create, snapshot::redefine))
        .routes(routes!(snapshot::current))
        .routes(routes!(snapshot::describe, snapshot::delete))
        .routes(routes!(snapshot::xml))
        .routes(routes!(snapshot::revert))
        .routes(routes!(saved::clone_saved))
        .routes(routes!(power::start))
        .routes(routes!(power::shutdown))
        .routes(routes!(power::destroy))
        .routes(routes!(power::reboot))
        .routes(routes!(power::reset))
        .routes(routes!(power::nmi))
        .routes(routes!(power::lifecycle_action))
        .routes(routes!(power::suspend))
        .routes(routes!(power::resume))
        .routes(routes!(console::console))
        .routes(routes!(display::screenshot))
        .routes(routes!(display::vnc))
        .routes(routes!(display::send_keys))
        .routes(routes!(guest::info))
        .routes(routes!(guest::hostname))
        .routes(routes!(guest::filesystems))
        .routes(routes!(guest::freeze))
        .routes(routes!(guest::thaw))
        .routes(routes!(guest::trim))
        .routes(routes!(guest::password))
        .routes(routes!(guest::time, guest::set_time))
        .routes(routes!(guest_cpus::vcpus, guest_cpus::set_vcpus))
        .routes(routes!(guest_cpus::set_machine_vcpus))
        .routes(routes!(guest_cpus::set_timeout))
        .routes(routes!(guest_cpus::ssh_keys, guest_cpus::set_ssh_keys))
        .routes(routes!(guest_cpus::sleep))
        .routes(routes!(guest::exec))
        .routes(routes!(guest::exec_status))
        .routes(routes!(guest::agent_command))
        .routes(routes!(network::list, network::define))
        .routes(routes!(network::describe, network::undefine))
        .routes(routes!(network::xml))
        .routes(routes!(network::start))
        .routes(routes!(network::stop))
        .routes(routes!(network::autostart))
        .routes(routes!(network::leases))
        .routes(routes!(network_ports::list))
        .routes(routes!(network_ports::xml))
        .routes(routes!(network::update))
        .routes(routes!(pool::list, pool::define))
        .routes(routes!(pool::describe, pool::undefine))
        .routes(routes!(pool::xml))
        .routes(routes!(pool::build))
        .routes(routes!(pool::start))
        .routes(routes!(pool::refresh))
        .routes(routes!(pool::stop))
        .routes(routes!(pool::delete))
        .routes(routes!(pool::autostart))
        .routes(routes!(pool::capabilities))
        .routes(routes!(pool::sources))
        .routes(routes!(volume::list, volume::create))
        .routes(routes!(volume::describe, volume::delete))
        .routes(routes!(volume::xml))
        .routes(routes!(volume::clone))
        .routes(routes!(volume::resize))
        .routes(routes!(volume::wipe))
        .routes(routes!(volume::find))
        .routes(routes!(image::users))
        .routes(routes!(transfer::download, transfer::upload))
        .routes(routes!(import::plan_import))
        .routes(routes!(import::apply_import))
        .routes(routes!(job::list))
        .routes(routes!(job::describe, job::abort))
        .routes(routes!(query::all_stats))
        .routes(routes!(node::node))
        .routes(routes!(node::capabilities))
        .routes(routes!(node::domain_capabilities))
        .routes(routes!(host_devices::devices))
        .routes(routes!(host_devices::one_device))
        .routes(routes!(host_devices::interfaces))
        .routes(routes!(filter::list, filter::define))
        .routes(routes!(filter::describe, filter::undefine))
        .routes(routes!(host_devices::bindings))
        .routes(routes!(host_devices::one_binding))
        .routes(routes!(host::sysinfo))
        .routes(routes!(host::cpu))
        .routes(routes!(host::cells))
        .routes(routes!(host::huge_pages))
        .routes(routes!(host::shared_memory, host::tune_shared_memory))
        .routes(routes!(host::compare_cpu))
        .routes(routes!(host::baseline_cpu))
        .routes(routes!(audit::audit))
        .routes(routes!(token::list, token::create))
        .routes(routes!(token::revoke))
        .routes(routes!(user::list))
        .routes(routes!(user::set, user::remove))
        .routes(routes!(events::events))
        .routes(routes!(metrics::metrics))
        .routes(routes!(openapi::document))
}

/// The whole service, for any caller that stands in a request's extensions.
pub fn router(manager: Manager) -> Router {
    let (router, document) = routes().split_for_parts();
    let app = App { manager };
    let bodiless = bodiless::Bodiless::of(&document);
    router
        .route_layer(axum::middleware::from_fn_with_state(bodiless, bodiless::refuse))
        .merge(openapi::pages())
        .merge(screen::pages())
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(app.clone(), remote::authenticate))
        .layer(axum::middleware::from_fn(guard::guard))
        .with_state(app)
}

async fn no_such_route(uri: Uri) -> Failure {
    let detail = format!("there is nothing at {}; see /openapi.json", uri.path());
    Failure::new(HttpCode::NoSuchRoute, detail)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Failure {
    Failure::new(HttpCode::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
}
