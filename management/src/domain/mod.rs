//! Domains as they are managed: names, states, what callers are told of them.

pub(crate) mod actor;
mod definition;
pub(crate) mod exit;
pub(crate) mod handle;
mod images;
pub(crate) mod launch;
pub(crate) mod link;
pub(crate) mod memory;
mod power;
pub(crate) mod record;
mod reference;
mod start;
mod state;
mod stop;
mod sys;
mod view;

pub use handle::Variables;
pub use link::Affects;
pub use reference::DomainRef;
pub use state::{Paused, Running, ShutOff, State};
pub use view::{
    BalloonStats, BlockStats, DiskRow, DomainDetails, DomainId, DomainStats, DomainSummary,
    InterfaceRow, InterfaceStats, VcpuStats,
};

/// Text of a VMM, which may be a guest's, on its way to people: one line, not long, nothing that a
/// terminal would obey.
pub(crate) fn clean(text: &str) -> String {
    const LONGEST: usize = 500;
    let show = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(LONGEST).map(show).collect()
}
