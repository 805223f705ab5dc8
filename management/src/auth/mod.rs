//! Who calls, and what they may do.

mod permit;
mod role;
mod scope;
mod scram;
mod subject;
mod token;
pub(crate) mod tokens;
pub(crate) mod users;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use role::Role;
pub use scope::Scope;
pub use scram::ScramError;
pub use subject::{Defines, Subject, Target};
pub use tokens::{Bearer, NewToken, TokenView};
pub use users::{Login, User, UserView};

/// What an operation does to the world; each operation declares one. A caller holds the highest
/// class granted, and every class includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Look; change nothing. No secrets.
    Read,
    /// Change what a domain does now: start, stop, type at its console.
    Control,
    /// Change definitions.
    Write,
    /// Change the node or the daemon itself.
    Admin,
}

impl Access {
    pub const ALL: [Self; 4] = [Self::Read, Self::Control, Self::Write, Self::Admin];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Control => "control",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// How a caller was told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// It is this process.
    Daemon,
    /// By the kernel, at a unix socket.
    Unix,
    /// Not at all: plain TCP on a loopback address.
    Loopback,
    /// By a bearer token, over TLS.
    Token,
    /// By a client certificate, over TLS.
    Certificate,
    /// By a password, in libvirt's protocol.
    Password,
    /// It could not prove who it is.
    Unknown,
}

impl Via {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Unix => "unix",
            Self::Loopback => "loopback",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Password => "password",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who makes a call: made by a front end from what the connection proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// For the log: `uid 1000 (pid 4711)`, `203.0.113.5`, `manor run` …
    pub name: String,
    pub access: Access,
    pub via: Via,
    /// The domains it is confined to; none: it is not.
    pub scope: Option<Scope>,
}

impl Caller {
    pub fn new(name: impl Into<String>, access: Access) -> Self {
        Self { name: name.into(), access, via: Via::Daemon, scope: None }
    }

    #[must_use]
    pub fn via(mut self, via: Via) -> Self {
        self.via = via;
        self
    }

    #[must_use]
    pub fn scoped(mut self, scope: Option<Scope>) -> Self {
        self.scope = scope;
        self
    }

    /// The daemon acting by itself (autostart, clean-up).
    #[must_use]
    pub fn daemon() -> Self {
        Self::new("daemon", Access::Admin)
    }
}
