//! What went wrong, in libvirt's numbers.

use management::{Access, Caller, Code, Error};

use super::protocol::object;
use super::protocol::xdr::{Encode, XdrError};

/// libvirt's error codes, as far as Manor gives them.
mod code {
    pub(super) const INTERNAL: i32 = 1;
    pub(super) const NO_SUPPORT: i32 = 3;
    pub(super) const NO_CONNECT: i32 = 5;
    pub(super) const INVALID_ARGUMENT: i32 = 8;
    pub(super) const OPERATION_FAILED: i32 = 9;
    pub(super) const XML: i32 = 27;
    pub(super) const OPERATION_DENIED: i32 = 29;
    pub(super) const SYSTEM: i32 = 38;
    pub(super) const RPC: i32 = 39;
    pub(super) const NO_DOMAIN: i32 = 42;
    pub(super) const NO_NETWORK: i32 = 43;
    pub(super) const AUTH_FAILED: i32 = 45;
    pub(super) const NO_POOL: i32 = 49;
    pub(super) const NO_VOLUME: i32 = 50;
    pub(super) const NO_NODE_DEVICE: i32 = 53;
    pub(super) const OPERATION_INVALID: i32 = 55;
    pub(super) const NO_INTERFACE: i32 = 57;
    pub(super) const NO_FILTER: i32 = 62;
    pub(super) const NO_SECRET: i32 = 66;
    pub(super) const CONFIG_UNSUPPORTED: i32 = 67;
    pub(super) const TIMEOUT: i32 = 68;
    pub(super) const RESOURCE_BUSY: i32 = 71;
    pub(super) const NO_SNAPSHOT: i32 = 72;
    pub(super) const ARGUMENT_UNSUPPORTED: i32 = 74;
    pub(super) const REVERT_RISKY: i32 = 77;
    pub(super) const NO_METADATA: i32 = 80;
    pub(super) const OPERATION_UNSUPPORTED: i32 = 84;
    pub(super) const ACCESS_DENIED: i32 = 88;
    pub(super) const VOLUME_EXISTS: i32 = 90;
    pub(super) const CPU_INCOMPATIBLE: i32 = 91;
    pub(super) const DEVICE_MISSING: i32 = 99;
    pub(super) const NO_FILTER_BINDING: i32 = 101;
    pub(super) const NO_CHECKPOINT: i32 = 103;
}

/// Whose error it is, which decides its number where several have the same cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Area {
    Node,
    Domain,
    /// Of a domain, where devices come and go.
    Device,
    Checkpoint,
    Network,
    Pool,
    Volume,
    /// Of a domain.
    Snapshot,
    NodeDevice,
    Interface,
    Filter,
    FilterBinding,
    Secret,
}

impl Area {
    /// libvirt's "error domain".
    fn number(self) -> i32 {
        match self {
            Self::Node | Self::Domain | Self::Device | Self::Checkpoint | Self::Snapshot => 10,
            Self::Network => 19,
            Self::Pool | Self::Volume => 18,
            Self::NodeDevice => 22,
            Self::Interface => 26,
            Self::Secret => 30,
            Self::Filter | Self::FilterBinding => 33,
        }
    }

    fn not_found(self) -> (i32, &'static str) {
        match self {
            Self::Node => (code::OPERATION_FAILED, "operation failed: "),
            Self::Domain | Self::Device => (code::NO_DOMAIN, "Domain not found: "),
            Self::Checkpoint => (code::NO_CHECKPOINT, "Domain checkpoint not found: "),
            Self::Network => (code::NO_NETWORK, "Network not found: "),
            Self::Pool => (code::NO_POOL, "Storage pool not found: "),
            Self::Volume => (code::NO_VOLUME, "Storage volume not found: "),
            Self::Snapshot => (code::NO_SNAPSHOT, "Domain snapshot not found: "),
            Self::NodeDevice => (code::NO_NODE_DEVICE, "Node device not found: "),
            Self::Interface => (code::NO_INTERFACE, "Interface not found: "),
            Self::Filter => (code::NO_FILTER, "Network filter not found: "),
            Self::FilterBinding => (code::NO_FILTER_BINDING, "Network filter binding not found: "),
            Self::Secret => (code::NO_SECRET, "Secret not found: "),
        }
    }

    /// To most calls a device is one of their arguments.
    fn device_not_found(self) -> (i32, &'static str) {
        match self {
            Self::Device => (code::DEVICE_MISSING, "device not found: "),
            _ => (code::INVALID_ARGUMENT, "invalid argument: "),
        }
    }

    fn exists(self) -> (i32, &'static str) {
        match self {
            Self::Volume => (code::VOLUME_EXISTS, "storage volume exists already: "),
            _ => (code::OPERATION_FAILED, "operation failed: "),
        }
    }
}

/// An error as it goes over the wire. Clients print the message as it is, and branch on the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    code: i32,
    /// libvirt's name for the part of it that the error comes from.
    domain: i32,
    message: String,
}

const RPC: i32 = 7;
/// "Remote": its own errors, about a connection.
const REMOTE: i32 = 13;
const ERROR: i32 = 2;

impl Failure {
    pub(crate) fn new(area: Area, caller: &Caller, error: &Error) -> Self {
        let (code, prefix) = match error.code {
            Code::NotFound => area.not_found(),
            Code::DeviceNotFound => area.device_not_found(),
            Code::Exists => area.exists(),
            Code::InvalidState | Code::Changed => {
                (code::OPERATION_INVALID, "Requested operation is not valid: ")
            }
            // virsh asks again with force, if it was told to.
            Code::Risky => (code::REVERT_RISKY, "revert requires force: "),
            Code::Busy | Code::Locked => (code::RESOURCE_BUSY, "resource busy: "),
            Code::InvalidXml => (code::XML, "XML error: "),
            Code::InvalidArgument => (code::INVALID_ARGUMENT, "invalid argument: "),
            Code::Unsupported => (code::CONFIG_UNSUPPORTED, "unsupported configuration: "),
            // Clients know a read-only connection by this.
            Code::Denied if caller.access == Access::Read => {
                (code::OPERATION_DENIED, "operation forbidden: ")
            }
            Code::Denied => (code::ACCESS_DENIED, "access denied: "),
            Code::ResourceMissing | Code::ResourceExhausted => {
                (code::OPERATION_FAILED, "operation failed: ")
            }
            Code::NoSpace | Code::HostFailure => (code::SYSTEM, ""),
            Code::Timeout | Code::VmmUnreachable => (code::TIMEOUT, "Timed out during operation: "),
            Code::VmmFailed | Code::Internal => (code::INTERNAL, "internal error: "),
        };
        let mistakes = error.problems.iter().filter(|problem| !problem.warning);
        let mistakes: Vec<_> = mistakes.map(ToString::to_string).collect();
        // The message itself tells of one.
        let text = if mistakes.len() > 1 { mistakes.join("\n") } else { error.chain() };
        let message = format!("{prefix}{text}");
        Self { code, domain: area.number(), message }
    }

    /// Of a procedure that Manor does not have: clients call it "not supported" and do without.
    pub(crate) fn unknown_procedure(number: i32, name: Option<&str>) -> Self {
        // Its first words are what clients look for.
        let mut message = format!("unknown procedure: {number}");
        if let Some(name) = name {
            message.push_str(&format!(" ({name}), which Manor does not have"));
        }
        Self { code: code::RPC, domain: REMOTE, message }
    }

    /// Of a program or version that Manor does not speak.
    pub(crate) fn unknown_program(program: u32, version: u32) -> Self {
        let message = format!("Cannot find program {program:#x} version {version}");
        Self { code: code::RPC, domain: RPC, message }
    }

    pub(crate) fn malformed(error: XdrError) -> Self {
        let message = format!("Unable to decode message payload: {error}");
        Self { code: code::RPC, domain: RPC, message }
    }

    pub(crate) fn not_open() -> Self {
        let message = "invalid connection pointer: the connection is not open".to_owned();
        Self { code: code::INTERNAL, domain: RPC, message }
    }

    /// Before a client has said who it is, and when it did not.
    pub(crate) fn authentication(message: &str) -> Self {
        let message = format!("authentication failed: {message}");
        Self { code: code::AUTH_FAILED, domain: RPC, message }
    }

    pub(crate) fn no_connect(message: impl Into<String>) -> Self {
        let message = format!("no connection driver available: {}", message.into());
        Self { code: code::NO_CONNECT, domain: RPC, message }
    }

    /// Something of a list that it is not in.
    pub(crate) fn not_found(area: Area, message: &str) -> Self {
        let (code, prefix) = area.not_found();
        Self { code, domain: area.number(), message: format!("{prefix}{message}") }
    }

    pub(crate) fn invalid_argument(area: Area, message: &str) -> Self {
        let message = format!("invalid argument: {message}");
        Self { code: code::INVALID_ARGUMENT, domain: area.number(), message }
    }

    pub(crate) fn invalid_state(area: Area, message: &str) -> Self {
        let message = format!("Requested operation is not valid: {message}");
        Self { code: code::OPERATION_INVALID, domain: area.number(), message }
    }

    pub(crate) fn unsupported(area: Area, message: &str) -> Self {
        let message = format!("unsupported configuration: {message}");
        Self { code: code::CONFIG_UNSUPPORTED, domain: area.number(), message }
    }

    pub(crate) fn operation_failed(area: Area, message: &str) -> Self {
        let message = format!("operation failed: {message}");
        Self { code: code::OPERATION_FAILED, domain: area.number(), message }
    }

    /// What a domain, or this host, cannot do.
    pub(crate) fn operation_unsupported(message: &str) -> Self {
        let message = format!("Operation not supported: {message}");
        Self { code: code::OPERATION_UNSUPPORTED, domain: Area::Domain.number(), message }
    }

    pub(crate) fn argument_unsupported(message: &str) -> Self {
        let message = format!("argument unsupported: {message}");
        Self { code: code::ARGUMENT_UNSUPPORTED, domain: Area::Domain.number(), message }
    }

    /// This way of calling a procedure that Manor has.
    pub(crate) fn no_support(message: &str) -> Self {
        let message = format!("this function is not supported by the connection driver: {message}");
        Self { code: code::NO_SUPPORT, domain: Area::Node.number(), message }
    }

    /// What the host lacks of a processor.
    pub(crate) fn incompatible_cpu(lacking: &str) -> Self {
        let message = format!("the CPU is incompatible with host CPU: the host lacks {lacking}");
        Self { code: code::CPU_INCOMPATIBLE, domain: Area::Node.number(), message }
    }

    pub(crate) fn no_snapshot(message: &str) -> Self {
        let message = format!("Domain snapshot not found: {message}");
        Self { code: code::NO_SNAPSHOT, domain: Area::Snapshot.number(), message }
    }

    pub(crate) fn no_metadata(message: &str) -> Self {
        let message = format!("metadata not found: {message}");
        Self { code: code::NO_METADATA, domain: Area::Domain.number(), message }
    }

    pub(crate) fn broken_stream(message: &str) -> Self {
        Self { code: code::RPC, domain: RPC, message: message.to_owned() }
    }
}

/// Flags that a procedure does not know change its meaning in a way that nobody would notice.
pub(crate) fn known_flags(flags: u32, known: u32, procedure: &str) -> Result<(), Failure> {
    match flags & !known {
        0 => Ok(()),
        unknown => {
            let text = format!("unsupported flags ({unknown:#x}) in function {procedure}");
            Err(Failure::invalid_argument(Area::Domain, &text))
        }
    }
}

impl Encode for Failure {
    fn encode(&self, to: &mut Vec<u8>) {
        let nothing: Option<String> = None;
        let format = Some("%s");
        (self.code, self.domain, Some(self.message.as_str()), ERROR).encode(to);
        // The object it is about has not been looked at by any client for long.
        None::<object::Domain>.encode(to);
        (format, Some(self.message.as_str()), nothing, 0, 0).encode(to);
        None::<object::Network>.encode(to);
    }
}
