//! Tuning of domains: shares, limits and pins.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use management::domain::{self as view, Affects, DomainRef};
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::device::AffectsQuery;
use super::error::Failure;
use super::extract::{Domain, JsonBody, Params, PathParams, Who};
use crate::types;

/// How a domain is tuned.
///
/// `live` or `config` say of which definition is told: without either, of the live one of a running
/// domain, else of the stored one. Both at once is a mistake.
#[utoipa::path(get, path = "/v1/domains/{domain}/tuning", tag = "Tuning",
    params(Domain, AffectsQuery),
    responses((status = 200, body = types::Tuning),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "`live` of a domain that does not run, or `config` of a transient one")))]
pub(super) async fn tuning(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
) -> Result<Json<types::Tuning>, Failure> {
    let affects = Affects { live, config };
    let tuning = app.manager.call(&caller, ops::GetTuning { domain, affects }).await?;
    Ok(Json(tuning.into()))
}

/// Tune a domain.
///
/// Members that are absent stay as they are; 0 takes a limit away, and an empty list of CPUs a pin.
#[utoipa::path(patch, path = "/v1/domains/{domain}/tuning", tag = "Tuning",
    params(Domain, AffectsQuery),
    request_body = types::Tuning,
    responses((status = 204, description = "Tuned"),
        (status = 404, body = types::Problem, content_type = "application/problem+json",
            description = "There is no such domain, or it has no such disk or interface"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "`live` of a domain that does not run, or `config` of a transient one"),
        (status = 422, body = types::Problem, content_type = "application/problem+json",
            description = "The host has no controller for such a limit")))]
pub(super) async fn tune(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
    JsonBody(change): JsonBody<types::Tuning>,
) -> Result<StatusCode, Failure> {
    let affects = Affects { live, config };
    app.manager.call(&caller, ops::TuneDomain { domain, change: change.into(), affects }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct IoThread {
    /// Name, UUID, or id of a running domain
    domain: String,
    /// Number of the io thread
    iothread: u32,
}

/// Have the next start make an io thread.
#[utoipa::path(put, path = "/v1/domains/{domain}/iothreads/{iothread}", tag = "Tuning",
    params(IoThread, AffectsQuery),
    responses((status = 204, description = "It will be there")))]
pub(super) async fn add_io_thread(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(IoThread { domain, iothread }): PathParams<IoThread>,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
) -> Result<StatusCode, Failure> {
    let (domain, affects) = (DomainRef::Any(domain), Affects { live, config });
    let change = view::IoThreadChange::Add(iothread);
    app.manager.call(&caller, ops::ChangeIoThread { domain, change, affects }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Have the next start make no such io thread.
#[utoipa::path(delete, path = "/v1/domains/{domain}/iothreads/{iothread}", tag = "Tuning",
    params(IoThread, AffectsQuery),
    responses((status = 204, description = "It will not be there")))]
pub(super) async fn remove_io_thread(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(IoThread { domain, iothread }): PathParams<IoThread>,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
) -> Result<StatusCode, Failure> {
    let (domain, affects) = (DomainRef::Any(domain), Affects { live, config });
    let change = view::IoThreadChange::Remove(iothread);
    app.manager.call(&caller, ops::ChangeIoThread { domain, change, affects }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The same members on the wire and in management, whichever way.
macro_rules! same {
    ($($name:ident { $($field:ident),* $(,)? })*) => {$(
        impl From<view::$name> for types::$name {
            fn from(from: view::$name) -> Self {
                Self { $($field: from.$field),* }
            }
        }

        impl From<types::$name> for view::$name {
            fn from(from: types::$name) -> Self {
                Self { $($field: from.$field),* }
            }
        }
    )*};
}

same! {
    CpuTuning {
        shares, period_us, quota_us, global_period_us, global_quota_us, emulator_period_us,
        emulator_quota_us, iothread_period_us, iothread_quota_us,
    }
    Pin {
        id, cpus,
    }
    MemoryTuning {
        hard_limit_bytes, soft_limit_bytes, swap_hard_limit_bytes,
    }
    BlockDeviceTuning {
        path, weight, read_iops_sec, write_iops_sec, read_bytes_sec, write_bytes_sec,
    }
    DiskTuning {
        disk, group_name, total_bytes_sec, read_bytes_sec, write_bytes_sec, total_iops_sec,
        read_iops_sec, write_iops_sec, total_bytes_sec_max, read_bytes_sec_max,
        write_bytes_sec_max, total_iops_sec_max, read_iops_sec_max, write_iops_sec_max,
        total_bytes_sec_max_length, read_bytes_sec_max_length, write_bytes_sec_max_length,
        total_iops_sec_max_length, read_iops_sec_max_length, write_iops_sec_max_length,
        size_iops_sec,
    }
    Sizes { vcpus, max_vcpus, max_memory_bytes }
    NumaTuning { mode, nodes }
    RateTuning {
        average, peak, burst,
    }
}

/// Members that are lists, or that have members themselves.
macro_rules! nested {
    ($($name:ident($from:ident) $body:expr;)*) => {$(
        impl From<view::$name> for types::$name {
            fn from($from: view::$name) -> Self {
                use types::*;
                $body
            }
        }

        impl From<types::$name> for view::$name {
            fn from($from: types::$name) -> Self {
                use view::*;
                $body
            }
        }
    )*};
}

nested! {
    Tuning(from) Tuning {
        cpu: from.cpu.into(),
        pins: from.pins.into(),
        memory: from.memory.into(),
        block: from.block.into(),
        disks: each(from.disks),
        interfaces: each(from.interfaces),
        sizes: from.sizes.into(),
        numa: from.numa.into(),
    };
    Pins(from) Pins {
        vcpus: each(from.vcpus),
        emulator: from.emulator,
        iothreads: each(from.iothreads),
    };
    BlockTuning(from) BlockTuning { weight: from.weight, devices: each(from.devices) };
    InterfaceTuning(from) InterfaceTuning {
        interface: from.interface,
        inbound: from.inbound.map(Into::into),
        outbound: from.outbound.map(Into::into),
    };
}

fn each<T, U: From<T>>(all: Vec<T>) -> Vec<U> {
    all.into_iter().map(U::from).collect()
}
