//! Tokens: make, list, revoke.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use management::auth::TokenView;
use management::{Role, ops};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::Failure;
use super::extract::{JsonBody, PathParams, Who};
use crate::types;

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct TokenPath {
    /// Name or id
    token: String,
}

/// List tokens, without their secrets.
#[utoipa::path(get, path = "/v1/tokens", tag = "Access", operation_id = "list_tokens",
    responses((status = 200, body = types::TokenList)))]
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Json<types::TokenList>, Failure> {
    let tokens = app.manager.call(&caller, ops::ListTokens).await?;
    Ok(Json(types::TokenList { tokens: tokens.into_iter().map(Into::into).collect() }))
}

/// Make a token.
///
/// The secret is in this answer and nowhere else: what is stored is a hash of it.
#[utoipa::path(post, path = "/v1/tokens", tag = "Access", operation_id = "create_token",
    request_body = types::CreateToken,
    responses((status = 201, body = types::NewToken)))]
pub(super) async fn create(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(wanted): JsonBody<types::CreateToken>,
) -> Result<Response, Failure> {
    let create = ops::CreateToken {
        name: wanted.name,
        role: wanted.role.into(),
        domains: wanted.domains,
        lifetime: wanted.lifetime_s.map(Duration::from_secs),
    };
    let new = app.manager.call(&caller, create).await?;
    let new = types::NewToken { token: new.token.into(), secret: new.secret };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(new)).into_response())
}

/// Revoke a token.
#[utoipa::path(delete, path = "/v1/tokens/{token}", tag = "Access", operation_id = "revoke_token",
    params(TokenPath), responses((status = 204, description = "It lets nobody in any more")))]
pub(super) async fn revoke(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(TokenPath { token }): PathParams<TokenPath>,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::RevokeToken { token }).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<types::Role> for Role {
    fn from(role: types::Role) -> Self {
        match role {
            types::Role::Reader => Self::Reader,
            types::Role::Operator => Self::Operator,
            types::Role::Admin => Self::Admin,
        }
    }
}

impl From<TokenView> for types::Token {
    fn from(token: TokenView) -> Self {
        let role = match token.role {
            Role::Reader => types::Role::Reader,
            Role::Operator => types::Role::Operator,
            Role::Admin => types::Role::Admin,
        };
        Self {
            id: token.id,
            name: token.name,
            role,
            domains: token.domains,
            created: token.created.to_string(),
            expires: token.expires.map(|time| time.to_string()),
        }
    }
}
