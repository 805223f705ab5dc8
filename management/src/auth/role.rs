//! [`Role`]: what a token or a certificate is good for, in one word.

use serde::{Deserialize, Serialize};

use super::Access;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks.
    Reader,
    /// Starts and stops domains, sits at their consoles.
    Operator,
    /// Does everything.
    Admin,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Reader, Self::Operator, Self::Admin];

    /// The one table of roles. No role ends at [`Access::Write`]: a definition names files of the
    /// host, so who writes definitions reaches as far as the daemon does.
    #[must_use]
    pub fn access(self) -> Access {
        match self {
            Self::Reader => Access::Read,
            Self::Operator => Access::Control,
            Self::Admin => Access::Admin,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
