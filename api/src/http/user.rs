//! Users of libvirt's protocol: make, list, remove.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use management::auth::UserView;
use management::{Role, ops};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::Failure;
use super::extract::{JsonBody, PathParams, Who};
use crate::types;

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct UserPath {
    name: String,
}

/// List the users that libvirt's protocol knows by a password.
#[utoipa::path(get, path = "/v1/users", tag = "Access", operation_id = "list_users",
    responses((status = 200, body = types::UserList)))]
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Json<types::UserList>, Failure> {
    let users = app.manager.call(&caller, ops::ListUsers).await?;
    Ok(Json(types::UserList { users: users.into_iter().map(Into::into).collect() }))
}

/// Make a user, or give one that there is another password, role and confinement.
///
/// What is stored is what SCRAM-SHA-256 makes of the password. Whoever is connected as this user
/// is cut off.
#[utoipa::path(put, path = "/v1/users/{name}", tag = "Access", operation_id = "set_user",
    params(UserPath), request_body = types::SetUser,
    responses((status = 204, description = "It is let in by this password")))]
pub(super) async fn set(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(UserPath { name }): PathParams<UserPath>,
    JsonBody(wanted): JsonBody<types::SetUser>,
) -> Result<StatusCode, Failure> {
    let types::SetUser { password, role, domains } = wanted;
    let set = ops::SetUser { name, role: role.into(), domains, password };
    app.manager.call(&caller, set).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a user.
#[utoipa::path(delete, path = "/v1/users/{name}", tag = "Access", operation_id = "remove_user",
    params(UserPath), responses((status = 204, description = "It is let in no more")))]
pub(super) async fn remove(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(UserPath { name }): PathParams<UserPath>,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::RemoveUser { name }).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<UserView> for types::User {
    fn from(user: UserView) -> Self {
        let role = match user.role {
            Role::Reader => types::Role::Reader,
            Role::Operator => types::Role::Operator,
            Role::Admin => types::Role::Admin,
        };
        let UserView { name, domains, changed, .. } = user;
        Self { name, role, domains, changed: changed.to_string() }
    }
}
