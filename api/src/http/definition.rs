//! Definitions: store, replace, forget, rename.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use management::domain::{DomainDetails, DomainRef, TurnChange, Variables};
use management::{Caller, ops};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::{Failure, HttpCode};
use super::extract::{DefinitionBody, Domain, JsonBody, Params, Who, Xml, switch};
use crate::types::{self, Mistake};

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DefineQuery {
    /// Start it as well.
    #[serde(deserialize_with = "switch")]
    start: bool,
    /// Start it without storing the definition: it vanishes when it stops.
    #[serde(deserialize_with = "switch")]
    transient: bool,
    /// With `start` or `transient`: do everything but run the vCPUs.
    #[serde(deserialize_with = "switch")]
    paused: bool,
    /// With `start` or `transient`: make its firmware variables anew.
    #[serde(deserialize_with = "switch")]
    reset_nvram: bool,
    /// Check everything and change nothing.
    #[serde(deserialize_with = "switch")]
    check: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct UndefineQuery {
    /// What becomes of the domain's firmware variables.
    nvram: Option<types::Nvram>,
    /// What was saved for its next start goes too.
    #[serde(deserialize_with = "switch")]
    managed_save: bool,
    /// What becomes of its snapshots; must be said where it has some.
    snapshots: Option<types::ForgottenSnapshots>,
}

/// Define a domain from libvirt XML.
///
/// The XML of a domain that exists (same name and UUID) replaces its definition; what runs goes on
/// as it is until its next start. A JSON body brings documents for the guest's cloud-init as well.
#[utoipa::path(post, path = "/v1/domains", tag = "Definitions", params(DefineQuery),
    request_body(content((String = "application/xml"), (types::Definition = "application/json")),
        description = "libvirt domain XML, at most 1 MiB"),
    responses(
        (status = 201, body = types::Defined, description = "Defined",
            headers(("location" = String, description = "Of the domain"))),
        (status = 200, body = types::Defined, description = "An existing definition was replaced"),
        (status = 204, description = "With `check`: nothing is wrong"),
        (status = 422, body = types::Problem, content_type = "application/problem+json",
            description = "Every mistake of the document at once, in `errors`"),
    ))]
pub(super) async fn define(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<DefineQuery>,
    DefinitionBody(types::Definition { xml, cloud_init }): DefinitionBody,
) -> Result<Response, Failure> {
    let starts = query.start || query.transient;
    for (name, given) in [("paused", query.paused), ("reset_nvram", query.reset_nvram)] {
        if given && !starts {
            let text = format!("{name} goes with start or transient");
            return Err(Failure::new(HttpCode::BadRequest, text));
        }
    }
    let (paused, reset_variables) = (query.paused, query.reset_nvram);
    let cloud_init = cloud_init.map(|documents| management::CloudInit {
        user_data: documents.user_data,
        meta_data: documents.meta_data,
        network_config: documents.network_config,
    });
    if query.check {
        let define = ops::DefineDomain { xml, cloud_init, check_only: true };
        app.manager.call(&caller, define).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    if query.transient {
        let create = ops::CreateDomain { xml, cloud_init, paused, reset_variables };
        let created = app.manager.call(&caller, create).await?;
        let domain = DomainRef::Uuid(created.domain.uuid);
        return reply(&app, &caller, domain, StatusCode::CREATED, created.warnings).await;
    }
    let define = ops::DefineDomain { xml, cloud_init, check_only: false };
    let defined = app.manager.call(&caller, define).await?;
    let domain = DomainRef::Uuid(defined.domain.uuid);
    if query.start {
        let start = ops::StartDomain {
            domain: domain.clone(),
            paused,
            reset_variables,
            force_boot: false,
            force: false,
        };
        app.manager.call(&caller, start).await?;
    }
    let status = if defined.updated { StatusCode::OK } else { StatusCode::CREATED };
    reply(&app, &caller, domain, status, defined.warnings).await
}

async fn reply(
    app: &App,
    caller: &Caller,
    domain: DomainRef,
    status: StatusCode,
    warnings: Vec<management::Problem>,
) -> Result<Response, Failure> {
    let domain = app.manager.call(caller, ops::DescribeDomain { domain }).await?;
    let location = format!("/v1/domains/{}", domain.summary.uuid);
    let tag = etag(&domain);
    let left_out = warnings.into_iter().map(Mistake::from).collect();
    let body = types::Defined { domain: domain.into(), left_out };
    Ok((status, [(header::LOCATION, location)], tag, Json(body)).into_response())
}

/// Changes with the stored definition, and with nothing else.
pub(super) fn etag(domain: &DomainDetails) -> Option<[(HeaderName, String); 1]> {
    domain.generation.map(|generation| [(header::ETAG, format!("\"{generation}\""))])
}

/// Replace a definition.
///
/// The name in the document must be that of the domain in the path, and so must the UUID, if there
/// is one. With `If-Match`, only the definition that had this `ETag` is replaced.
#[utoipa::path(put, path = "/v1/domains/{domain}", tag = "Definitions",
    params(Domain, ("if-match" = Option<String>, Header, description = "`ETag` of the domain")),
    request_body(content = String, content_type = "application/xml",
        description = "libvirt domain XML, at most 1 MiB"),
    responses((status = 200, body = types::Defined),
        (status = 412, body = types::Problem, content_type = "application/problem+json",
            description = "The definition was changed meanwhile")))]
pub(super) async fn redefine(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    headers: HeaderMap,
    Xml(xml): Xml,
) -> Result<Response, Failure> {
    let if_generation = if_match(&headers)?;
    let redefine = ops::RedefineDomain { domain, xml, if_generation };
    let defined = app.manager.call(&caller, redefine).await?;
    let domain = DomainRef::Uuid(defined.domain.uuid);
    reply(&app, &caller, domain, StatusCode::OK, defined.warnings).await
}

/// The generation in `If-Match`; none if anything will do.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let tag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    tag.and_then(|tag| tag.parse().ok()).map(Some).ok_or_else(|| {
        Failure::new(HttpCode::BadRequest, "If-Match is the ETag that a domain came with")
    })
}

/// Forget a definition.
///
/// A running domain goes on, and vanishes when it stops. Where the domain has firmware variables,
/// `nvram` says what becomes of them.
#[utoipa::path(delete, path = "/v1/domains/{domain}", tag = "Definitions",
    params(Domain, UndefineQuery),
    responses((status = 204, description = "Forgotten")))]
pub(super) async fn undefine(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(UndefineQuery { nvram, managed_save, snapshots }): Params<UndefineQuery>,
) -> Result<StatusCode, Failure> {
    let variables = nvram.map(|nvram| match nvram {
        types::Nvram::Keep => Variables::Keep,
        types::Nvram::Delete => Variables::Delete,
    });
    let snapshots = snapshots.is_some();
    let undefine = ops::UndefineDomain { domain, variables, managed_save, snapshots };
    app.manager.call(&caller, undefine).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give an inactive domain another name.
#[utoipa::path(post, path = "/v1/domains/{domain}/rename", tag = "Definitions",
    params(Domain),
    request_body = types::Rename, responses((status = 204, description = "Renamed")))]
pub(super) async fn rename(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(types::Rename { name }): JsonBody<types::Rename>,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::RenameDomain { domain, name }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Start the domain when the host boots, or no longer do.
#[utoipa::path(put, path = "/v1/domains/{domain}/autostart", tag = "Definitions",
    params(Domain),
    request_body = types::DomainAutostart, responses((status = 204, description = "Set")))]
pub(super) async fn autostart(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(wanted): JsonBody<types::DomainAutostart>,
) -> Result<StatusCode, Failure> {
    let turn = TurnChange {
        order: wanted.order,
        delay: wanted.delay_s,
        patience: wanted.shutdown_timeout_s,
        at_shutdown: wanted.at_shutdown.map(Into::into),
    };
    let autostart = wanted.enabled;
    app.manager.call(&caller, ops::SetAutostart { domain, autostart, turn }).await?;
    Ok(StatusCode::NO_CONTENT)
}
