//! Who did what.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use management::audit::Record;
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::{Failure, HttpCode};
use super::extract::{Params, Who};
use crate::types;

/// Longer than this nobody waits on one connection.
const LONGEST_WAIT: u64 = 60_000;
const MOST_RECORDS: u32 = 1000;

#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Only those after the record of this id, the first of them; without it the latest.
    after: Option<u64>,
    /// At most so many records, and at most 1000.
    limit: u32,
    /// If there is none after `after` yet, wait for one, for so many milliseconds; at most 60000.
    wait_ms: u64,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self { after: None, limit: 100, wait_ms: 0 }
    }
}

/// Read the audit log.
///
/// One record for each call that may change something, and for each that was refused.
#[utoipa::path(get, path = "/v1/audit", tag = "Access", params(AuditQuery),
    responses((status = 200, body = types::AuditLog)))]
pub(super) async fn audit(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<AuditQuery>,
) -> Result<Json<types::AuditLog>, Failure> {
    let AuditQuery { after, limit, wait_ms } = query;
    let refuse = |text: String| Err(Failure::new(HttpCode::BadRequest, text));
    if !(1..=MOST_RECORDS).contains(&limit) {
        return refuse(format!("limit lies between 1 and {MOST_RECORDS}"));
    }
    if wait_ms > LONGEST_WAIT {
        return refuse(format!("wait_ms is at most {LONGEST_WAIT}"));
    }
    let wait = Duration::from_millis(wait_ms);
    let question = ops::GetAudit { after, limit: limit as usize, wait };
    let records = app.manager.call(&caller, question).await?;
    Ok(Json(types::AuditLog { records: records.into_iter().map(Into::into).collect() }))
}

impl From<Record> for types::AuditRecord {
    fn from(record: Record) -> Self {
        let target = record.target.map(|target| types::AuditTarget {
            kind: target.kind,
            name: target.name,
            uuid: target.uuid,
        });
        Self {
            id: record.id,
            time: record.time.to_string(),
            caller: record.caller,
            via: record.via.to_string(),
            operation: record.operation,
            detail: Some(record.detail).filter(|detail| !detail.is_empty()),
            target,
            result: record.result,
            duration_us: record.duration_us,
            suppressed: Some(record.suppressed).filter(|count| *count > 0),
        }
    }
}
