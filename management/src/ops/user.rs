//! Users: who comes in by a password, in libvirt's protocol.

use crate::auth::users::Wanted;
use crate::auth::{Access, Role, Subject, UserView};
use crate::domain::actor::blocking;
use crate::error::Error;
use crate::manager::{Context, Operation};

/// Make a user, or change its role and password.
#[derive(Clone, PartialEq, Eq)]
pub struct SetUser {
    pub name: String,
    pub role: Role,
    /// Names or UUIDs of the domains that it is confined to; none: it is not.
    pub domains: Option<Vec<String>>,
    pub password: String,
}

impl Operation for SetUser {
    type Output = ();
    const NAME: &'static str = "user.set";
    const ACCESS: Access = Access::Admin;

    fn subject(&self) -> Subject<'_> {
        about(&self.name)
    }

    fn detail(&self) -> &'static str {
        self.role.name()
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let Self { name, role, domains, password } = self;
        let wanted = Wanted { name, role, domains, password };
        let users = cx.users.clone();
        blocking(move || users.set(wanted, jiff::Timestamp::now())).await
    }
}

/// All users by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListUsers;

impl Operation for ListUsers {
    type Output = Vec<UserView>;
    const NAME: &'static str = "user.list";
    const ACCESS: Access = Access::Admin;

    async fn run(self, cx: &Context) -> Result<Vec<UserView>, Error> {
        Ok(cx.users.views())
    }
}

/// Let this user in no more; what it has open ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveUser {
    pub name: String,
}

impl Operation for RemoveUser {
    type Output = ();
    const NAME: &'static str = "user.remove";
    const ACCESS: Access = Access::Admin;

    fn subject(&self) -> Subject<'_> {
        about(&self.name)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let users = cx.users.clone();
        blocking(move || users.remove(&self.name)).await
    }
}

fn about(user: &str) -> Subject<'_> {
    Subject::Other("user", user.into())
}
