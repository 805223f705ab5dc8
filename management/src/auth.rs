//! Who calls, and what they may do.

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

/// Who makes a call: made by a front end from what the connection proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// For the log: `uid 1000 (pid 4711)`, `203.0.113.5`, `manor run` …
    pub name: String,
    pub access: Access,
}

impl Caller {
    pub fn new(name: impl Into<String>, access: Access) -> Self {
        Self { name: name.into(), access }
    }

    /// The daemon acting by itself (autostart, clean-up).
    #[must_use]
    pub fn daemon() -> Self {
        Self::new("daemon", Access::Admin)
    }
}
