//! How a VMM process ends, for whoever was not there to see it.

use serde::{Deserialize, Serialize};

/// Why a domain is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitReason {
    /// The guest powered itself off.
    Shutdown,
    /// It was destroyed from outside.
    Destroyed,
    /// The guest crashed: triple fault, a KVM internal error, or its own word (pvpanic).
    Crashed(CrashReport),
    /// The state was saved and the guest is not to go on here.
    Saved,
    /// The VMM could not build or run the machine.
    Failed { message: String },
}

/// The last thing a VMM writes: one JSON object in its exit-record file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    pub reason: ExitReason,
    /// Seconds since the Unix epoch.
    pub time: u64,
    /// Sequence number of the last event.
    pub last_event: u64,
}

/// What is known of a crashed guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashReport {
    /// `triple fault`, `KVM internal error 1 (emulation failure)`, `guest panicked` …
    pub cause: String,
    pub vcpu: Option<u16>,
    /// Registers in text, as one would print them.
    pub registers: Option<String>,
}

/// Exit status of the process, so that a bare `waitpid` says the main thing.
#[must_use]
pub fn status(reason: &ExitReason) -> u8 {
    match reason {
        ExitReason::Shutdown | ExitReason::Destroyed | ExitReason::Saved => 0,
        ExitReason::Failed { .. } => 1,
        ExitReason::Crashed(_) => 3,
    }
}
