//! Moving in from another libvirt.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use management::import::{self, Judgement, Verdict};
use management::ops::{ApplyImport, PlanImport};
use management::{Code, Error};

use super::App;
use super::error::Failure;
use super::extract::{ImportBody, Who};
use crate::types;

/// Say what would become of the definitions of another libvirt.
///
/// Each document is judged by the rules that its own definition has, and with the others in view. Nothing is
/// changed.
#[utoipa::path(post, path = "/v1/import/plan", tag = "Moving in",
    request_body(content = types::Import,
        description = "Definitions as libvirt has them in its files, 1 MiB each and 64 MiB together at most"),
    responses((status = 200, body = types::ImportPlan),
        (status = 400, body = types::Problem, content_type = "application/problem+json",
            description = "Too many documents, or a root that is no absolute path")))]
pub(super) async fn plan_import(
    State(app): State<App>,
    Who(caller): Who,
    ImportBody(import): ImportBody,
) -> Result<Json<types::ImportPlan>, Failure> {
    let judged = app.manager.call(&caller, PlanImport(read(import)?)).await?;
    Ok(Json(types::ImportPlan { objects: judged.into_iter().map(Into::into).collect() }))
}

/// Take over what the plan does not refuse.
///
/// One job does it, secrets first and domains last, and each of them is stored whole or not at all. Asked again,
/// it goes on with what is not here yet.
#[utoipa::path(post, path = "/v1/import/apply", tag = "Moving in",
    request_body(content = types::Import, description = "As for a plan"),
    responses((status = 202, body = types::Job, description = "A job does it",
            headers(("location" = String, description = "Of the job"))),
        (status = 400, body = types::Problem, content_type = "application/problem+json",
            description = "Too many documents, or a root that is no absolute path")))]
pub(super) async fn apply_import(
    State(app): State<App>,
    Who(caller): Who,
    ImportBody(import): ImportBody,
) -> Result<Response, Failure> {
    let job: types::Job = app.manager.call(&caller, ApplyImport(read(import)?)).await?.into();
    let place = format!("/v1/jobs/{}", job.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, place)], Json(job)).into_response())
}

fn read(import: types::Import) -> Result<import::Import, Failure> {
    let documents = import.documents.into_iter().map(document).collect::<Result<_, Failure>>()?;
    Ok(import::Import { root: import.root.into(), documents })
}

fn document(document: types::ImportDocument) -> Result<import::ImportDocument, Failure> {
    let types::ImportDocument { name, value, .. } = document;
    let value = value.map(|value| STANDARD.decode(value.trim())).transpose().map_err(|error| {
        let text = format!("the value of secret {name:?} is not base64: {error}");
        Error::new(Code::InvalidArgument, text)
    })?;
    Ok(import::ImportDocument {
        kind: document.kind.into(),
        name,
        file: document.file,
        xml: document.xml,
        autostart: document.autostart,
        runs: document.runs,
        managed_save: document.managed_save,
        snapshots: document.snapshots,
        checkpoints: document.checkpoints,
        value,
    })
}

impl From<types::ImportKind> for import::ImportKind {
    fn from(kind: types::ImportKind) -> Self {
        match kind {
            types::ImportKind::Secret => Self::Secret,
            types::ImportKind::Filter => Self::Filter,
            types::ImportKind::Network => Self::Network,
            types::ImportKind::Pool => Self::Pool,
            types::ImportKind::Domain => Self::Domain,
        }
    }
}

impl From<import::ImportKind> for types::ImportKind {
    fn from(kind: import::ImportKind) -> Self {
        match kind {
            import::ImportKind::Secret => Self::Secret,
            import::ImportKind::Filter => Self::Filter,
            import::ImportKind::Network => Self::Network,
            import::ImportKind::Pool => Self::Pool,
            import::ImportKind::Domain => Self::Domain,
        }
    }
}

impl From<Judgement> for types::ImportedObject {
    fn from(judgement: Judgement) -> Self {
        Self {
            kind: judgement.kind.into(),
            name: judgement.name,
            uuid: judgement.uuid,
            file: judgement.file,
            verdict: match judgement.verdict {
                Verdict::AsItIs => types::ImportVerdict::AsItIs,
                Verdict::Changed => types::ImportVerdict::Changed,
                Verdict::Present => types::ImportVerdict::Present,
                Verdict::Refused => types::ImportVerdict::Refused,
            },
            autostart: judgement.autostart,
            reason: judgement.reason,
            changes: judgement.changes,
            notes: judgement.notes,
            problems: judgement.problems.into_iter().map(Into::into).collect(),
        }
    }
}
