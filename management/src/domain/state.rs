//! A domain's state and reason in libvirt's words and numbers.

use serde::{Deserialize, Serialize};

/// What a domain does now, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The VMM lives and does not answer: nothing is known, and nothing is done to it.
    Unknown,
    Running(Running),
    Paused(Paused),
    /// The guest was asked to shut down.
    ShuttingDown,
    ShutOff(ShutOff),
    /// The guest crashed and is kept for inspection.
    Crashed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Running {
    Unknown,
    Booted,
    Restored,
    Unpaused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Paused {
    Unknown,
    User,
    Save,
    IoError,
    Watchdog,
    /// The guest powered off and is kept (`preserve`).
    ShuttingDown,
    StartingUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShutOff {
    Unknown,
    Shutdown,
    Destroyed,
    Crashed,
    Saved,
    Failed,
    /// The daemon found it gone and nobody wrote down why.
    Daemon,
}

impl State {
    /// virsh's word in `list` and `domstate`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "no state",
            Self::Running(_) => "running",
            Self::Paused(_) => "paused",
            Self::ShuttingDown => "in shutdown",
            Self::ShutOff(_) => "shut off",
            Self::Crashed => "crashed",
        }
    }

    /// virsh's word in `domstate --reason`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Running(reason) => match reason {
                Running::Unknown => "unknown",
                Running::Booted => "booted",
                Running::Restored => "restored",
                Running::Unpaused => "unpaused",
            },
            Self::Paused(reason) => match reason {
                Paused::Unknown => "unknown",
                Paused::User => "user",
                Paused::Save => "saving",
                Paused::IoError => "I/O error",
                Paused::Watchdog => "watchdog",
                Paused::ShuttingDown => "shutting down",
                Paused::StartingUp => "starting up",
            },
            Self::ShuttingDown => "user",
            Self::ShutOff(reason) => match reason {
                ShutOff::Unknown => "unknown",
                ShutOff::Shutdown => "shutdown",
                ShutOff::Destroyed => "destroyed",
                ShutOff::Crashed => "crashed",
                ShutOff::Saved => "saved",
                ShutOff::Failed => "failed",
                ShutOff::Daemon => "daemon",
            },
            Self::Crashed => "panicked",
        }
    }

    /// `virDomainState` and the reason in its own enumeration.
    #[must_use]
    pub fn codes(self) -> (i32, i32) {
        match self {
            Self::Unknown => (0, 0),
            Self::Running(reason) => {
                let reason = match reason {
                    Running::Unknown => 0,
                    Running::Booted => 1,
                    Running::Restored => 3,
                    Running::Unpaused => 5,
                };
                (1, reason)
            }
            Self::Paused(reason) => {
                let reason = match reason {
                    Paused::Unknown => 0,
                    Paused::User => 1,
                    Paused::Save => 3,
                    Paused::IoError => 5,
                    Paused::Watchdog => 6,
                    Paused::ShuttingDown => 8,
                    Paused::StartingUp => 11,
                };
                (3, reason)
            }
            Self::ShuttingDown => (4, 1),
            Self::ShutOff(reason) => {
                let reason = match reason {
                    ShutOff::Unknown => 0,
                    ShutOff::Shutdown => 1,
                    ShutOff::Destroyed => 2,
                    ShutOff::Crashed => 3,
                    ShutOff::Saved => 5,
                    ShutOff::Failed => 6,
                    ShutOff::Daemon => 8,
                };
                (5, reason)
            }
            Self::Crashed => (6, 1),
        }
    }

    /// A VMM process stands behind it.
    #[must_use]
    pub fn is_active(self) -> bool {
        !matches!(self, Self::ShutOff(_))
    }
}
