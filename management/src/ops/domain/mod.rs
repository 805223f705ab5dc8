//! Operations on domains.

mod addresses;
mod asking;
mod console;
mod define;
mod device;
mod display;
mod guest_favours;
mod guest_filesystems;
mod guest_info;
mod lifecycle;
mod link;
mod media;
mod memory;
mod query;
mod redefine;
mod stats;
mod tuning;

pub use addresses::*;
pub use asking::AskMode;
pub(crate) use console::consoles;
pub use console::*;
pub use define::*;
pub use device::*;
pub use display::*;
pub use guest_favours::*;
pub use guest_filesystems::*;
pub use guest_info::*;
pub use lifecycle::*;
pub use link::*;
pub use media::*;
pub use memory::*;
pub(crate) use query::disk_source;
pub use query::*;
pub use redefine::*;
pub use stats::*;
pub use tuning::*;
