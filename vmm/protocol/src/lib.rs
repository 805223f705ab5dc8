//! All that management knows of the VMM: the configuration it is started with, and the messages
//! on its control socket.
//!
//! A VMM is started as `manor run-domain`, with open files from descriptor 3 upward and, as the
//! first of them, its [`config::MachineConfig`] as JSON. It opens no path itself. Afterwards it is
//! spoken to over its control socket ([`control`], framed by [`wire`]), by whichever daemon runs.
//! What it writes of a guest that is saved is described in [`saved`].

pub mod backup;
pub mod block_job;
pub mod config;
pub mod control;
pub mod exit;
pub mod peek;
#[cfg(test)]
mod recorded;
pub mod saved;
pub mod torture;
pub mod wire;

/// Version of the control protocol and of [`config::MachineConfig`]: `major.minor`.
///
/// A change that an older peer cannot ignore raises `major`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
}

impl Version {
    pub const CURRENT: Self = Self { major: 1, minor: 0 };

    /// Whether this build can speak with a peer of `other`.
    #[must_use]
    pub fn understands(self, other: Self) -> bool {
        self.major == other.major
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
