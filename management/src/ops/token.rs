//! Tokens: secrets by which one comes in over TLS.

use std::time::Duration;

use crate::auth::tokens::Wanted;
use crate::auth::{Access, NewToken, Role, Subject, TokenView};
use crate::domain::actor::blocking;
use crate::error::Error;
use crate::manager::{Context, Operation};

/// Make a token. Its secret is in the answer and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateToken {
    pub name: String,
    pub role: Role,
    /// Names or UUIDs of the domains that it is confined to; none: it is not.
    pub domains: Option<Vec<String>>,
    /// Until it expires; none: it does not.
    pub lifetime: Option<Duration>,
}

impl Operation for CreateToken {
    type Output = NewToken;
    const NAME: &'static str = "token.create";
    const ACCESS: Access = Access::Admin;

    fn subject(&self) -> Subject<'_> {
        about(&self.name)
    }

    fn detail(&self) -> &'static str {
        self.role.name()
    }

    async fn run(self, cx: &Context) -> Result<NewToken, Error> {
        let Self { name, role, domains, lifetime } = self;
        let wanted = Wanted { name, role, domains, lifetime };
        let tokens = cx.tokens.clone();
        blocking(move || tokens.create(wanted, jiff::Timestamp::now())).await
    }
}

/// All tokens by name, without their secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListTokens;

impl Operation for ListTokens {
    type Output = Vec<TokenView>;
    const NAME: &'static str = "token.list";
    const ACCESS: Access = Access::Admin;

    async fn run(self, cx: &Context) -> Result<Vec<TokenView>, Error> {
        Ok(cx.tokens.views())
    }
}

/// Let nobody in by this token any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeToken {
    /// Name, else id.
    pub token: String,
}

impl Operation for RevokeToken {
    type Output = ();
    const NAME: &'static str = "token.revoke";
    const ACCESS: Access = Access::Admin;

    fn subject(&self) -> Subject<'_> {
        about(&self.token)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let tokens = cx.tokens.clone();
        blocking(move || tokens.revoke(&self.token)).await
    }
}

fn about(token: &str) -> Subject<'_> {
    Subject::Other("token", token.into())
}
