//! Operations on domains.

mod console;
mod define;
mod lifecycle;
mod query;
mod stats;

pub use console::*;
pub use define::*;
pub use lifecycle::*;
pub use query::*;
pub use stats::*;
