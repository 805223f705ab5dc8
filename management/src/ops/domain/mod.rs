//! Operations on domains.

mod addresses;
mod console;
mod define;
mod device;
mod display;
mod lifecycle;
mod link;
mod media;
mod memory;
mod query;
mod redefine;
mod stats;

pub use addresses::*;
pub(crate) use console::consoles;
pub use console::*;
pub use define::*;
pub use device::*;
pub use display::*;
pub use lifecycle::*;
pub use link::*;
pub use media::*;
pub use memory::*;
pub use query::*;
pub use redefine::*;
pub use stats::*;
