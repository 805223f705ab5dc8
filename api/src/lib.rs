//! The HTTP/JSON API of the management plane, libvirt's wire protocol, and the typed client that speaks it.
//!
//! - [`types`]: the JSON itself.
//! - [`http`]: the server. Handlers decode a request, pass an operation to `Manager::call`, and
//!   encode what it returns.
//! - [`rpc`]: the same operations by libvirt's wire protocol.
//! - [`client`]: what the command line uses, over a unix socket or TCP.

pub mod client;
pub mod http;
mod peers;
mod places;
mod room;
pub mod rpc;
mod tls;
#[doc(hidden)]
pub mod torture;
pub mod types;
