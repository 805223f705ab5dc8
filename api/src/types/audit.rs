//! The audit log.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditLog {
    /// In the order of their ids.
    pub records: Vec<AuditRecord>,
}

/// One call: who did what, when, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// Grows from line to line and is never given twice; lines that could not be written leave a gap.
    pub id: u64,
    /// When it ended: RFC 3339, UTC.
    pub time: String,
    #[schema(example = "uid 1000 (pid 4711)")]
    pub caller: String,
    /// How the caller was told from others: `unix`, `token`, `certificate`, `loopback` or `daemon`.
    #[schema(example = "unix")]
    pub via: String,
    #[schema(example = "domain.start")]
    pub operation: String,
    /// Which of the things that the operation can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<AuditTarget>,
    /// `ok`, the code of an error, or `abandoned`: the caller went before there was an answer.
    #[schema(example = "ok")]
    pub result: String,
    pub duration_us: u64,
    /// Refusals before this one that were too many to be written down each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<u64>,
}

/// What a call was about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditTarget {
    #[schema(example = "domain")]
    pub kind: String,
    #[schema(example = "web")]
    pub name: String,
    /// Of a domain that there was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
}
