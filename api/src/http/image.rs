//! `/v1/images`: files of disks, wherever they lie.

use axum::Json;
use axum::extract::State;
use management::ops;
use management::storage::{ImageUse, User};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::Failure;
use super::extract::{Params, Who};
use crate::types::{self, ImageUserType};

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ImageQuery {
    /// Absolute path of an image.
    path: String,
}

/// List who needs an image: whose it is, and whose images lie on it.
#[utoipa::path(get, path = "/v1/images/users", tag = "Volumes", operation_id = "image_users",
    params(ImageQuery), responses((status = 200, body = types::ImageUserList)))]
pub(super) async fn users(
    State(app): State<App>,
    Who(caller): Who,
    Params(ImageQuery { path }): Params<ImageQuery>,
) -> Result<Json<types::ImageUserList>, Failure> {
    let users = app.manager.call(&caller, ops::ListImageUsers { path: path.into() }).await?;
    Ok(Json(types::ImageUserList { users: users.into_iter().map(Into::into).collect() }))
}

impl From<ImageUse> for types::ImageUser {
    fn from(found: ImageUse) -> Self {
        let mut user = Self {
            kind: ImageUserType::Domain,
            domain: None,
            disk: None,
            snapshot: None,
            pool: None,
            volume: None,
            depth: found.depth,
        };
        let (kind, domain, disk) = match found.user {
            User::Running { domain, disk } => (ImageUserType::RunningDomain, domain, disk),
            User::Saved { domain, disk } => (ImageUserType::SavedState, domain, disk),
            User::Defined { domain, disk } => (ImageUserType::Domain, domain, disk),
            User::Snapshot { domain, snapshot, disk } => {
                user.snapshot = Some(snapshot);
                (ImageUserType::Snapshot, domain, disk)
            }
            User::Volume { pool, volume } => {
                (user.pool, user.volume) = (Some(pool), Some(volume));
                user.kind = ImageUserType::Volume;
                return user;
            }
        };
        (user.kind, user.domain, user.disk) = (kind, Some(domain), Some(disk));
        user
    }
}
