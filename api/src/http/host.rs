//! The host's memory and processors.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use management::ops;

use super::App;
use super::error::Failure;
use super::extract::{JsonBody, PathParams, Who, Xml};
use super::query::as_xml;
use crate::types;

/// What the host's firmware says of it, as libvirt's `<sysinfo type='smbios'>`.
#[utoipa::path(get, path = "/v1/node/sysinfo", tag = "Node",
    responses((status = 200, body = String, content_type = "application/xml")))]
pub(super) async fn sysinfo(State(app): State<App>, Who(caller): Who) -> Result<Response, Failure> {
    Ok(as_xml(app.manager.call(&caller, ops::GetSysinfo).await?))
}

/// What one of the host's CPUs has done since it booted.
#[utoipa::path(get, path = "/v1/node/cpus/{cpu}", tag = "Node",
    params(("cpu" = u32, Path, description = "Its number")),
    responses((status = 200, body = types::CpuCounters)))]
pub(super) async fn cpu(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(cpu): PathParams<u32>,
) -> Result<Json<types::CpuCounters>, Failure> {
    let found = app.manager.call(&caller, ops::GetCpuCounters { cpu }).await?;
    Ok(Json(types::CpuCounters {
        user_ns: found.user,
        system_ns: found.system,
        idle_ns: found.idle,
        iowait_ns: found.iowait,
    }))
}

/// The host's NUMA cells, with their memory and their pages.
#[utoipa::path(get, path = "/v1/node/cells", tag = "Node",
    responses((status = 200, body = types::CellList)))]
pub(super) async fn cells(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Json<types::CellList>, Failure> {
    let cells = app.manager.call(&caller, ops::ListCells).await?;
    let pages = |pages: &ops::Pages| types::Pages {
        size_bytes: pages.size.saturating_mul(1024),
        total: pages.total,
        free: pages.free,
    };
    let cell = |cell: ops::Cell| types::Cell {
        id: cell.id,
        memory_bytes: cell.memory.saturating_mul(1024),
        free_bytes: cell.free.saturating_mul(1024),
        pages: cell.pages.iter().map(pages).collect(),
        cpus: cell.cpus.iter().map(|cpu| cpu.id).collect(),
    };
    Ok(Json(types::CellList { cells: cells.into_iter().map(cell).collect() }))
}

/// Put huge pages aside for guests, or give them back.
///
/// It is an error when the host finds fewer than it is asked for; those that it found stay.
#[utoipa::path(post, path = "/v1/node/huge-pages", tag = "Node",
    request_body = types::HugePages,
    responses((status = 204, description = "They are there")))]
pub(super) async fn huge_pages(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(wanted): JsonBody<types::HugePages>,
) -> Result<StatusCode, Failure> {
    let cells = wanted.cell.map_or(ops::Cells::Whole, |cell| ops::Cells::From(cell, 1));
    let pages = vec![(wanted.size_bytes / 1024, wanted.count)];
    app.manager.call(&caller, ops::AllocatePages { cells, pages, add: wanted.add }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How the kernel keeps pages of guests that are the same once, and what it saves.
#[utoipa::path(get, path = "/v1/node/shared-memory", tag = "Node",
    responses((status = 200, body = types::SharedMemory)))]
pub(super) async fn shared_memory(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Json<types::SharedMemory>, Failure> {
    let found = app.manager.call(&caller, ops::GetSharedMemory).await?;
    Ok(Json(types::SharedMemory {
        pages_to_scan: found.pages_to_scan,
        sleep_ms: found.sleep_millisecs,
        merge_across_nodes: found.merge_across_nodes.map(|value| value != 0),
        pages_shared: found.pages_shared,
        pages_sharing: found.pages_sharing,
        pages_unshared: found.pages_unshared,
        pages_volatile: found.pages_volatile,
        full_scans: found.full_scans,
    }))
}

/// Change how it looks for them.
#[utoipa::path(patch, path = "/v1/node/shared-memory", tag = "Node",
    request_body = types::SharedMemoryTuning,
    responses((status = 204, description = "Changed")))]
pub(super) async fn tune_shared_memory(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(change): JsonBody<types::SharedMemoryTuning>,
) -> Result<StatusCode, Failure> {
    let tune = ops::TuneSharedMemory {
        pages_to_scan: change.pages_to_scan,
        sleep_millisecs: change.sleep_ms,
        merge_across_nodes: change.merge_across_nodes.map(u32::from),
    };
    app.manager.call(&caller, tune).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the host has a processor, which is libvirt's `<cpu>`, and what of it is missing.
#[utoipa::path(post, path = "/v1/node/cpu/compare", tag = "Node",
    request_body(content = String, content_type = "application/xml"),
    responses((status = 200, body = types::CpuComparison)))]
pub(super) async fn compare_cpu(
    State(app): State<App>,
    Who(caller): Who,
    Xml(xml): Xml,
) -> Result<Json<types::CpuComparison>, Failure> {
    let (found, lacking) = app.manager.call(&caller, ops::CompareCpu { xml }).await?;
    let result = match found {
        ops::CpuComparison::Incompatible => types::CpuResult::Incompatible,
        ops::CpuComparison::Identical => types::CpuResult::Identical,
        ops::CpuComparison::Superset => types::CpuResult::Superset,
    };
    Ok(Json(types::CpuComparison { result, lacking }))
}

/// The richest processor that several can be, as libvirt's `<cpu>`.
#[utoipa::path(post, path = "/v1/node/cpu/baseline", tag = "Node",
    request_body = types::CpuBaseline,
    responses((status = 200, body = String, content_type = "application/xml")))]
pub(super) async fn baseline_cpu(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(types::CpuBaseline { cpus, expand }): JsonBody<types::CpuBaseline>,
) -> Result<Response, Failure> {
    let baseline = ops::BaselineCpu { documents: cpus, expand };
    Ok(as_xml(app.manager.call(&caller, baseline).await?))
}
