//! What people and programs note about a domain.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use management::domain::{Affects, ElementChange, MetadataChange, NewElement};
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::device::AffectsQuery;
use super::error::Failure;
use super::extract::{Domain, JsonBody, Params, Who, switch};
use crate::types;

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct MetadataQuery {
    /// The namespace whose element of `<metadata>` is wanted
    uri: Option<String>,
    /// The definition of the running domain
    #[serde(deserialize_with = "switch")]
    live: bool,
    /// The stored definition
    #[serde(deserialize_with = "switch")]
    config: bool,
}

/// Title, description, and the element that a program keeps in `<metadata>`.
#[utoipa::path(get, path = "/v1/domains/{domain}/metadata", tag = "Definitions",
    params(Domain, MetadataQuery),
    responses((status = 200, body = types::Metadata)))]
pub(super) async fn metadata(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(MetadataQuery { uri, live, config }): Params<MetadataQuery>,
) -> Result<Json<types::Metadata>, Failure> {
    let affects = Affects { live, config };
    let found = app.manager.call(&caller, ops::GetMetadata { domain, uri, affects }).await?;
    Ok(Json(types::Metadata {
        title: found.title,
        description: found.description,
        element: found.element,
    }))
}

/// Change them. What is not said stays; an empty title or description is none.
#[utoipa::path(patch, path = "/v1/domains/{domain}/metadata", tag = "Definitions",
    params(Domain, AffectsQuery),
    request_body = types::MetadataChange,
    responses((status = 204, description = "Changed"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "`live` of a domain that does not run, or `config` of a transient one")))]
pub(super) async fn change(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
    JsonBody(change): JsonBody<types::MetadataChange>,
) -> Result<StatusCode, Failure> {
    let affects = Affects { live, config };
    let element = change.element.map(|element| ElementChange {
        uri: element.uri,
        new: element.xml.map(|xml| NewElement { key: element.key.unwrap_or_default(), xml }),
    });
    let change = MetadataChange { title: change.title, description: change.description, element };
    app.manager.call(&caller, ops::SetMetadata { domain, change, affects }).await?;
    Ok(StatusCode::NO_CONTENT)
}
