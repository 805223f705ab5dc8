//! Everything a caller can ask for. Each operation is a plain struct that declares its name and
//! access class; [`OPERATIONS`] is the whole of it.

mod audit;
mod domain;
mod events;
mod host_devices;
mod image;
mod import;
mod job;
mod network;
mod network_ports;
mod node;
mod pool;
mod secret;
mod table;
mod token;
mod user;
mod volume;

pub use audit::*;
pub use domain::*;
pub(crate) use domain::{claim_and_act, consoles, disk_source};
pub use events::*;
pub use host_devices::*;
pub use image::*;
pub use import::*;
pub use job::*;
pub use network::*;
pub use network_ports::*;
pub use node::*;
pub use pool::*;
pub use secret::*;
pub use table::{OPERATIONS, Reach, Row};
pub use token::*;
pub use user::*;
pub use volume::*;
