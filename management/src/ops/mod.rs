//! Everything a caller can ask for. Each operation is a plain struct that declares its name and
//! access class; [`OPERATIONS`] is the whole of it.

mod audit;
mod domain;
mod events;
mod filter;
mod filter_bindings;
mod host_devices;
mod host_memory;
mod image;
mod import;
mod job;
mod network;
mod network_ports;
mod node;
mod pool;
mod processors;
mod secret;
mod table;
mod token;
mod user;
mod volume;

pub use audit::*;
pub use domain::*;
pub(crate) use domain::{claim_and_act, consoles, disk_source};
pub use events::*;
pub use filter::*;
pub use filter_bindings::*;
pub use host_devices::*;
pub use host_memory::*;
pub use image::*;
pub use import::*;
pub use job::*;
pub use network::*;
pub use network_ports::*;
pub use node::*;
pub use pool::*;
pub use processors::*;
pub use secret::*;
pub use table::{OPERATIONS, Reach, Row};
pub use token::*;
pub use user::*;
pub use volume::*;
