//! Operations on domains.

mod addresses;
mod console;
mod define;
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
pub(crate) use define::NewIds;
pub use define::*;
pub use display::*;
pub use lifecycle::*;
pub use link::*;
pub use media::*;
pub use memory::*;
pub use query::*;
pub use redefine::*;
pub use stats::*;
