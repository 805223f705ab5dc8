//! What the testbed's two sides must agree on: the wire format and the names on the emulated
//! host's kernel command line. The agent itself is this package's binary.

pub mod wire;

/// Where the agent listens inside the emulated host.
pub const AGENT_PORT: u16 = 7001;

/// Where Manor's HTTP API is expected inside the emulated host.
pub const HTTP_PORT: u16 = 7000;

/// Kernel command line: the secret a client must show. Ports are reused between testbeds, and a
/// command must never end up in a neighbour's.
pub const TOKEN_OPTION: &str = "manor.token";

/// Kernel command line: power off after this many seconds without a connection (0: never).
pub const IDLE_OPTION: &str = "manor.idle";

/// Serial number of the disk that is the root file system. Where there is one, its own init
/// becomes PID 1 and the agent a service of it.
pub const ROOT_DISK: &str = "root";
/// A disk whose serial number begins so is not mounted: it is what a guest shall boot from.
pub const BARE_DISK: &str = "bare:";

/// Modules loaded at boot, in order, one path per line.
pub const MODULE_LIST: &str = "/etc/modules.boot";
