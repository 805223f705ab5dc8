//! The one error every front end sees: a stable code, a text a person can act on, and its causes.

use broker::BrokerError;
use std::fmt;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong. HTTP maps `code` to a status, libvirt's protocol to its numbers, the command
/// line to an exit status; each does so at its own edge.
#[derive(Debug)]
pub struct Error {
    pub code: Code,
    /// Names the thing, the cause, and what to do, in lower case and without a final period.
    pub message: String,
    /// Every mistake found in a document, for [`Code::InvalidXml`] and [`Code::Unsupported`].
    pub problems: Vec<Problem>,
    source: Option<Source>,
}

/// Kinds of failure. The names are a promise to clients: add, never rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// No such domain, network, job …
    NotFound,
    /// The domain is there, and has no such disk, interface, console …
    DeviceNotFound,
    /// The name or UUID is taken.
    Exists,
    /// Not in this state of the domain (already running, not running …).
    InvalidState,
    /// Something may be lost that the caller did not speak of: it is done when it is forced.
    Risky,
    /// Not what the caller last saw of it any more.
    Changed,
    /// Another operation or client has it now; trying again later may help.
    Busy,
    /// An image is in use by another domain or program.
    Locked,
    InvalidXml,
    InvalidArgument,
    /// libvirt has it and Manor does not provide it.
    Unsupported,
    /// The caller may not do this.
    Denied,
    /// A file, bridge, tap or device node that the domain needs is absent or unusable.
    ResourceMissing,
    /// The host has too little memory, too few CPUs …
    ResourceExhausted,
    /// A file system of the host is full.
    NoSpace,
    /// The host failed us: an I/O error, a read-only file system, no `/dev/kvm`.
    HostFailure,
    /// The VMM could not build or run the machine.
    VmmFailed,
    /// No answer in time; the domain runs on.
    Timeout,
    /// The VMM process lives and does not answer.
    VmmUnreachable,
    /// A defect of Manor's own.
    Internal,
}

impl Code {
    pub const ALL: &'static [Self] = &[
        Self::NotFound,
        Self::DeviceNotFound,
        Self::Exists,
        Self::InvalidState,
        Self::Risky,
        Self::Changed,
        Self::Busy,
        Self::Locked,
        Self::InvalidXml,
        Self::InvalidArgument,
        Self::Unsupported,
        Self::Denied,
        Self::ResourceMissing,
        Self::ResourceExhausted,
        Self::NoSpace,
        Self::HostFailure,
        Self::VmmFailed,
        Self::Timeout,
        Self::VmmUnreachable,
        Self::Internal,
    ];

    /// The stable name, as it stands in `type` of a problem+json.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::DeviceNotFound => "device-not-found",
            Self::Exists => "exists",
            Self::InvalidState => "invalid-state",
            Self::Risky => "risky",
            Self::Changed => "changed",
            Self::Busy => "busy",
            Self::Locked => "locked",
            Self::InvalidXml => "invalid-xml",
            Self::InvalidArgument => "invalid-argument",
            Self::Unsupported => "unsupported",
            Self::Denied => "denied",
            Self::ResourceMissing => "resource-missing",
            Self::ResourceExhausted => "resource-exhausted",
            Self::NoSpace => "no-space",
            Self::HostFailure => "host-failure",
            Self::VmmFailed => "vmm-failed",
            Self::Timeout => "timeout",
            Self::VmmUnreachable => "vmm-unreachable",
            Self::Internal => "internal",
        }
    }

    /// A short title for people; the same for every error of this code.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::DeviceNotFound => "The domain has no such device",
            Self::Exists => "Already exists",
            Self::InvalidState => "Not possible in this state",
            Self::Risky => "Only when it is forced",
            Self::Changed => "Changed meanwhile",
            Self::Busy => "Busy",
            Self::Locked => "Locked by another",
            Self::InvalidXml => "Invalid XML",
            Self::InvalidArgument => "Invalid argument",
            Self::Unsupported => "Not supported",
            Self::Denied => "Access denied",
            Self::ResourceMissing => "A resource is missing",
            Self::ResourceExhausted => "The host has too little",
            Self::NoSpace => "No space left",
            Self::HostFailure => "The host failed",
            Self::VmmFailed => "The virtual machine failed",
            Self::Timeout => "No answer in time",
            Self::VmmUnreachable => "The virtual machine monitor does not answer",
            Self::Internal => "Internal error",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One mistake in a document, or one thing in it that is accepted and left out (a warning).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub warning: bool,
    /// `malformed`, `unknown`, `unsupported`, `invalid`, `missing` or `limit`.
    pub kind: &'static str,
    /// Counted from 1; 0 where the document has no such place.
    pub line: u32,
    pub column: u32,
    /// For example `/domain/devices/disk[2]/target/@bus`.
    pub path: String,
    pub message: String,
    pub expected: Option<String>,
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        if self.warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match (&self.expected, &self.suggestion) {
            (None, None) => Ok(()),
            (Some(expected), None) => write!(f, " (expected {expected})"),
            (None, Some(meant)) => write!(f, " (did you mean {meant}?)"),
            (Some(expected), Some(meant)) => {
                write!(f, " (expected {expected}; did you mean {meant}?)")
            }
        }
    }
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), problems: Vec::new(), source: None }
    }

    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    #[must_use]
    pub fn with_problems(mut self, problems: Vec<Problem>) -> Self {
        self.problems = problems;
        self
    }

    /// Said after what it happened to: `place: message`.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The message with every cause behind it, for the one place that prints it.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<BrokerError> for Error {
    fn from(error: BrokerError) -> Self {
        let code = match &error {
            BrokerError::Missing { .. }
            | BrokerError::Connect { .. }
            | BrokerError::UnknownHost { .. }
            | BrokerError::NoTemplate { .. }
            | BrokerError::WrongKind { .. }
            | BrokerError::NoProgram { .. }
            | BrokerError::NoNetworkUser
            | BrokerError::Passt { .. }
            | BrokerError::NoBridge { .. }
            | BrokerError::NoVlanFiltering { .. }
            | BrokerError::NoInterface { .. }
            | BrokerError::NoSource { .. }
            | BrokerError::NotTap { .. }
            | BrokerError::NoController { .. }
            | BrokerError::FilterPart { .. }
            | BrokerError::TapMode { .. } => Code::ResourceMissing,
            BrokerError::Exists { .. }
            | BrokerError::BridgeTaken { .. }
            | BrokerError::InterfaceTaken { .. }
            | BrokerError::SubnetTaken { .. } => Code::Exists,
            BrokerError::NotEmpty { .. } => Code::InvalidState,
            BrokerError::Locked { .. } => Code::Locked,
            BrokerError::InterfaceBusy { .. }
            | BrokerError::PortBusy { .. }
            | BrokerError::ServiceBusy { .. }
            | BrokerError::MountTaken { .. }
            | BrokerError::AnotherBroker { .. }
            | BrokerError::MountBusy { .. } => Code::Busy,
            BrokerError::RunDirLocked { .. } => Code::InvalidState,
            BrokerError::NoSpace { .. } => Code::NoSpace,
            BrokerError::Denied { .. }
            | BrokerError::Refused { .. }
            | BrokerError::Stranger { .. }
            | BrokerError::LowPort { .. }
            | BrokerError::KvmDenied { .. }
            | BrokerError::NoKvm { .. }
            | BrokerError::NoCgroup { .. }
            | BrokerError::Limit { .. }
            | BrokerError::Traffic { .. }
            | BrokerError::SocketPath { .. }
            | BrokerError::Rules { .. }
            | BrokerError::Direct { .. }
            | BrokerError::Broker { .. }
            | BrokerError::Host { .. } => Code::HostFailure,
            BrokerError::Filter { .. }
            | BrokerError::OtherProcess { .. }
            | BrokerError::Unexpected { .. } => Code::Internal,
        };
        let message = error.to_string();
        match std::error::Error::source(&error).map(ToString::to_string) {
            Some(cause) => Self::new(code, message).with_source(cause),
            None => Self::new(code, message),
        }
    }
}
