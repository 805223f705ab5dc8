//! [`Admission`]: what is known of a client when it connects, and what it has to prove yet.
//!
//! ```text
//! known ─────────────────────────────────────────▶ caller
//! password: init ─▶ first message ─▶ asked ─▶ last ─▶ caller (no more than its socket grants)
//!                                         └▶ failed: nothing more on this connection
//! ```

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use management::auth::{Login, User};
use management::{Caller, Manager, Via};
use uuid::Uuid;

use super::failure::Failure;
use crate::peers::Peers;

/// How clients of a socket prove who they are, beside what connecting proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    None,
    /// By a password (SASL, SCRAM-SHA-256).
    Sasl,
}

pub(super) struct Admission {
    /// What connecting proves; with a password to come, the most that it can grant.
    pub(super) caller: Caller,
    pub(super) auth: Auth,
    /// Counts what went wrong, of those who come from elsewhere.
    pub(super) remote: Option<(Arc<Peers>, IpAddr)>,
}

impl Admission {
    pub(super) fn known(caller: Caller) -> Self {
        Self { caller, auth: Auth::None, remote: None }
    }

    /// Write down that somebody did not know a password.
    pub(super) async fn failed(&self, manager: &Manager) {
        let counted = |(peers, ip): &(Arc<Peers>, IpAddr)| peers.failed(*ip, Instant::now());
        // Those beyond some are not worth a line each.
        if self.remote.as_ref().is_none_or(counted) {
            manager.turned_away(&self.caller.name).await;
        }
    }

    /// Who it is now: at most what its socket grants, whatever the user's role.
    pub(super) fn admitted(&self, user: User) -> Caller {
        let name = format!("{}, {}", user.name, self.caller.name);
        let access = self.caller.access.min(user.role.access());
        Caller::new(name, access).via(Via::Password).scoped(user.scope)
    }
}

/// How far a client is.
pub(super) enum Progress {
    Admitted {
        /// By this login, which may end.
        login: Option<(Uuid, u64)>,
    },
    Unknown,
    Begun,
    Asked(Box<Login>),
    Failed,
}

impl Progress {
    pub(super) fn of(auth: Auth) -> Self {
        match auth {
            Auth::None => Self::Admitted { login: None },
            Auth::Sasl => Self::Unknown,
        }
    }

    /// Leave this state for one where only failing is possible, until a message was right.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Failed)
    }
}

pub(super) fn out_of_turn() -> Failure {
    Failure::authentication("this is not the time for it")
}
