//! What a definition would change in a domain, and its change.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use management::ops::{self, ApplyDomain, PlanDomain};

use super::App;
use super::error::Failure;
use super::extract::{Domain, Who, Xml};
use crate::types;

/// Say what a definition would change in a domain.
///
/// Every difference, and when it takes effect: `live` in the running guest, at the `next-start`, or never,
/// because it would be another domain (`re-create`). Nothing is changed.
#[utoipa::path(post, path = "/v1/domains/{domain}/plan", tag = "Definitions", params(Domain),
    request_body(content = String, content_type = "application/xml",
        description = "libvirt domain XML, at most 1 MiB. What it leaves open (UUID, addresses) is as \
                       the domain has it"),
    responses((status = 200, body = types::Plan),
        (status = 400, body = types::Problem, content_type = "application/problem+json",
            description = "It is the definition of another domain"),
        (status = 422, body = types::Problem, content_type = "application/problem+json",
            description = "Every mistake of the document at once, in `errors`")))]
pub(super) async fn plan(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Xml(xml): Xml,
) -> Result<Json<types::Plan>, Failure> {
    let plan = app.manager.call(&caller, PlanDomain { domain, xml }).await?;
    Ok(Json(plan.into()))
}

/// Give a domain a definition, and make it true in the running guest where that can be.
///
/// What the plan calls `live` is done at once, the rest at the next start. If a part of it fails, what was
/// done is taken back, and the old definition is stored again.
#[utoipa::path(post, path = "/v1/domains/{domain}/apply", tag = "Definitions", params(Domain),
    request_body(content = String, content_type = "application/xml",
        description = "libvirt domain XML, as for a plan"),
    responses((status = 202, body = types::Job, description = "A job does it",
            headers(("location" = String, description = "Of the job"))),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "The domain is transient")))]
pub(super) async fn apply(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Xml(xml): Xml,
) -> Result<Response, Failure> {
    let job: types::Job = app.manager.call(&caller, ApplyDomain { domain, xml }).await?.into();
    let place = format!("/v1/jobs/{}", job.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, place)], Json(job)).into_response())
}

impl From<ops::Plan> for types::Plan {
    fn from(plan: ops::Plan) -> Self {
        let change = |change: management::PlannedChange| types::PlannedChange {
            path: change.difference.path,
            old: change.difference.old,
            new: change.difference.new,
            when: change.when.name().to_owned(),
        };
        Self {
            name: plan.domain.name,
            uuid: plan.domain.uuid,
            running: plan.running,
            changes: plan.changes.into_iter().map(change).collect(),
            unsupported: plan.unsupported.into_iter().map(Into::into).collect(),
            left_out: plan.left_out.into_iter().map(Into::into).collect(),
        }
    }
}
